// Fractional max pooling: the windows of every plane start where that plane's
// random samples put them.
#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/parallel.h"
#include "core/pool_fractional.h"
#include "cpu/pool_max.h"

#ifndef TC_ISA
#define TC_SELF "cpu/pool_fractional.cpp"
#include "cpu/foreach_isa.h"

namespace torchconv {
namespace cpu {

void fractional_max_pool(
    const PoolProblem& p,
    int nd,
    const void* samples,
    const void* x,
    void* y,
    int64_t* indices) {
  if (p.batch * p.channels == 0) {
    return;
  }
  const auto kernel = [&](auto run) { run(p, nd, samples, x, y, indices); };
  switch (p.dtype) {
    case DType::f64:
      return kernel(TC_DISPATCH(fractional_kernel<double>));
    case DType::f16:
      return kernel(TC_DISPATCH(fractional_kernel<half>));
    case DType::bf16:
      return kernel(TC_DISPATCH(fractional_kernel<bfloat16>));
    default: // the binding lets no integer type through
      return kernel(TC_DISPATCH(fractional_kernel<float>));
  }
}

} // namespace cpu
} // namespace torchconv

#else // one instruction set

#include "cpu/pool_simd.h"

#include "cpu/pool_planes_simd.h"

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// Starts of the windows along one dimension.
template <typename S>
void window_starts(
    S sample,
    int64_t in,
    int64_t out,
    int64_t kernel,
    int64_t* start) {
  using A = acc_t<S>;
  const auto round = [](A v) { return A(S(v)); };
  for (int64_t o = 0; o < out; ++o) {
    start[o] = fractional_start(A(sample), o, in, out, kernel, round);
  }
}

// The planes of a batch or of a block of channels, one at a time, with rows of
// stride 1: as they are or, from other layouts, copied.
template <typename S>
class Planes {
  using A = acc_t<S>;
  static constexpr int L = kLanes<A>;

 public:
  Planes(const PoolProblem& p, const S* x)
      : p_(p),
        x_(x),
        copied_(p.x_stride[2] != 1 && p.in[2] > 1),
        block_(
            copied_ && p.x_stride_c == 1 ? std::min<int64_t>(L, p.channels)
                                         : 1) {
    for (int i = 0; i < 3; ++i) {
      stride_[i] = p.x_stride[i];
    }
    if (copied_) {
      stride_[0] = p.in[1] * p.in[2];
      stride_[1] = p.in[2];
      copies_.resize(block_ * pool_in_plane(p));
    }
  }
  Planes(const Planes&) = delete;

  int64_t blocks() const { // of channels, in a sample
    return (p_.channels + block_ - 1) / block_;
  }
  int64_t begin(int64_t block) const {
    return block * block_;
  }
  int64_t end(int64_t block) const {
    return std::min(begin(block) + block_, p_.channels);
  }
  int64_t stride(int dim) const {
    return stride_[dim];
  }

  void enter(int64_t n, int64_t block) {
    first_ = x_ + n * p_.x_stride_n + begin(block) * p_.x_stride_c;
    if (copied_) {
      copy(static_cast<int>(end(block) - begin(block)));
    }
  }
  const S* plane(int64_t i) const { // of the block
    return copied_ ? copies_.data() + i * pool_in_plane(p_) : first_;
  }

 private:
  void copy(int channels) {
    for (int64_t d = 0; d < p_.in[0]; ++d) {
      for (int64_t h = 0; h < p_.in[1]; ++h) {
        const S* from = first_ + d * p_.x_stride[0] + h * p_.x_stride[1];
        S* to = copies_.data() + d * stride_[0] + h * stride_[1];
        if (block_ > 1) {
          pixels_to_planes(
              from, p_.x_stride[2], p_.in[2], channels, to, pool_in_plane(p_));
          continue;
        }
        for (int64_t w = 0; w < p_.in[2]; ++w) {
          to[w] = from[w * p_.x_stride[2]];
        }
      }
    }
  }

  const PoolProblem& p_;
  const S* x_;
  const bool copied_;
  const int64_t block_;
  int64_t stride_[3];
  const S* first_ = nullptr;
  std::vector<S> copies_;
};

