// The gradients of average and Lp pooling: each input gathers from the windows
// that hold it, in their order. Threads take an input each, or 16 bytes of
// channels where these lie side by side.
//
// Compiled for sm_80, sm_90a and PTX; it has not run on hardware yet.
#include "cuda/launch.cuh"
#include "cuda/pool_sum.cuh"
#include "cuda/pool_sum.h"

namespace torchconv {
namespace cuda {
namespace {

template <typename T, int V, bool kLp>
__global__ void __launch_bounds__(kPoolThreads, 2)
    sum_grad_kernel(const __grid_constant__ SumParams a) {
  using A = compute_t<T>;
  const PoolProblem& p = a.p;
  const bool sliding = a.divisor.sliding;
  const T* gy = static_cast<const T*>(a.from);
  const int64_t vectors = p.channels / V;
  const int64_t total = p.batch * vectors * pool_in_plane(p);
  for (int64_t i = first_piece(); i < total; i += piece_step()) {
    PoolPlace x = pool_place(i, vectors, p.in, a.channels_innermost);
    x.c *= V;
    const PoolRange d = holders_of(p, sliding, 0, x.at[0]);
    const PoolRange h = holders_of(p, sliding, 1, x.at[1]);
    const PoolRange w = holders_of(p, sliding, 2, x.at[2]);
    A sum[V];
    for (int j = 0; j < V; ++j) {
      sum[j] = 0;
    }
    for (int64_t od = d.begin; od < d.end; ++od) {
      for (int64_t oh = h.begin; oh < h.end; ++oh) {
#pragma unroll 2
        for (int64_t ow = w.begin; ow < w.end; ++ow) {
          const int64_t at = y_offset(p, x.n, x.c, od, oh, ow);
          const A divisor =
              a.uniform ? A(1) : static_cast<A>(divisor_at(a, od, oh, ow));
          A g[V];
          load<V>(gy + at, g);
          if constexpr (kLp) {
            A y[V];
            load<V>(static_cast<const T*>(a.y) + at, y);
            for (int j = 0; j < V; ++j) {
              g[j] = y[j] == A(0)
                  ? A(0)
                  : g[j] * power(y[j], static_cast<A>(1 - a.norm));
            }
          }
          for (int j = 0; j < V; ++j) {
            sum[j] += a.uniform ? g[j] : g[j] / divisor;
          }
        }
      }
    }
    const int64_t at = x_offset(p, x.n, x.c, x.at[0], x.at[1], x.at[2]);
    const A divisor = a.uniform ? static_cast<A>(divisor_at(a, 0, 0, 0)) : A(1);
    for (int j = 0; j < V; ++j) {
      sum[j] /= divisor;
    }
    if constexpr (kLp) {
      A v[V];
      load<V>(static_cast<const T*>(a.x) + at, v);
      for (int j = 0; j < V; ++j) {
        sum[j] *= static_cast<A>(pool_taps(p)) *
            power(v[j], static_cast<A>(a.norm - 1));
      }
    }
    store<V>(static_cast<T*>(a.to) + at, sum);
  }
}

template <typename T, bool kLp>
void start(SumParams a, const Queue& queue) {
  const PoolProblem& p = a.p;
  const char* name = kLp ? "lp_pool_input_grad" : "avg_pool_input_grad";
  constexpr int V = kVector<T>;
  a.channels_innermost = channels_first_in_memory(p.x_stride_c, p.channels);
  a.uniform = uniform_divisor(p, a.divisor);
  const int64_t inputs = p.batch * p.channels * pool_in_plane(p);
  const bool aligned = aligned16(a.from) && aligned16(a.to) && aligned16(a.x) &&
      aligned16(a.y); // null is
  if (aligned &&
      channel_vectors(V, p.channels, p.x_stride_n, p.x_stride_c, p.x_stride) &&
      channel_vectors(V, p.channels, p.y_stride_n, p.y_stride_c, p.y_stride)) {
    launch(
        name,
        sum_grad_kernel<T, V, kLp>,
        {pool_blocks(inputs / V), kPoolThreads},
        queue,
        a);
  } else {
    launch(
        name,
        sum_grad_kernel<T, 1, kLp>,
        {pool_blocks(inputs), kPoolThreads},
        queue,
        a);
  }
}

} // namespace

void average_input_grad(
    const PoolProblem& p,
    const PoolDivisor& divisor,
    const void* gy,
    void* gx,
    const Queue& queue) {
  SumParams a{};
  a.p = p;
  a.divisor = divisor;
  a.from = gy;
  a.to = gx;
  if (p.dtype == DType::i64) { // never uniform: each term is divided
    a.channels_innermost = channels_first_in_memory(p.x_stride_c, p.channels);
    launch(
        "avg_pool_input_grad",
        sum_grad_kernel<int64_t, 1, false>,
        {pool_blocks(p.batch * p.channels * pool_in_plane(p)), kPoolThreads},
        queue,
        a);
    return;
  }
  with_floating(p.dtype, "avg_pool_input_grad", [&](auto element) {
    start<typename decltype(element)::type, false>(a, queue);
  });
}

void lp_input_grad(
    const PoolProblem& p,
    double norm,
    const void* gy,
    const void* x,
    const void* y,
    void* gx,
    const Queue& queue) {
  SumParams a{};
  a.p = p;
  a.divisor = {true, true, 0};
  a.norm = norm;
  a.from = gy;
  a.to = gx;
  a.x = x;
  a.y = y;
  with_floating(p.dtype, "lp_pool_input_grad", [&](auto element) {
    start<typename decltype(element)::type, true>(a, queue);
  });
}

} // namespace cuda
} // namespace torchconv
