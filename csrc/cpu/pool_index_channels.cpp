// The gradient of max pooling with the channels innermost: a vector is that
// many channels of one input position.
#include "cpu/pool_index_vector.h"

#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>

#include "core/parallel.h"

#ifndef TC_ISA
#define TC_SELF "cpu/pool_index_channels.cpp"
#include "cpu/foreach_isa.h"

namespace torchconv {
namespace cpu {

void pool_grad_channels(const PoolGrad& g, const void* grad, void* gx) {
  switch (g.k.p.dtype) {
    case DType::f64:
      return TC_DISPATCH(pool_grad_channels_kernel<double>)(g, grad, gx);
    case DType::f16:
      return TC_DISPATCH(pool_grad_channels_kernel<half>)(g, grad, gx);
    case DType::bf16:
      return TC_DISPATCH(pool_grad_channels_kernel<bfloat16>)(g, grad, gx);
    default:
      return TC_DISPATCH(pool_grad_channels_kernel<float>)(g, grad, gx);
  }
}

} // namespace cpu
} // namespace torchconv

#else // one instruction set

#include "cpu/pool_grad_simd.h"

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// V vectors of channels from c on, or the first `lanes` of one.
template <typename S, int V>
inline void gather_pixel(
    const std::vector<GradSource<S>>& sources,
    int64_t c,
    int lanes,
    S* out) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  Vec<A> sum[V] = {};
  for (const GradSource<S>& s : sources) {
    const uint8_t label = static_cast<uint8_t>(s.label);
    if (V > 1 || lanes == L) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        add_chosen<S>(
            sum[v],
            load_as(s.grad + c + v * L),
            load_codes<L>(s.codes + c + v * L),
            label);
      }
    } else {
      add_chosen<S>(
          sum[0],
          load_as_partial(s.grad + c, lanes),
          load_codes_window<L>(s.codes + c, 0, lanes),
          label);
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    store_first(out + c + v * L, sum[v], lanes);
  }
}

} // namespace

template <typename S>
void pool_grad_channels_kernel(
    const PoolGrad& g,
    const void* gradv,
    void* gxv) {
  constexpr int L = kLanes<acc_t<S>>;
  const PoolCodes& k = g.k;
  const PoolProblem& p = k.p;
  const S* grad = static_cast<const S*>(gradv);
  const uint8_t* codes = static_cast<const uint8_t*>(k.codes);
  S* gx = static_cast<S*>(gxv);
  const PoolSources depth(g, 0), height(g, 1), width(g, 2);
  const int64_t work = p.channels * p.in[2] * 4;
  const int64_t rows = p.batch * p.in[0] * p.in[1];
  parallel_for(rows, pool_grain(work), [&](int64_t begin, int64_t end) {
    std::vector<GradSource<S>> lines, sources;
    for (int64_t row = begin; row < end; ++row) {
      const int64_t ih = row % p.in[1];
      const int64_t id = row / p.in[1] % p.in[0];
      const int64_t n = row / (p.in[1] * p.in[0]);
      lines.clear();
      for (auto d = depth.begin(id); d != depth.end(id); ++d) {
        for (auto h = height.begin(ih); h != height.end(ih); ++h) {
          lines.push_back(
              {grad + n * p.y_stride_n + d->out * p.y_stride[0] +
                   h->out * p.y_stride[1],
               codes + n * k.c_stride_n + d->out * k.c_stride[0] +
                   h->out * k.c_stride[1],
               d->label + h->label});
        }
      }
      for (int64_t iw = 0; iw < p.in[2]; ++iw) {
        sources.clear();
        for (const GradSource<S>& line : lines) {
          for (auto w = width.begin(iw); w != width.end(iw); ++w) {
            sources.push_back(
                {line.grad + w->out * p.y_stride[2],
                 line.codes + w->out * k.c_stride[2],
                 line.label + w->label});
          }
        }
        S* out = gx + n * p.x_stride_n + id * p.x_stride[0] +
            ih * p.x_stride[1] + iw * p.x_stride[2];
        // The last vector ends with the pixel, and does some channels twice.
        int64_t c = 0;
        for (; c + 4 * L <= p.channels; c += 4 * L) {
          gather_pixel<S, 4>(sources, c, L, out);
        }
        for (; c + L <= p.channels; c += L) {
          gather_pixel<S, 1>(sources, c, L, out);
        }
        if (c < p.channels) {
          const int64_t at = std::max<int64_t>(p.channels - L, 0);
          gather_pixel<S, 1>(
              sources,
              at,
              static_cast<int>(std::min<int64_t>(L, p.channels)),
              out);
        }
      }
    }
  });
}

template void pool_grad_channels_kernel<float>(
    const PoolGrad&,
    const void*,
    void*);
template void pool_grad_channels_kernel<double>(
    const PoolGrad&,
    const void*,
    void*);
template void pool_grad_channels_kernel<half>(
    const PoolGrad&,
    const void*,
    void*);
template void pool_grad_channels_kernel<bfloat16>(
    const PoolGrad&,
    const void*,
    void*);

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

#endif
