#include "cpu/pool_avg.h"

#include <algorithm>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/parallel.h"
#include "cpu/pool_near_spread.h"

#ifndef TC_ISA
#define TC_SELF "cpu/pool_avg.cpp"
#include "cpu/foreach_isa.h"

namespace torchconv {
namespace cpu {
namespace {

// int64: each term is divided on its own in the gradient, as torch does; plain
// loops over any strides.
template <bool kGradient>
void average_integers(const WindowSum& w, const int64_t* x, int64_t* y) {
  const auto divisor = [&](int64_t d, int64_t h, int64_t i) {
    return w.divisor * (w.count[0] ? w.count[0][d] : 1) *
        (w.count[1] ? w.count[1][h] : 1) * (w.count[2] ? w.count[2][i] : 1);
  };
  parallel_for(w.batch * w.channels, 1, [&](int64_t first, int64_t last) {
    for (int64_t plane = first; plane < last; ++plane) {
      const int64_t n = plane / w.channels, c = plane % w.channels;
      const int64_t* from = x + n * w.src_n + c * w.src_c;
      int64_t* to = y + n * w.dst_n + c * w.dst_c;
      for (int64_t d = 0; d < w.dst[0]; ++d) {
        for (int64_t h = 0; h < w.dst[1]; ++h) {
          for (int64_t i = 0; i < w.dst[2]; ++i) {
            int64_t sum = 0;
            for (int64_t a = w.begin[0][d]; a < w.end[0][d]; ++a) {
              for (int64_t b = w.begin[1][h]; b < w.end[1][h]; ++b) {
                for (int64_t e = w.begin[2][i]; e < w.end[2][i]; ++e) {
                  const int64_t v =
                      from[a * w.src_s[0] + b * w.src_s[1] + e * w.src_s[2]];
                  sum += kGradient ? v / divisor(a, b, e) : v;
                }
              }
            }
            to[d * w.dst_s[0] + h * w.dst_s[1] + i * w.dst_s[2]] =
                kGradient ? sum : sum / divisor(d, h, i);
          }
        }
      }
    }
  });
}

} // namespace

void average_forward(WindowSum& w, DType dtype, const void* x, void* y) {
  switch (dtype) {
    case DType::f32:
      return TC_DISPATCH(average_forward_kernel<float>)(w, x, y);
    case DType::f64:
      return TC_DISPATCH(average_forward_kernel<double>)(w, x, y);
    case DType::f16:
      return TC_DISPATCH(average_forward_kernel<half>)(w, x, y);
    case DType::bf16:
      return TC_DISPATCH(average_forward_kernel<bfloat16>)(w, x, y);
    default: // the binding lets no other type through
      return average_integers<false>(
          w, static_cast<const int64_t*>(x), static_cast<int64_t*>(y));
  }
}

void average_input_grad(WindowSum& w, DType dtype, const void* gy, void* gx) {
  switch (dtype) {
    case DType::f32:
      return TC_DISPATCH(average_input_grad_kernel<float>)(w, gy, gx);
    case DType::f64:
      return TC_DISPATCH(average_input_grad_kernel<double>)(w, gy, gx);
    case DType::f16:
      return TC_DISPATCH(average_input_grad_kernel<half>)(w, gy, gx);
    case DType::bf16:
      return TC_DISPATCH(average_input_grad_kernel<bfloat16>)(w, gy, gx);
    default: // the binding lets no other type through
      return average_integers<true>(
          w, static_cast<const int64_t*>(gy), static_cast<int64_t*>(gx));
  }
}

} // namespace cpu
} // namespace torchconv

#else // one instruction set

#include "cpu/simd.h"

#include "cpu/shuffle.h"

#include "cpu/pool_lanes.h"

#if defined(TC_AVX512)
#include "cpu/pool_mask_simd.h"

#include "cpu/pool_near_rows.h"
#endif

#include "cpu/pool_avg_io.h"

#if defined(TC_AVX512)
#include "cpu/pool_near_sums.h"
#endif

#include "cpu/pool_avg_rows.h"

#include "cpu/pool_avg_pixels.h"

#include "cpu/pool_planes_simd.h"

#include "cpu/pool_avg_planes.h"

namespace torchconv {
namespace cpu {
namespace TC_ISA {

template <typename S>
void average_forward_kernel(WindowSum& w, const void* x, void* y) {
  using A = acc_t<S>;
  const bool pixels = prefer_pixels<A>(w);
  const Plain<S> src{RowList<S>(x, w)};
#if defined(TC_AVX512)
  if (!pixels && near_sums<Average<S>>(w)) {
    const std::unique_ptr<A[]> width = row_counts<A>(w);
    return run_near_sums(w, src, Average<S>(y, w, width.get()));
  }
#endif
  if (!pixels && worth_turning<A>(w)) {
    return turned_sums<S>(w, x, y, [](A* ys, const WindowSum& turned) {
      return Average<A>(ys, turned, nullptr);
    });
  }
  const std::unique_ptr<A[]> width = row_counts<A>(w);
  run_sums(w, src, Average<S>(y, w, width.get()), pixels);
}

template <typename S>
void average_input_grad_kernel(WindowSum& w, const void* gy, void* gx) {
  using A = acc_t<S>;
  const bool pixels = prefer_pixels<A>(w);
#if defined(TC_AVX512)
  if (!pixels && near_sums<Scaled<S>>(w)) {
    return run_near_sums(w, Plain<S>{RowList<S>(gy, w)}, Scaled<S>(gx, w));
  }
#endif
  if (!pixels && worth_turning<A>(w)) {
    return turned_sums<S>(w, gy, gx, [](A* gxs, const WindowSum& turned) {
      return Scaled<A>(gxs, turned);
    });
  }
  const Plain<S> src{RowList<S>(gy, w)};
  const Scaled<S> sink(gx, w);
  run_sums(w, src, sink, pixels);
}

#define TC_INSTANTIATE(S)                                                  \
  template void average_forward_kernel<S>(WindowSum&, const void*, void*); \
  template void average_input_grad_kernel<S>(WindowSum&, const void*, void*);
TC_INSTANTIATE(float)
TC_INSTANTIATE(double)
TC_INSTANTIATE(half)
TC_INSTANTIATE(bfloat16)
#undef TC_INSTANTIATE

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

#endif