// Where results go, in rows of any stride.
template <typename S>
struct FractionalSink {
  using A = acc_t<S>;
  S* y;
  int64_t* indices;
  int64_t stride;

  void put(int64_t o, A best, int64_t index) const {
    y[o * stride] = S(best);
    indices[o * stride] = index;
  }
  // base: what is missing to the indices of the lanes.
  void put(
      int64_t o,
      const Vec<A>& best,
      const Vec<Label<A>>& code,
      int64_t base,
      int lanes) const {
    constexpr int L = kLanes<A>;
    if (stride != 1) {
      for (int j = 0; j < lanes; ++j) {
        put(o + j, best[j], base + code[j]);
      }
      return;
    }
    store_first(y + o, best, lanes);
    using Wide = typename VecOf<int64_t, L * 8>::type;
    const Wide index = __builtin_convertvector(code, Wide) + base;
    if (lanes == L) {
      std::memcpy(indices + o, &index, sizeof(index));
    } else {
      for (int j = 0; j < lanes; ++j) {
        indices[o + j] = index[j];
      }
    }
  }
};

// The windows of one row of outputs.
template <typename S>
class RowOfWindows {
  using A = acc_t<S>;
  using I = Label<A>;
  static constexpr int L = kLanes<A>;

 public:
  // start: of the windows along the row, with slack of a vector.
  RowOfWindows(const PoolProblem& p, const std::vector<int64_t>& start)
      : start_(start),
        lane_start_(start.size()),
        rows_(p.kernel[0] * p.kernel[1]),
        offsets_(rows_.size()),
        labels_(rows_.size()),
        in_(p.in[2]),
        out_(p.out[2]),
        kernel_(p.kernel[2]) {
    // What lies between the first and the last row of a window must fit.
    const int64_t reach = ((p.kernel[0] - 1) * p.in[1] + p.kernel[1]) * p.in[2];
    narrow_ = reach <= std::numeric_limits<I>::max();
  }

  // After the table of starts has changed.
  void new_starts() {
    for (size_t i = 0; i < start_.size(); ++i) {
      lane_start_[i] = static_cast<I>(start_[i]);
    }
  }
  // Row r of the windows; its elements' indices begin `offset` after base.
  void set(int64_t r, const S* row, int64_t offset) {
    rows_[r] = row;
    offsets_[r] = offset;
    labels_[r] = static_cast<I>(offset);
  }

  void run(int64_t base, const FractionalSink<S>& sink) const {
    for (int64_t o = 0; o < out_;) {
      // As many outputs as two vectors of columns have the windows of.
      const int64_t first = start_[o];
      int lanes = static_cast<int>(std::min<int64_t>(L, out_ - o));
      while (lanes > 1 && start_[o + lanes - 1] + kernel_ - first > 2 * L) {
        lanes = (lanes + 1) / 2;
      }
      if (narrow_ && start_[o + lanes - 1] + kernel_ - first <= 2 * L) {
        windows(o, lanes, base, sink);
        o += lanes;
      } else {
        window(o++, base, sink);
      }
    }
  }

 private:
  // The maxima of columns [i, i + L), with the labels of their rows.
  void columns(int64_t i, Vec<A>& best, Vec<I>& code) const {
    best = lowest<A>();
    code = Vec<I>{} + labels_[0];
    for (size_t r = 0; r < rows_.size(); ++r) {
      const S* row = rows_[r];
      take<true, A>(
          best,
          code,
          i + L <= in_ ? load_as(row + i) : load_window(row, i, in_),
          Vec<I>{} + labels_[r]);
    }
  }

  void windows(
      int64_t o,
      int lanes,
      int64_t base,
      const FractionalSink<S>& sink) const {
    const int64_t first = start_[o];
    Vec<A> a, b;
    Vec<I> a_code, b_code;
    columns(first, a, a_code);
    columns(first + L, b, b_code);
    // Lanes without a window take any column.
    const Vec<I> start = load(lane_start_.data() + o);
    const Vec<I> pick = start - static_cast<I>(first);
    Vec<A> best = pick_lanes<A>(a, b, pick);
    Vec<I> code = pick_lanes<I>(a_code, b_code, pick) + start;
    for (int64_t t = 1; t < kernel_; ++t) {
      const Vec<I> at = pick + static_cast<I>(t);
      merge<true, A>(
          best,
          code,
          pick_lanes<A>(a, b, at),
          pick_lanes<I>(a_code, b_code, at) + start + static_cast<I>(t));
    }
    sink.put(o, best, code, base, lanes);
  }

