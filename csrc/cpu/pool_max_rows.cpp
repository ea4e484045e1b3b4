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

template <typename S, bool Codes>
class RowKernel {
 public:
  using Storage = S;
  using Acc = acc_t<S>;
  static constexpr bool kCodes = Codes;

  RowKernel(const MaxPool& m, const S* x, S* y, void* codes)
      : finish{y, codes, m.codes},
        m_(m),
        x_(x),
        in_(m.p.in[2]),
        out_(m.p.out[2]),
        padding_(m.p.padding[2]),
        dilation_(m.p.dilation[2]),
        label_step_(static_cast<I>(m.axis[2].label_step)),
        flat_(m.codes != CodeKind::u8) {
    const int64_t taps = m.p.kernel[2];
    const bool next = m.p.stride[2] == 1;
    reduce_ =
        next ? &RowKernel::reduce_row<1, 0> : &RowKernel::reduce_row<2, 0>;
    if constexpr (std::is_same_v<S, float>) {
      if (taps == 2) {
        reduce_ =
            next ? &RowKernel::reduce_row<1, 2> : &RowKernel::reduce_row<2, 2>;
      } else if (taps == 3) {
        reduce_ =
            next ? &RowKernel::reduce_row<1, 3> : &RowKernel::reduce_row<2, 3>;
      }
    }
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
    for (int64_t o = 0; o < out_; o += L) {
      const int64_t at = std::min(o, std::max<int64_t>(out_ - L, 0));
      f(at, at, static_cast<int>(std::min<int64_t>(L, out_ - at)));
    }
  }

  void reduce(
      const S* const* rows,
      const Label<Acc>* labels,
      int n,
      const Sink<Acc>& sink) const {
    (this->*reduce_)(rows, labels, n, sink);
  }

  Finish<S, Codes> finish;

 private:
  using A = Acc;
  using I = Label<A>;
  static constexpr int L = kLanes<A>;

  // Step is the stride along the row, 1 or 2; Taps the kernel, 0 for any.
  template <int Step, int Taps>
  void reduce_row(
      const S* const* rows,
      const I* labels,
      int n,
      const Sink<A>& sink) const {
    const int64_t taps = Taps > 0 ? Taps : m_.p.kernel[2];
    // How far a vector of outputs reads beyond its first input.
    const int64_t last = Step == 2 && dilation_ == 1 ? (taps - 1) / 2 * 2
                                                     : (taps - 1) * dilation_;
    const int64_t reach = last + L * Step - 1;
    each([&](int64_t o, int64_t offset, int lanes) {
      const int64_t i = o * Step - padding_;
      Vec<A> best = lowest<A>();
      Vec<I> code = Vec<I>{} + labels[0];
      if (i >= 0 && i + reach < in_) {
        window<true, Step, Taps>(rows, labels, n, i, best, code);
      } else {
        if (Codes && i < 0) {
          code += first_taps(o, lanes);
        }
        window<false, Step, Taps>(rows, labels, n, i, best, code);
      }
      if (Codes && flat_) {
        code += static_cast<I>(i) + iota<I>() * static_cast<I>(Step);
      }
      if (sink.best == nullptr) {
        finish(sink.out + offset, best, code, lanes);
      } else {
        store(sink.best + o, best);
        if constexpr (Codes) {
          store(sink.code + o, code);
        }
      }
    });
  }

  // What the first tap inside the row adds to the code of outputs o, o + 1...
  Vec<I> first_taps(int64_t o, int lanes) const {
    const int64_t step = m_.p.stride[2];
    Vec<I> v{};
    for (int j = 0; j < lanes; ++j) {
      const int64_t start = (o + j) * step - padding_;
      v[j] =
          static_cast<I>(m_.axis[2].windows[o + j].label - (flat_ ? start : 0));
    }
    return v;
  }

  template <bool Inner>
  Vec<A> load_at(const S* row, int64_t i) const {
    if constexpr (Inner) {
      return load_as(row + i);
    } else {
      return load_window(row, i, in_);
    }
  }

  template <bool Inner, int Step, int Taps>
  void window(
      const S* const* rows,
      const I* labels,
      int n,
      int64_t i,
      Vec<A>& best,
      Vec<I>& code) const {
    const int64_t taps = Taps > 0 ? Taps : m_.p.kernel[2];
    for (int r = 0; r < n; ++r) {
      const S* row = rows[r];
      Vec<I> label = Vec<I>{} + labels[r];
      if constexpr (Step == 1) {
        for (int64_t t = 0; t < taps; ++t) {
          const Vec<A> v = load_at<Inner>(row, i + t * dilation_);
          take<Codes, A>(best, code, v, label);
          label += label_step_;
        }
      } else {
        // Two taps that are neighbours come out of one pair of vectors.
        const bool both = dilation_ == 1;
        for (int64_t t = 0; t < taps; t += both ? 2 : 1) {
          const Vec<A> a = load_at<Inner>(row, i + t * dilation_);
          const Vec<A> b = load_at<Inner>(row, i + t * dilation_ + L);
          take<Codes, A>(best, code, every_other<0, A>(a, b), label);
          label += label_step_;
          if (both && t + 1 < taps) {
            take<Codes, A>(best, code, every_other<1, A>(a, b), label);
            label += label_step_;
          }
        }
      }
    }
  }

  void (RowKernel::*reduce_)(const S* const*, const I*, int, const Sink<A>&)
      const;
  const MaxPool& m_;
  const S* x_;
  const S* plane_ = nullptr;
  int64_t y_plane_ = 0;
  const int64_t in_, out_, padding_, dilation_;
  const I label_step_;
  const bool flat_; // codes are positions, not taps
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
    RowKernel<S, false> kernel(m, x, y, nullptr);
    PoolDriver<decltype(kernel)>(m, kernel).run();
  } else {
    RowKernel<S, true> kernel(m, x, y, codes);
    PoolDriver<decltype(kernel)>(m, kernel).run();
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
