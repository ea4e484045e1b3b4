// Max pooling along contiguous rows (NCHW): a vector is that many outputs of
// one row, whose windows are one or two elements apart.
#include "cpu/pool_max_vector.h"

#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/parallel.h"

#ifndef TC_ISA
#define TC_SELF "cpu/pool_max_rows.cpp"
#include "cpu/foreach_isa.h"

namespace torchconv {
namespace cpu {

void max_pool_rows(const MaxPool& m, const void* x, void* y, void* codes) {
  switch (m.p.dtype) {
    case DType::f64:
      return TC_DISPATCH(max_pool_rows_kernel<double>)(m, x, y, codes);
    case DType::f16:
      return TC_DISPATCH(max_pool_rows_kernel<half>)(m, x, y, codes);
    case DType::bf16:
      return TC_DISPATCH(max_pool_rows_kernel<bfloat16>)(m, x, y, codes);
    default:
      return TC_DISPATCH(max_pool_rows_kernel<float>)(m, x, y, codes);
  }
}

} // namespace cpu
} // namespace torchconv

#else // one instruction set

#include "cpu/pool_simd.h"

#include "cpu/pool_max_driver.h"

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// What the two kernels share: planes with rows of stride 1, and a sliding
// window along them.
template <typename S>
class Rows {
 public:
  Rows(const MaxPool& m, const S* x)
      : m_(m),
        in_(m.p.in[2]),
        out_(m.p.out[2]),
        padding_(m.p.padding[2]),
        dilation_(m.p.dilation[2]),
        taps_(m.p.kernel[2]),
        x_(x) {
    const PoolProblem& p = m.p;
    const int64_t step = p.stride[2];
    // What vectors of outputs touch, from the first window's start on.
    const int64_t last = step == 2 && dilation_ == 1 ? (taps_ - 1) / 2 * 2
                                                     : (taps_ - 1) * dilation_;
    span_ = step * std::max<int64_t>(out_ - L, 0) + last + L * step;
    inside_ =
        padding_ == 0 && (out_ - 1) * step + (taps_ - 1) * dilation_ < in_;
    int64_t extent =
        (p.batch - 1) * p.x_stride_n + (p.channels - 1) * p.x_stride_c + 1;
    for (int i = 0; i < 3; ++i) {
      extent += (p.in[i] - 1) * p.x_stride[i];
    }
    end_ = x + extent;
  }

  int64_t groups() const {
    return m_.p.batch * m_.p.channels;
  }
  int64_t line() const {
    return out_;
  }
  void enter(int64_t group) {
    const int64_t n = group / m_.p.channels, c = group % m_.p.channels;
    plane_ = x_ + n * m_.p.x_stride_n + c * m_.p.x_stride_c;
    y_plane_ = n * m_.p.y_stride_n + c * m_.p.y_stride_c;
  }
  const S* row(int64_t id, int64_t ih) const {
    return plane_ + id * m_.p.x_stride[0] + ih * m_.p.x_stride[1];
  }
  int64_t out(int64_t od, int64_t oh) const {
    return y_plane_ + od * m_.p.y_stride[0] + oh * m_.p.y_stride[1];
  }

  // The last vector of a row of at least one vector ends with the row, and
  // does some outputs a second time.
  template <typename F>
  void each(const F& f) const {
    const std::integral_constant<int, 1> one;
    int64_t o = 0;
    for (; o + L <= out_; o += L) {
      f(one, o, o, L);
    }
    if (o < out_) {
      out_ >= L ? f(one, out_ - L, out_ - L, L)
                : f(one, int64_t{0}, int64_t{0}, static_cast<int>(out_));
    }
  }

 protected:
  static constexpr int L = kLanes<acc_t<S>>;

  // Whether vectors may read the row as it is: what they find beyond its end
  // belongs to no output, and is memory of the tensor.
  bool readable(const S* row) const {
    return inside_ && row + span_ <= end_;
  }

  const MaxPool& m_;
  const int64_t in_, out_, padding_, dilation_, taps_;
  int64_t span_;
  bool inside_; // no window reaches into the padding

