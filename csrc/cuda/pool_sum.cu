// Average and Lp pooling, forward. One thread for each output, or for 16 bytes
// of channels where these lie side by side. Where windows are large and few, as
// in global pooling, several threads share one: the lanes of a warp if rows are
// read, the rows of a block if channels are.
//
// Compiled for sm_80, sm_90a and PTX; it has not run on hardware yet.
#include "cuda/launch.cuh"
#include "cuda/pool_sum.cuh"
#include "cuda/pool_sum.h"
#include "cuda/shared.cuh"

namespace torchconv {
namespace cuda {
namespace {

// The window of one output and what is read there.
template <typename T, bool kLp>
struct Window {
  using A = compute_t<T>;
  PoolRange d, h, w;
  const T* x; // of the output's sample and channel
  A norm;

  __device__ Window(const SumParams& a, const PoolPlace& o)
      : d(inputs_of(a.p, a.divisor.sliding, 0, o.at[0])),
        h(inputs_of(a.p, a.divisor.sliding, 1, o.at[1])),
        w(inputs_of(a.p, a.divisor.sliding, 2, o.at[2])),
        x(static_cast<const T*>(a.from) + o.n * a.p.x_stride_n +
          o.c * a.p.x_stride_c),
        norm(static_cast<A>(a.norm)) {}