  // Windows for which that is no way.
  void window(int64_t o, int64_t base, const FractionalSink<S>& sink) const {
    A best = -std::numeric_limits<A>::infinity();
    int64_t index = offsets_[0] + start_[o];
    for (size_t r = 0; r < rows_.size(); ++r) {
      for (int64_t i = start_[o]; i < start_[o] + kernel_; ++i) {
        const A v = rows_[r][i];
        const bool take = v > best || v != v;
        best = take ? v : best;
        index = take ? offsets_[r] + i : index;
      }
    }
    sink.put(o, best, base + index);
  }

  const std::vector<int64_t>& start_;
  std::vector<I> lane_start_;
  std::vector<const S*> rows_;
  std::vector<int64_t> offsets_;
  std::vector<I> labels_;
  const int64_t in_, out_, kernel_;
  bool narrow_; // lanes hold the offsets of a window's rows
};

template <typename S>
void pool_planes(
    const PoolProblem& p,
    int nd,
    const S* samples,
    const S* x,
    S* y,
    int64_t* indices) {
  constexpr int L = kLanes<acc_t<S>>;
  const auto units = [&](int64_t begin, int64_t end) {
    Planes<S> planes(p, x);
    std::vector<int64_t> start[3];
    for (int i = 0; i < 3; ++i) {
      start[i].assign(p.out[i] + L, 0);
    }
    RowOfWindows<S> windows(p, start[2]);
    for (int64_t u = begin; u < end; ++u) {
      const int64_t n = u / planes.blocks(), block = u % planes.blocks();
      planes.enter(n, block);
      for (int64_t c = planes.begin(block); c < planes.end(block); ++c) {
        for (int d = 0; d < nd; ++d) {
          // torch's 2-d operator takes the samples from the last dimension on,
          // its 3-d operator from the first.
          const int i = 3 - nd + d;
          const S sample =
              samples[(n * p.channels + c) * nd + (nd == 3 ? d : nd - 1 - d)];
          window_starts(
              sample, p.in[i], p.out[i], p.kernel[i], start[i].data());
        }
        windows.new_starts();
        const S* plane = planes.plane(c - planes.begin(block));
        for (int64_t od = 0; od < p.out[0]; ++od) {
          for (int64_t oh = 0; oh < p.out[1]; ++oh) {
            const int64_t id = start[0][od], ih = start[1][oh];
            for (int64_t d = 0; d < p.kernel[0]; ++d) {
              for (int64_t h = 0; h < p.kernel[1]; ++h) {
                windows.set(
                    d * p.kernel[1] + h,
                    plane + (id + d) * planes.stride(0) +
                        (ih + h) * planes.stride(1),
                    (d * p.in[1] + h) * p.in[2]);
              }
            }
            const int64_t at = n * p.y_stride_n + c * p.y_stride_c +
                od * p.y_stride[0] + oh * p.y_stride[1];
            windows.run(
                (id * p.in[1] + ih) * p.in[2],
                {y + at, indices + at, p.y_stride[2]});
          }
        }
      }
    }
  };
  const Planes<S> shape(p, x);
  const int64_t work =
      pool_out_plane(p) * pool_taps(p) * (shape.end(0) - shape.begin(0));
  parallel_for(p.batch * shape.blocks(), pool_grain(work), units);
}

} // namespace

template <typename S>
void fractional_kernel(
    const PoolProblem& p,
    int nd,
    const void* samples,
    const void* x,
    void* y,
    int64_t* indices) {
  pool_planes(
      p,
      nd,
      static_cast<const S*>(samples),
      static_cast<const S*>(x),
      static_cast<S*>(y),
      indices);
}

#define TC_INSTANTIATE(S)             \
  template void fractional_kernel<S>( \
      const PoolProblem&, int, const void*, const void*, void*, int64_t*);
TC_INSTANTIATE(float)
TC_INSTANTIATE(double)
TC_INSTANTIATE(half)
TC_INSTANTIATE(bfloat16)
#undef TC_INSTANTIATE

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

#endif