 private:
  const S* x_;
  const S* end_;
  const S* plane_ = nullptr;
  int64_t y_plane_ = 0;
};

// Maxima alone: the rows of a window first, at stride 1, into a line with
// padding; then the taps along the line. Where no column serves two windows
// both happen in registers.
template <typename S>
class ValueKernel : public Rows<S> {
 public:
  using Storage = S;
  using Acc = acc_t<S>;
  static constexpr bool kCodes = false;
  static constexpr bool kWholeWindows = true;

  ValueKernel(const MaxPool& m, const S* x, S* y)
      : Rows<S>(m, x),
        finish{y, nullptr, m.codes},
        column_line_(
            this->padding_ + std::max(this->span_, this->in_) + 2 * L,
            -std::numeric_limits<A>::infinity()) {
    const bool next = m.p.stride[2] == 1;
    const int64_t taps = this->taps_;
    reduce_ = next ? &ValueKernel::reduce_rows<1, 0>
                   : &ValueKernel::reduce_rows<2, 0>;
    // Of stride 2, windows of two or three taps are neighbours' (along()).
    if (!next && this->dilation_ != 1) {
      return;
    }
    if (taps == 2) {
      reduce_ = next ? &ValueKernel::reduce_rows<1, 2>
                     : &ValueKernel::reduce_rows<2, 2>;
    } else if (taps == 3) {
      reduce_ = next ? &ValueKernel::reduce_rows<1, 3>
                     : &ValueKernel::reduce_rows<2, 3>;
    }
  }

  void reduce(
      const S* const* rows,
      const Label<Acc>*,
      int n,
      const Sink<Acc>& sink) {
    (this->*reduce_)(rows, n, sink.out);
  }

  Finish<S, false> finish;

 private:
  using A = Acc;
  static constexpr int L = kLanes<A>;

  static void larger(Vec<A>& best, const Vec<A>& v) {
    Vec<Label<A>> none{};
    take<false, A>(best, none, v, none);
  }

  template <int Step, int Taps>
  void reduce_rows(const S* const* rows, int n, int64_t out) {
    const int64_t taps = Taps > 0 ? Taps : this->taps_;
    if (taps <= Step && this->readable(rows[n - 1])) {
      if (n == 2) {
        const S *p = rows[0], *q = rows[1];
        along<Step, Taps>(out, [=](int64_t i) {
          Vec<A> best = load_as(p + i);
          larger(best, load_as(q + i));
          return best;
        });
        return;
      }
      along<Step, Taps>(out, [=](int64_t i) {
        Vec<A> best = load_as(rows[0] + i);
        for (int r = 1; r < n; ++r) {
          larger(best, load_as(rows[r] + i));
        }
        return best;
      });
      return;
    }
    if (n == 3) {
      const S *p = rows[0], *q = rows[1], *r = rows[2];
      columns([=](int64_t i, const auto& read) {
        Vec<A> best = read(p + i);
        larger(best, read(q + i));
        larger(best, read(r + i));
        return best;
      });
    } else {
      columns([=](int64_t i, const auto& read) {
        Vec<A> best = read(rows[0] + i);
        for (int r = 1; r < n; ++r) {
          larger(best, read(rows[r] + i));
        }
        return best;
      });
    }
    const A* line = column_line_.data();
    along<Step, Taps>(out, [=](int64_t i) { return load(line + i); });
  }

  // The line of column maxima; at(i, read) is a vector of them.
  template <typename At>
  void columns(const At& at) {
    A* line = column_line_.data() + this->padding_;
    const int64_t in = this->in_;
    const auto whole = [](const S* p) { return load_as(p); };
    if (in < L) {
      const int lanes = static_cast<int>(in);
      const Vec<A> v =
          at(0, [lanes](const S* p) { return load_as_partial(p, lanes); });
      store_partial(line, v, lanes);
      return;
    }
    int64_t i = 0;
    for (; i + L <= in; i += L) {
      store(line + i, at(i, whole));
    }
    if (i < in) {
      store(line + in - L, at(in - L, whole));
    }
  }

