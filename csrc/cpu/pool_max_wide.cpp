// Max pooling along contiguous rows where windows are several vectors wide
// (global and adaptive pooling to few outputs): a vector runs along a window,
// and its lanes are compared at the end.
#include "cpu/pool_max_vector.h"

#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/parallel.h"

#ifndef TC_ISA
#define TC_SELF "cpu/pool_max_wide.cpp"
#include "cpu/foreach_isa.h"

namespace torchconv {
namespace cpu {

void max_pool_wide(const MaxPool& m, const void* x, void* y, void* codes) {
  switch (m.p.dtype) {
    case DType::f64:
      return TC_DISPATCH(max_pool_wide_kernel<double>)(m, x, y, codes);
    case DType::f16:
      return TC_DISPATCH(max_pool_wide_kernel<half>)(m, x, y, codes);
    case DType::bf16:
      return TC_DISPATCH(max_pool_wide_kernel<bfloat16>)(m, x, y, codes);
    default:
      return TC_DISPATCH(max_pool_wide_kernel<float>)(m, x, y, codes);
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

// Lane 0 becomes the maximum of all lanes.
template <bool Codes, int By, typename A>
inline void merge_lanes(Vec<A>& best, Vec<Label<A>>& code) {
  if constexpr (By > 0) {
    merge<Codes, A>(
        best,
        code,
        rotate<By, A>(best),
        Codes ? rotate<By, Label<A>>(code) : code);
    merge_lanes<Codes, By / 2, A>(best, code);
  }
}

template <typename S, bool Codes>
class WideKernel {
 public:
  using Storage = S;
  using Acc = acc_t<S>;
  static constexpr bool kCodes = Codes;
  static constexpr bool kWholeWindows = false;

  WideKernel(const MaxPool& m, const S* x, S* y, void* codes)
      : finish{y, codes, m.codes},
        m_(m),
        x_(x) {}

  int64_t groups() const {
    return m_.p.batch * m_.p.channels;
  }
  int64_t line() const {
    return m_.p.out[2];
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

  template <typename F>
  void each(const F& f) const {
    for (int64_t o = 0; o < m_.p.out[2]; o += L) {
      f(std::integral_constant<int, 1>(),
        o,
        o,
        static_cast<int>(std::min<int64_t>(L, m_.p.out[2] - o)));
    }
  }

  void reduce(
      const S* const* rows,
      const Label<Acc>* labels,
      int n,
      const Sink<Acc>& sink) const {
    for (int64_t o = 0; o < m_.p.out[2]; o += L) {
      const int lanes = static_cast<int>(std::min<int64_t>(L, m_.p.out[2] - o));
      Vec<A> best{};
      Vec<I> code{};
      for (int j = 0; j < lanes; ++j) {
        window(rows, labels, n, o + j, best, code, j);
      }
      if (sink.best == nullptr) {
        finish(sink.out + o, best, code, lanes);
      } else {
        store(sink.best + o, best);
        if constexpr (Codes) {
          store(sink.code + o, code);
        }
      }
    }
  }

  Finish<S, Codes> finish;

 private:
  using A = Acc;
  using I = Label<A>;
  static constexpr int L = kLanes<A>;
  static constexpr int V = 4; // chains of comparisons side by side

  // Lane j of the results becomes the maximum of output o.
  void window(
      const S* const* rows,
      const I* labels,
      int n,
      int64_t o,
      Vec<A>& best_out,
      Vec<I>& code_out,
      int j) const {
    const PoolAxis& axis = m_.axis[2];
    const PoolAxis::Window& w = axis.windows[o];
    const I label_step = static_cast<I>(axis.label_step);
    Vec<A> best[V];
    Vec<I> code[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      best[v] = lowest<A>();
      code[v] = Vec<I>{} + static_cast<I>(labels[0] + w.label);
    }
    for (int r = 0; r < n; ++r) {
      const S* p = rows[r] + w.begin;
      Vec<I> label =
          iota<I>() * label_step + static_cast<I>(labels[r] + w.label);
      int64_t t = 0;
      for (; t + V * L <= w.count; t += V * L) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          take<Codes, A>(best[v], code[v], load_as(p + t + v * L), label);
          label += static_cast<I>(L) * label_step;
        }
      }
      for (; t + L <= w.count; t += L) {
        take<Codes, A>(best[0], code[0], load_as(p + t), label);
        label += static_cast<I>(L) * label_step;
      }
      if (t < w.count) {
        take<Codes, A>(best[1], code[1], load_window(p, t, w.count), label);
      }
    }
    merge<Codes, A>(best[0], code[0], best[1], code[1]);
    merge<Codes, A>(best[2], code[2], best[3], code[3]);
    merge<Codes, A>(best[0], code[0], best[2], code[2]);
    merge_lanes<Codes, L / 2, A>(best[0], code[0]);
    best_out[j] = best[0][0];
    code_out[j] = code[0][0];
  }

  const MaxPool& m_;
  const S* x_;
  const S* plane_ = nullptr;
  int64_t y_plane_ = 0;
};

} // namespace

template <typename S>
void max_pool_wide_kernel(
    const MaxPool& m,
    const void* xv,
    void* yv,
    void* codes) {
  const S* x = static_cast<const S*>(xv);
  S* y = static_cast<S*>(yv);
  if (m.codes == CodeKind::none) {
    WideKernel<S, false> kernel(m, x, y, nullptr);
    PoolDriver<decltype(kernel)>(m, kernel).run();
  } else {
    WideKernel<S, true> kernel(m, x, y, codes);
    PoolDriver<decltype(kernel)>(m, kernel).run();
  }
}

#define TC_INSTANTIATE(S)                \
  template void max_pool_wide_kernel<S>( \
      const MaxPool&, const void*, void*, void*);
TC_INSTANTIATE(float)
TC_INSTANTIATE(double)
TC_INSTANTIATE(half)
TC_INSTANTIATE(bfloat16)
#undef TC_INSTANTIATE

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

#endif
