// The sum over batch and space, in two passes: blocks sum parts of the positions
// for a few channels each, then a thread for each channel adds up the parts in
// their order. The threads of a block are `lanes` along the channels times
// `rows` along the positions: all of them rows where positions lie side by side,
// up to 32 lanes of 16 bytes where channels do.
//
// Compiled for sm_80, sm_90a and PTX; it has not run on hardware yet.
#include "cuda/channel_sum.h"

#include "core/pool_problem.h"
#include "cuda/element.cuh"
#include "cuda/launch.cuh"
#include "cuda/shared.cuh"

namespace torchconv {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kPerThread = 32; // positions, at least
constexpr int64_t kMostBlocks = 2048;

struct Params {
  const void* x;
  void* out;
  void* parts; // [parts][channels], of the type of arithmetic
  int64_t channels, stride_c;
  // The positions: batch and space, merged where strides allow.
  int dims;
  int64_t size[4], stride[4], positions;
  int lanes, rows;
  int64_t part_count;
};

__device__ inline int64_t position_offset(const Params& p, int64_t i) {
  int64_t offset = 0;
  for (int d = p.dims - 1; d > 0; --d) {
    const int64_t outer = i / p.size[d];
    offset += (i - outer * p.size[d]) * p.stride[d];
    i = outer;
  }
  return offset + i * p.stride[0];
}

template <typename T, int V>
__global__ void __launch_bounds__(kThreads, 2)
    part_kernel(const __grid_constant__ Params p) {
  using A = compute_t<T>;
  const Shared<A> sums(0, kThreads * V);
  const int lane = static_cast<int>(threadIdx.x) % p.lanes;
  const int row = static_cast<int>(threadIdx.x) / p.lanes;
  const int64_t groups = ceil_div(p.channels, int64_t{p.lanes} * V);
  const int64_t total = groups * p.part_count;
  const int64_t per_part = ceil_div(p.positions, p.part_count);
  for (int64_t b = blockIdx.x; b < total; b += gridDim.x) {
    const int64_t part = b / groups;
    const int64_t c = (b % groups * p.lanes + lane) * V;
    const int64_t begin = part * per_part;
    const int64_t end =
        begin + per_part < p.positions ? begin + per_part : p.positions;
    A sum[V];
    for (int j = 0; j < V; ++j) {
      sum[j] = 0;
    }
    if (c < p.channels) {
      const T* x = static_cast<const T*>(p.x) + c * p.stride_c;
#pragma unroll 4
      for (int64_t i = begin + row; i < end; i += p.rows) {
        A v[V];
        load<V>(x + position_offset(p, i), v);
        for (int j = 0; j < V; ++j) {
          sum[j] += v[j];
        }
      }
    }
    for (int j = 0; j < V; ++j) {
      sums.set(j * kThreads + static_cast<int>(threadIdx.x), sum[j]);
    }
    for (int half = p.rows / 2; half > 0; half /= 2) {
      __syncthreads();
      if (row < half) {
        for (int j = 0; j < V; ++j) {
          const int at = j * kThreads + static_cast<int>(threadIdx.x);
          sums.set(at, sums.get(at) + sums.get(at + half * p.lanes));
        }
      }
    }
    if (row == 0 && c < p.channels) {
      for (int j = 0; j < V; ++j) {
        static_cast<A*>(p.parts)[part * p.channels + c + j] =
            sums.get(j * kThreads + lane);
      }
    }
    __syncthreads();
  }
}

template <typename T>
__global__ void total_kernel(const __grid_constant__ Params p) {
  using A = compute_t<T>;
  int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (; c < p.channels; c += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    A sum = 0;
    for (int64_t part = 0; part < p.part_count; ++part) {
      sum += static_cast<const A*>(p.parts)[part * p.channels + c];
    }
    static_cast<T*>(p.out)[c] = narrowed<T>(sum);
  }
}

// Elements of one access: 1 unless channels lie side by side.
int vector_of(const ChannelSum& s) {
  const int v = static_cast<int>(16 / dtype_size(s.dtype));
  const bool vectors = s.stride_c == 1 && s.channels % v == 0 &&
      s.stride_n % v == 0 && s.stride[0] % v == 0 && s.stride[1] % v == 0 &&
      s.stride[2] % v == 0;
  return vectors ? v : 1;
}

Params plan(const ChannelSum& s, int vector) {
  Params p{};
  p.channels = s.channels;
  p.stride_c = s.stride_c;
  const int64_t size[4] = {s.batch, s.size[0], s.size[1], s.size[2]};
  const int64_t stride[4] = {s.stride_n, s.stride[0], s.stride[1], s.stride[2]};
  p.positions = 1;
  for (int d = 0; d < 4; ++d) {
    p.positions *= size[d];
    if (size[d] == 1) {
      continue;
    }
    if (p.dims > 0 && p.stride[p.dims - 1] == size[d] * stride[d]) {
      p.size[p.dims - 1] *= size[d];
      p.stride[p.dims - 1] = stride[d];
    } else {
      p.size[p.dims] = size[d];
      p.stride[p.dims] = stride[d];
      ++p.dims;
    }
  }
  if (p.dims == 0) {
    p.size[0] = 1;
    p.dims = 1;
  }
  p.lanes = 1;
  if (s.stride_c == 1) {
    while (p.lanes < 32 && int64_t{p.lanes} * vector < s.channels) {
      p.lanes *= 2;
    }
  }
  p.rows = kThreads / p.lanes;
  const int64_t groups = ceil_div(s.channels, int64_t{p.lanes} * vector);
  const int64_t wanted = ceil_div(p.positions, p.rows * kPerThread);
  const int64_t allowed = groups < kMostBlocks ? kMostBlocks / groups : 1;
  p.part_count = wanted < 1 ? 1 : wanted < allowed ? wanted : allowed;
  return p;
}

template <typename T, int V>
void start(Params p, const Queue& queue) {
  using A = compute_t<T>;
  const int64_t groups = ceil_div(p.channels, int64_t{p.lanes} * V);
  launch(
      "channel_sum",
      part_kernel<T, V>,
      {groups * p.part_count,
       kThreads,
       static_cast<int>(kThreads * V * sizeof(A))},
      queue,
      p);
  launch(
      "channel_sum",
      total_kernel<T>,
      {ceil_div(p.channels, kThreads), kThreads},
      queue,
      p);
}

} // namespace

int64_t channel_sum_workspace(const ChannelSum& s) {
  // Of at most 8 bytes each; either vector width may be the one that is used.
  const int64_t parts = plan(s, vector_of(s)).part_count;
  const int64_t others = plan(s, 1).part_count;
  return (parts > others ? parts : others) * s.channels * 8;
}

void channel_sum(
    const ChannelSum& s,
    const void* x,
    void* out,
    void* workspace,
    const Queue& queue) {
  const int vector = aligned16(x) ? vector_of(s) : 1;
  Params p = plan(s, vector);
  p.x = x;
  p.out = out;
  p.parts = workspace;
  if (s.dtype == DType::i64) {
    return vector == 2 ? start<int64_t, 2>(p, queue)
                       : start<int64_t, 1>(p, queue);
  }
  with_floating(s.dtype, "channel_sum", [&](auto element) {
    using T = typename decltype(element)::type;
    if (vector == kVector<T>) {
      start<T, kVector<T>>(p, queue);
    } else {
      start<T, 1>(p, queue);
    }
  });
}

} // namespace cuda
} // namespace torchconv