  // Windows along a line: at(i) are its elements from i on.
  template <int Step, int Taps, typename At>
  void along(int64_t out, const At& at) const {
    const int64_t taps = Taps > 0 ? Taps : this->taps_;
    const int64_t dilation = Taps > 0 && Step == 2 ? 1 : this->dilation_;
    this->each([&](auto, int64_t o, int64_t offset, int lanes) {
      Vec<A> best;
      if constexpr (Step == 1) {
        best = at(o);
        for (int64_t t = 1; t < taps; ++t) {
          larger(best, at(o + t * dilation));
        }
      } else if (dilation == 1) {
        // Two taps that are neighbours come out of one pair of vectors.
        const Vec<A> a = at(2 * o), b = at(2 * o + L);
        best = every_other<0, A>(a, b);
        if (taps > 1) {
          larger(best, every_other<1, A>(a, b));
        }
        for (int64_t t = 2; t < taps; t += 2) {
          const Vec<A> c = at(2 * o + t), d = at(2 * o + t + L);
          larger(best, every_other<0, A>(c, d));
          if (t + 1 < taps) {
            larger(best, every_other<1, A>(c, d));
          }
        }
      } else {
        best = every_other<0, A>(at(2 * o), at(2 * o + L));
        for (int64_t t = 1; t < taps; ++t) {
          const int64_t i = 2 * o + t * dilation;
          larger(best, every_other<0, A>(at(i), at(i + L)));
        }
      }
      finish(out + offset, best, Vec<Label<A>>{}, lanes);
    });
  }

  void (ValueKernel::*reduce_)(const S* const*, int, int64_t);
  std::vector<A> column_line_;
};

// Maxima with codes: the taps along a row first, then the rows, in the order
// in which the first of equal maxima counts.
template <typename S>
class CodeKernel : public Rows<S> {
 public:
  using Storage = S;
  using Acc = acc_t<S>;
  static constexpr bool kCodes = true;
  static constexpr bool kWholeWindows = false;

  CodeKernel(const MaxPool& m, const S* x, S* y, void* codes)
      : Rows<S>(m, x),
        finish{y, codes, m.codes},
        label_step_(static_cast<I>(m.axis[2].label_step)),
        flat_(m.codes != CodeKind::u8),
        line_(this->padding_ + std::max(this->span_, this->in_) + 2 * L),
        first_tap_(this->out_ + L) {
    const bool next = m.p.stride[2] == 1;
    const int64_t taps = this->taps_;
    reduce_ =
        next ? &CodeKernel::reduce_row<1, 0> : &CodeKernel::reduce_row<2, 0>;
    if constexpr (std::is_same_v<S, float>) {
      if (taps == 2) {
        reduce_ = next ? &CodeKernel::reduce_row<1, 2>
                       : &CodeKernel::reduce_row<2, 2>;
      } else if (taps == 3) {
        reduce_ = next ? &CodeKernel::reduce_row<1, 3>
                       : &CodeKernel::reduce_row<2, 3>;
      }
    }
    // A window that begins in the padding has a later first tap.
    for (int64_t o = 0; o < this->out_; ++o) {
      const int64_t start = o * m.p.stride[2] - this->padding_;
      if (start < 0) {
        first_tap_[o] =
            static_cast<I>(m.axis[2].windows[o].label - (flat_ ? start : 0));
      }
    }
  }

  void reduce(
      const S* const* rows,
      const Label<Acc>* labels,
      int n,
      const Sink<Acc>& sink) {
    (this->*reduce_)(source(rows, n), labels, n, sink);
  }

  Finish<S, true> finish;

 private:
  using A = Acc;
  using I = Label<A>;
  static constexpr int L = kLanes<A>;

