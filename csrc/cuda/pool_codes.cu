// The gradient of max pooling over known windows, and reading at codes. In the
// gradient each input gathers from the windows that hold it, in their order: no
// atomics, and the same bits in every run. Threads take an input each, or 16
// bytes of channels where these lie side by side.
//
// Compiled for sm_80, sm_90a and PTX; it has not run on hardware yet.
#include "cuda/pool_codes.h"

#include "cuda/element.cuh"
#include "cuda/launch.cuh"
#include "cuda/pool_codes.cuh"

namespace torchconv {
namespace cuda {
namespace {

struct Params {
  PoolCodes k;
  const void* from;
  void* to;
  bool channels_innermost;
};

// The windows along one dimension that hold input position i, and what i is in
// them: tap number (at - o * stride) / dilation of window o.
struct Holders {
  PoolRange windows;
  int64_t at, stride, dilation;

  // The tap of window o, or -1: a dilated window may step over the position.
  __device__ int64_t tap(int64_t o) const {
    const int64_t distance = at - o * stride;
    if (dilation == 1) {
      return distance;
    }
    const int64_t tap = distance / dilation;
    return tap * dilation == distance ? tap : -1;
  }
};

__device__ inline Holders holders_of(const PoolProblem& p, int dim, int64_t i) {
  return {
      pool_outputs_of(p, dim, i),
      i + p.padding[dim],
      p.stride[dim],
      p.dilation[dim]};
}

// V codes side by side.
template <int V>
__device__ inline void read_codes(
    const PoolCodes& k,
    int64_t at,
    int64_t (&codes)[V]) {
  if constexpr (V == 8 || V == 4 || V == 2) {
    if (k.kind == CodeKind::u8) { // aligned: see channel_vectors
      struct alignas(V) Bytes {
        uint8_t b[V];
      };
      const Bytes bytes = *reinterpret_cast<const Bytes*>(
          static_cast<const uint8_t*>(k.codes) + at);
      for (int j = 0; j < V; ++j) {
        codes[j] = bytes.b[j];
      }
      return;
    }
  }
  for (int j = 0; j < V; ++j) {
    codes[j] = read_code(k, at + j);
  }
}

template <typename T, int V>
__global__ void __launch_bounds__(kPoolThreads, V == 1 ? 3 : 2)
    window_scatter_kernel(const __grid_constant__ Params a) {
  using A = compute_t<T>;
  const PoolProblem& p = a.k.p;
  const bool taps = a.k.kind == CodeKind::u8;
  const T* grad = static_cast<const T*>(a.from);
  const int64_t vectors = p.channels / V;
  const int64_t total = p.batch * vectors * pool_in_plane(p);
  for (int64_t i = first_piece(); i < total; i += piece_step()) {
    PoolPlace x = pool_place(i, vectors, p.in, a.channels_innermost);
    x.c *= V;
    const Holders d = holders_of(p, 0, x.at[0]);
    const Holders h = holders_of(p, 1, x.at[1]);
    const Holders w = holders_of(p, 2, x.at[2]);
    const int64_t flat = (x.at[0] * p.in[1] + x.at[1]) * p.in[2] + x.at[2];
    A sum[V];
    for (int j = 0; j < V; ++j) {
      sum[j] = 0;
    }
    for (int64_t od = d.windows.begin; od < d.windows.end; ++od) {
      const int64_t td = d.tap(od);
      for (int64_t oh = h.windows.begin; oh < h.windows.end; ++oh) {
        const int64_t th = h.tap(oh);
        for (int64_t ow = w.windows.begin; ow < w.windows.end; ++ow) {
          const int64_t tw = w.tap(ow);
          if ((td | th | tw) < 0) {
            continue;
          }
          const int64_t mine =
              taps ? (td * p.kernel[1] + th) * p.kernel[2] + tw : flat;
          int64_t codes[V];
          read_codes<V>(a.k, code_offset(a.k, x.n, x.c, od, oh, ow), codes);
          A g[V];
          load<V>(grad + y_offset(p, x.n, x.c, od, oh, ow), g);
          for (int j = 0; j < V; ++j) {
            sum[j] += codes[j] == mine ? g[j] : A(0);
          }
        }
      }
    }
    store<V>(
        static_cast<T*>(a.to) +
            x_offset(p, x.n, x.c, x.at[0], x.at[1], x.at[2]),
        sum);
  }
}

template <typename T>
__global__ void gather_kernel(const __grid_constant__ Params a) {
  const PoolProblem& p = a.k.p;
  const int64_t total = p.batch * p.channels * pool_out_plane(p);
  for (int64_t i = first_piece(); i < total; i += piece_step()) {
    const PoolPlace o = pool_place(i, p.channels, p.out, a.channels_innermost);
    const int64_t code =
        read_code(a.k, code_offset(a.k, o.n, o.c, o.at[0], o.at[1], o.at[2]));
    int64_t flat, offset;
    const bool there = pointed_at(a.k, o, code, flat, offset);
    static_cast<T*>(a.to)[y_offset(p, o.n, o.c, o.at[0], o.at[1], o.at[2])] =
        there ? static_cast<const T*>(a.from)[offset] : T(0);
  }
}

template <typename T>
void start_scatter(Params a, const Queue& queue) {
  const PoolCodes& k = a.k;
  const PoolProblem& p = k.p;
  constexpr int V = kVector<T>;
  a.channels_innermost = channels_first_in_memory(p.x_stride_c, p.channels);
  const int64_t inputs = p.batch * p.channels * pool_in_plane(p);
  const bool vectors = aligned16(a.from) && aligned16(a.to) &&
      aligned16(k.codes) &&
      channel_vectors(V, p.channels, p.x_stride_n, p.x_stride_c, p.x_stride) &&
      channel_vectors(V, p.channels, p.y_stride_n, p.y_stride_c, p.y_stride) &&
      channel_vectors(V, p.channels, k.c_stride_n, k.c_stride_c, k.c_stride);
  if (vectors) {
    launch(
        "pool_scatter",
        window_scatter_kernel<T, V>,
        {pool_blocks(inputs / V), kPoolThreads},
        queue,
        a);
  } else {
    launch(
        "pool_scatter",
        window_scatter_kernel<T, 1>,
        {pool_blocks(inputs), kPoolThreads},
        queue,
        a);
  }
}

} // namespace

int64_t scatter_workspace(const PoolCodes& k) {
  return codes_of_windows(k) ? 0 : list_workspace(k);
}

void pool_scatter(
    const PoolCodes& k,
    const void* grad,
    void* gx,
    void* workspace,
    const Queue& queue) {
  if (!codes_of_windows(k)) {
    scatter_by_list(k, grad, gx, workspace, queue);
    return;
  }
  with_floating(k.p.dtype, "pool_scatter", [&](auto element) {
    start_scatter<typename decltype(element)::type>(
        Params{k, grad, gx, false}, queue);
  });
}

void pool_gather(
    const PoolCodes& k,
    const void* x,
    void* out,
    const Queue& queue) {
  const PoolProblem& p = k.p;
  const Params a{k, x, out, channels_first_in_memory(p.y_stride_c, p.channels)};
  with_bits(dtype_size(p.dtype), [&](auto element) {
    launch(
        "pool_gather",
        gather_kernel<typename decltype(element)::type>,
        {pool_blocks(p.batch * p.channels * pool_out_plane(p)), kPoolThreads},
        queue,
        a);
  });
}

} // namespace cuda
} // namespace torchconv