  __device__ int64_t taps() const {
    return (d.end - d.begin) * (h.end - h.begin) * (w.end - w.begin);
  }
  // Offset of tap k, in row-major order.
  __device__ int64_t tap(const PoolProblem& p, int64_t k) const {
    const int64_t iw = w.begin + take(k, w.end - w.begin);
    const int64_t ih = h.begin + take(k, h.end - h.begin);
    return (d.begin + k) * p.x_stride[0] + ih * p.x_stride[1] +
        iw * p.x_stride[2];
  }
  __device__ A term(A v) const {
    if constexpr (kLp) {
      return power(v, norm);
    } else {
      return v;
    }
  }
};

// The output from its window's sum.
template <typename A, bool kLp>
__device__ inline A finished(const SumParams& a, const PoolPlace& o, A sum) {
  const A mean = sum / static_cast<A>(divisor_at(a, o.at[0], o.at[1], o.at[2]));
  if constexpr (kLp) {
    return power(
        mean * static_cast<A>(pool_taps(a.p)), static_cast<A>(1 / a.norm));
  } else {
    return mean;
  }
}

template <typename T, int V, bool kLp>
__device__ inline void put(
    const SumParams& a,
    const PoolPlace& o,
    compute_t<T> (&sum)[V]) {
  for (int j = 0; j < V; ++j) {
    sum[j] = finished<compute_t<T>, kLp>(a, o, sum[j]);
  }
  store<V>(
      static_cast<T*>(a.to) +
          y_offset(a.p, o.n, o.c, o.at[0], o.at[1], o.at[2]),
      sum);
}

template <typename T, int V, bool kLp>
__global__ void __launch_bounds__(kPoolThreads, 3)
    sum_kernel(const __grid_constant__ SumParams a) {
  using A = compute_t<T>;
  const PoolProblem& p = a.p;
  const int64_t vectors = p.channels / V;
  const int64_t total = p.batch * vectors * pool_out_plane(p);
  for (int64_t i = first_piece(); i < total; i += piece_step()) {
    PoolPlace o = pool_place(i, vectors, p.out, a.channels_innermost);
    o.c *= V;
    const Window<T, kLp> window(a, o);
    A sum[V];
    for (int j = 0; j < V; ++j) {
      sum[j] = 0;
    }
    for (int64_t d = window.d.begin; d < window.d.end; ++d) {
      for (int64_t h = window.h.begin; h < window.h.end; ++h) {
        const T* row = window.x + d * p.x_stride[0] + h * p.x_stride[1];
#pragma unroll 4
        for (int64_t w = window.w.begin; w < window.w.end; ++w) {
          A v[V];
          load<V>(row + w * p.x_stride[2], v);
          for (int j = 0; j < V; ++j) {
            sum[j] += window.term(v[j]);
          }
        }
      }
    }
    put<T, V, kLp>(a, o, sum);
  }
}

template <typename T, bool kLp>
__global__ void sum_warp_kernel(const __grid_constant__ SumParams a) {
  using A = compute_t<T>;
  const PoolProblem& p = a.p;
  const int64_t total = p.batch * p.channels * pool_out_plane(p);
  const int lane = static_cast<int>(threadIdx.x) % warpSize;
  for (int64_t i = first_piece() / warpSize; i < total;
       i += piece_step() / warpSize) {
    const PoolPlace o = pool_place(i, p.channels, p.out, false);
    const Window<T, kLp> window(a, o);
    const int64_t taps = window.taps();
    A sum[1] = {0};
#pragma unroll 4
    for (int64_t k = lane; k < taps; k += warpSize) {
      sum[0] += window.term(widened(window.x[window.tap(p, k)]));
    }
    for (int step = warpSize / 2; step > 0; step /= 2) {
      sum[0] += __shfl_xor_sync(0xffffffffu, sum[0], step);
    }
    if (lane == 0) {
      put<T, 1, kLp>(a, o, sum);
    }
  }
}

constexpr int kParts = kPoolThreads / 32; // threads that share a window

template <typename T, int V, bool kLp>
__global__ void __launch_bounds__(kPoolThreads, 2)
    sum_block_kernel(const __grid_constant__ SumParams a) {
  using A = compute_t<T>;
  const PoolProblem& p = a.p;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int part = static_cast<int>(threadIdx.x) / 32;
  const Shared<A> sums(0, kPoolThreads * V);
  const int64_t vectors = p.channels / V, groups = ceil_div(vectors, 32);
  const int64_t total = p.batch * groups * pool_out_plane(p);
  for (int64_t i = blockIdx.x; i < total; i += gridDim.x) {
    PoolPlace o = pool_place(i, groups, p.out, true);
    o.c = (o.c * 32 + lane) * V;
    const bool inside = o.c < p.channels;
    A sum[V];
    for (int j = 0; j < V; ++j) {
      sum[j] = 0;
    }
    if (inside) {
      const Window<T, kLp> window(a, o);
      const int64_t taps = window.taps();
#pragma unroll 4
      for (int64_t k = part; k < taps; k += kParts) {
        A v[V];
        load<V>(window.x + window.tap(p, k), v);
        for (int j = 0; j < V; ++j) {
          sum[j] += window.term(v[j]);
        }
      }
    }
    for (int j = 0; j < V; ++j) {
      sums.set((part * V + j) * 32 + lane, sum[j]);
    }
    __syncthreads();
    if (inside && part == 0) {
      for (int other = 1; other < kParts; ++other) {
        for (int j = 0; j < V; ++j) {
          sum[j] += sums.get((other * V + j) * 32 + lane);
        }
      }
      put<T, V, kLp>(a, o, sum);
    }
    __syncthreads();
  }
}

template <typename T, bool kLp>
void start(SumParams a, const Queue& queue) {
  using A = compute_t<T>;
  const PoolProblem& p = a.p;
  const char* name = kLp ? "lp_pool" : "avg_pool";
  constexpr int V = kVector<T>;
  a.channels_innermost = channels_first_in_memory(p.y_stride_c, p.channels);
  const int64_t outputs = p.batch * p.channels * pool_out_plane(p);
  int64_t taps = 1;
  for (int i = 0; i < 3; ++i) {
    taps *= a.divisor.sliding ? p.kernel[i] : ceil_div(p.in[i], p.out[i]);
  }
  const int64_t apart = a.divisor.sliding ? p.stride[2] : p.in[2] / p.out[2];
  // None of this depends on the batch: a sample's result must not.
  const bool few = pool_out_plane(p) * p.channels / V < 8192;
  if (aligned16(a.from) && aligned16(a.to) &&
      channel_vectors(V, p.channels, p.x_stride_n, p.x_stride_c, p.x_stride) &&
      channel_vectors(V, p.channels, p.y_stride_n, p.y_stride_c, p.y_stride)) {
    if (taps >= 32 && few) {
      launch(
          name,
          sum_block_kernel<T, V, kLp>,
          {p.batch * ceil_div(p.channels / V, 32) * pool_out_plane(p),
           kPoolThreads,
           static_cast<int>(kPoolThreads * V * sizeof(A))},
          queue,
          a);
    } else {
      launch(
          name,
          sum_kernel<T, V, kLp>,
          {pool_blocks(outputs / V), kPoolThreads},
          queue,
          a);
    }
  } else if (p.x_stride[2] == 1 && taps >= 32 && apart >= 4) {
    launch(
        name,
        sum_warp_kernel<T, kLp>,
        {pool_blocks(outputs * 32), kPoolThreads},
        queue,
        a);
  } else {
    launch(
        name,
        sum_kernel<T, 1, kLp>,
        {pool_blocks(outputs), kPoolThreads},
        queue,
        a);
  }
}

} // namespace

void average(
    const PoolProblem& p,
    const PoolDivisor& divisor,
    const void* x,
    void* y,
    const Queue& queue) {
  SumParams a{};
  a.p = p;
  a.divisor = divisor;
  a.from = x;
  a.to = y;
  if (p.dtype == DType::i64) {
    a.channels_innermost = channels_first_in_memory(p.y_stride_c, p.channels);
    launch(
        "avg_pool",
        sum_kernel<int64_t, 1, false>,
        {pool_blocks(p.batch * p.channels * pool_out_plane(p)), kPoolThreads},
        queue,
        a);
    return;
  }
  with_floating(p.dtype, "avg_pool", [&](auto element) {
    start<typename decltype(element)::type, false>(a, queue);
  });
}

void lp(
    const PoolProblem& p,
    double norm,
    const void* x,
    void* y,
    const Queue& queue) {
  SumParams a{};
  a.p = p;
  a.divisor = {true, true, 0};
  a.norm = norm;
  a.from = x;
  a.to = y;
  with_floating(p.dtype, "lp_pool", [&](auto element) {
    start<typename decltype(element)::type, true>(a, queue);
  });
}

} // namespace cuda
} // namespace torchconv