  // The rows from the first window's start on: themselves, or copies in lines
  // with padding on either side.
  const S* const* source(const S* const* rows, int n) {
    if (this->readable(rows[n - 1])) {
      return rows;
    }
    const int64_t size = n * line_;
    if (static_cast<int64_t>(lines_.size()) < size) {
      lines_.assign(size, S(-std::numeric_limits<A>::infinity()));
      padded_.resize(n);
    }
    for (int r = 0; r < n; ++r) {
      S* line = lines_.data() + r * line_;
      std::memcpy(line + this->padding_, rows[r], this->in_ * sizeof(S));
      padded_[r] = line;
    }
    return padded_.data();
  }

  // Step is the stride along the row, 1 or 2; Taps the kernel, 0 for any.
  template <int Step, int Taps>
  void reduce_row(
      const S* const* rows,
      const I* labels,
      int n,
      const Sink<A>& sink) const {
    this->each([&](auto, int64_t o, int64_t offset, int lanes) {
      const int64_t start = o * Step - this->padding_;
      Vec<A> best = lowest<A>();
      Vec<I> code = Vec<I>{} + labels[0];
      if (start < 0) {
        code += load(first_tap_.data() + o);
      }
      window<Step, Taps>(rows, labels, n, o * Step, best, code);
      if (flat_) {
        code += static_cast<I>(start) + iota<I>() * static_cast<I>(Step);
      }
      if (sink.best == nullptr) {
        finish(sink.out + offset, best, code, lanes);
      } else {
        store(sink.best + o, best);
        store(sink.code + o, code);
      }
    });
  }

  template <int Step, int Taps>
  void window(
      const S* const* rows,
      const I* labels,
      int n,
      int64_t i,
      Vec<A>& best,
      Vec<I>& code) const {
    const int64_t taps = Taps > 0 ? Taps : this->taps_;
    const int64_t dilation = this->dilation_;
    for (int r = 0; r < n; ++r) {
      const S* row = rows[r];
      Vec<I> label = Vec<I>{} + labels[r];
      if constexpr (Step == 1) {
        for (int64_t t = 0; t < taps; ++t) {
          take<true, A>(best, code, load_as(row + i + t * dilation), label);
          label += label_step_;
        }
      } else {
        // Two taps that are neighbours come out of one pair of vectors.
        const bool both = dilation == 1;
        for (int64_t t = 0; t < taps; t += both ? 2 : 1) {
          const Vec<A> a = load_as(row + i + t * dilation);
          const Vec<A> b = load_as(row + i + t * dilation + L);
          take<true, A>(best, code, every_other<0, A>(a, b), label);
          label += label_step_;
          if (both && t + 1 < taps) {
            take<true, A>(best, code, every_other<1, A>(a, b), label);
            label += label_step_;
          }
        }
      }
    }
  }

  void (CodeKernel::*reduce_)(const S* const*, const I*, int, const Sink<A>&)
      const;
  const I label_step_;
  const bool flat_; // codes are positions, not taps
  const int64_t line_;
  std::vector<S> lines_;
  std::vector<const S*> padded_;
  std::vector<I> first_tap_;
};

} // namespace

template <typename S>
void max_pool_rows_kernel(
    const MaxPool& m,
    const void* xv,
    void* yv,
    void* codes) {
  const S* x = static_cast<const S*>(xv);
  S* y = static_cast<S*>(yv);
  if (m.codes == CodeKind::none) {
    const ValueKernel<S> kernel(m, x, y);
    PoolDriver<ValueKernel<S>>(m, kernel).run();
  } else {
    const CodeKernel<S> kernel(m, x, y, codes);
    PoolDriver<CodeKernel<S>>(m, kernel).run();
  }
}

template void max_pool_rows_kernel<float>(
    const MaxPool&,
    const void*,
    void*,
    void*);
template void max_pool_rows_kernel<double>(
    const MaxPool&,
    const void*,
    void*,
    void*);
template void max_pool_rows_kernel<half>(
    const MaxPool&,
    const void*,
    void*,
    void*);
template void max_pool_rows_kernel<bfloat16>(
    const MaxPool&,
    const void*,
    void*,
    void*);

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

#endif
