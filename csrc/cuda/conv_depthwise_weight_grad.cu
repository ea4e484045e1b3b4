// depthwise weight_grad: gw[k, t] = sum over samples and positions of gy x, for
// every channel k and tap t by itself. Blocks share out the positions
// (conv_splits.cuh); each takes one tap of the first dimension.
//
// rows_kernel, where the positions of a row lie side by side: a block copies
// tiles of one channel's gy, and of what they meet in x with its padding, to
// shared memory. A warp takes kTaps taps of a row of the filter at a time, its
// lanes strips of positions; their sums are added by shuffles, in a fixed order.
//
// columns_kernel, where channels lie side by side: lanes take channels, so each
// has its sums alone. Warps take different taps, or different rows of y.
//
// Compiled for sm_80, sm_90a and PTX; it has not run on hardware yet.
#include <algorithm>
#include <type_traits>

#include "cuda/conv_cost.h"
#include "cuda/conv_depthwise.cuh"
#include "cuda/conv_depthwise.h"
#include "cuda/conv_splits.cuh"
#include "cuda/launch.cuh"
#include "cuda/shared.cuh"

namespace torchconv {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

// sum[s] += sum_i grad(i) x(i, s) for count <= kTaps taps; the arguments are
// those of strip_taps.
template <typename A, typename Value, typename At>
__device__ inline void strip_products(
    A (&sum)[kTaps],
    const A (&grad)[kStrip],
    int count,
    bool sliding,
    const Value& value,
    const At& at) {
  if (sliding) {
    A window[kStrip + kTaps - 1];
#pragma unroll
    for (int j = 0; j < kStrip + kTaps - 1; ++j) {
      if (j < kStrip - 1 + count) {
        window[j] = value(j);
      }
    }
#pragma unroll
    for (int s = 0; s < kTaps; ++s) {
      if (s < count) {
#pragma unroll
        for (int i = 0; i < kStrip; ++i) {
          sum[s] += grad[i] * window[i + s];
        }
      }
    }
    return;
  }
#pragma unroll
  for (int s = 0; s < kTaps; ++s) {
    if (s < count) {
#pragma unroll
      for (int i = 0; i < kStrip; ++i) {
        sum[s] += grad[i] * at(i, s);
      }
    }
  }
}

// -- positions side by side --------------------------------------------------

constexpr int kSharedBytes = 48 * 1024;

struct Tile {
  int height, width, samples;
  int strips; // of `width`
  int region_height, region_pitch; // of a sample's x
  int grad_pitch;
  int sums; // taps of the last two dimensions

  int elements() const {
    return samples * (region_height * region_pitch + height * grad_pitch) +
        sums;
  }
};

struct RowsParams {
  ConvProblem p;
  const void* x;
  const void* y;
  WeightGradSplits splits; // of the tiles of a channel
  StripStep strip;
  Tile tile;
  int64_t row_tiles, width_tiles, blocks;
};

template <typename A>
__device__ A add_lanes(A value) {
#pragma unroll
  for (int by = 16; by > 0; by /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, by);
  }
  return value;
}

template <typename E>
__global__ void __launch_bounds__(kThreads)
    rows_kernel(const __grid_constant__ RowsParams params) {
  using A = Acc<E>;
  const ConvProblem& p = params.p;
  const Tile& t = params.tile;
  const int region_size = t.region_height * t.region_pitch;
  const int grads = t.samples * t.height * t.grad_pitch;
  const Shared<A> region(0, t.samples * region_size);
  const Shared<A> grad(t.samples * region_size * sizeof(A), grads);
  const Shared<A> sums((t.samples * region_size + grads) * sizeof(A), t.sums);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int taps1 = static_cast<int>(p.kernel[1]);
  const int taps2 = static_cast<int>(p.kernel[2]);
  const int runs = (taps2 + kTaps - 1) / kTaps; // of taps of a filter's row
  const int a1 = static_cast<int>(p.stride[1]);
  const int b1 = static_cast<int>(p.dilation[1]);
  const int a2 = static_cast<int>(params.strip.a);
  const int b2 = static_cast<int>(params.strip.b);
  const int spacing = static_cast<int>(params.strip.spacing());

  for (int64_t block = blockIdx.x; block < params.blocks; block += gridDim.x) {
    int64_t k = block;
    const int64_t split = take(k, params.splits.count);
    const int64_t j0 = take(k, p.kernel[0]);
    const E* x = static_cast<const E*>(params.x) + k / p.out_group() * p.x.c;
    const E* y = static_cast<const E*>(params.y) + k * p.y.c;
    __syncthreads(); // everybody is through with the last sums
    for (int e = threadIdx.x; e < t.sums; e += kThreads) {
      sums.set(e, A(0));
    }
    const int64_t end = params.splits.begin(split + 1);
    for (int64_t tile = params.splits.begin(split); tile < end; ++tile) {
      int64_t n0 = tile;
      const int64_t x0 = take(n0, params.width_tiles) * t.width;
      const int64_t y0 = take(n0, params.row_tiles) * t.height;
      const int64_t z = take(n0, p.out[0]);
      n0 *= t.samples;
      const int samples =
          static_cast<int>(p.batch - n0 < t.samples ? p.batch - n0 : t.samples);
      const int64_t part0 = source_offset(
          z * p.stride[0] + j0 * p.dilation[0] - p.low[0],
          p.in[0],
          p.x.s[0],
          p.mode);
      if (part0 < 0) {
        continue; // only zeros
      }
      __syncthreads(); // everybody is through with the last tile
      for (int row = warp; row < samples * t.region_height; row += kWarps) {
        const int64_t part1 = source_offset(
            y0 * p.stride[1] - p.low[1] + row % t.region_height,
            p.in[1],
            p.x.s[1],
            p.mode);
        const E* from =
            x + (n0 + row / t.region_height) * p.x.n + part0 + part1;
        const int64_t s0 = x0 * p.stride[2] - p.low[2];
        for (int c = lane; c < t.region_pitch; c += 32) {
          const int64_t o = source_offset(s0 + c, p.in[2], p.x.s[2], p.mode);
          region.set(
              row * t.region_pitch + c,
              part1 >= 0 && o >= 0 ? widened(from[o]) : A(0));
        }
      }
      for (int row = warp; row < samples * t.height; row += kWarps) {
        const int64_t i = y0 + row % t.height;
        const E* from =
            y + (n0 + row / t.height) * p.y.n + z * p.y.s[0] + i * p.y.s[1];
        for (int c = lane; c < t.grad_pitch; c += 32) {
          const bool inside = i < p.out[1] && c < t.width && x0 + c < p.out[2];
          grad.set(
              row * t.grad_pitch + c,
              inside ? widened(from[(x0 + c) * p.y.s[2]]) : A(0));
        }
      }
      __syncthreads();
      const int items = samples * t.height * t.strips;
      for (int task = warp; task < taps1 * runs; task += kWarps) {
        const int j1 = task / runs, j2 = task % runs * kTaps;
        const int count = taps2 - j2 < kTaps ? taps2 - j2 : kTaps;
        A sum[kTaps] = {};
        for (int item = lane; item < items; item += 32) {
          const int i = item % t.height;
          const int sample = item / t.height % samples;
          const int first =
              static_cast<int>(params.strip.first(item / t.height / samples));
          const int at = sample * region_size +
              (i * a1 + j1 * b1) * t.region_pitch + first * a2 + j2 * b2;
          const int from = (sample * t.height + i) * t.grad_pitch + first;
          A by[kStrip];
#pragma unroll
          for (int e = 0; e < kStrip; ++e) {
            by[e] = grad.get(from + e * spacing);
          }
          strip_products(
              sum,
              by,
              count,
              params.strip.sliding(),
              [&](int j) { return region.get(at + j * b2); },
              [&](int e, int s) { return region.get(at + e * a2 + s * b2); });
        }
#pragma unroll
        for (int s = 0; s < kTaps; ++s) {
          if (s < count) {
            const A total = add_lanes(sum[s]);
            if (lane == 0) { // always the same warp's
              const int tap = j1 * taps2 + j2 + s;
              sums.set(tap, sums.get(tap) + total);
            }
          }
        }
      }
    }
    __syncthreads();
    for (int e = threadIdx.x; e < t.sums; e += kThreads) {
      params.splits.store<E>(p, split, k, j0 * t.sums + e, sums.get(e));
    }
  }
}

int64_t odd(int64_t value) {
  return value | 1;
}

// The largest tile whose shared memory fits; samples is 0 if none does.
Tile choose_tile(const ConvProblem& p) {
  const StripStep strip = {p.stride[2], p.dilation[2]};
  const int64_t wide = kStrip * strip.spacing();
  const int64_t budget =
      kSharedBytes / std::max<int64_t>(dtype_size(p.dtype), 4);
  const int64_t sums = p.kernel[1] * p.kernel[2];
  Tile tile = {};
  const int64_t width = wide *
      std::max<int64_t>(1, std::min((p.out[2] + wide - 1) / wide, 64 / wide));
  for (int64_t height = std::min<int64_t>(std::max<int64_t>(p.out[1], 1), 16);
       height > 0;
       height /= 2) {
    const int64_t region_height =
        (height - 1) * p.stride[1] + (p.kernel[1] - 1) * p.dilation[1] + 1;
    const int64_t region_pitch =
        odd((width - 1) * strip.a + (p.kernel[2] - 1) * strip.b + 1);
    const int64_t one = region_height * region_pitch + height * odd(width);
    if (one + sums > budget) {
      continue;
    }
    const int64_t items = height * strip.strips(width);
    const int64_t samples = std::max<int64_t>(
        1,
        std::min<int64_t>(
            {(128 + items - 1) / items, (budget - sums) / one, p.batch}));
    tile.height = static_cast<int>(height);
    tile.width = static_cast<int>(width);
    tile.samples = static_cast<int>(samples);
    tile.strips = static_cast<int>(strip.strips(width));
    tile.region_height = static_cast<int>(region_height);
    tile.region_pitch = static_cast<int>(region_pitch);
    tile.grad_pitch = static_cast<int>(odd(width));
    tile.sums = static_cast<int>(sums);
    return tile;
  }
  return tile;
}

// What the splits share out.
int64_t row_units(const ConvProblem& p, const Tile& t) {
  return (p.batch + t.samples - 1) / t.samples * p.out[0] *
      ((p.out[1] + t.height - 1) / t.height) *
      ((p.out[2] + t.width - 1) / t.width);
}

// -- channels side by side ---------------------------------------------------

constexpr int kVectors = 2;
constexpr int kChannels = 32 * kVectors; // of a block

struct ColumnsParams {
  ConvProblem p;
  const void* x;
  const void* y;
  WeightGradSplits splits; // of the rows of y
  StripStep strip;
  int64_t strips; // of a row
  int tasks; // runs of taps: kernel[1] * ceil(kernel[2] / kTaps)
  int block_tasks; // of a block; the other warps share its rows
  int64_t task_groups, channel_tiles, blocks;
};

template <typename E>
__global__ void __launch_bounds__(kThreads)
    columns_kernel(const __grid_constant__ ColumnsParams params) {
  using A = Acc<E>;
  const ConvProblem& p = params.p;
  const Shared<A> sums(0, kWarps * kTaps * kChannels);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int shares = kWarps / params.block_tasks; // of the rows
  const int share = warp / params.block_tasks;
  const int runs = static_cast<int>((p.kernel[2] + kTaps - 1) / kTaps);
  const int64_t spacing = params.strip.spacing();

  for (int64_t block = blockIdx.x; block < params.blocks; block += gridDim.x) {
    int64_t rest = block;
    const int64_t channel0 = take(rest, params.channel_tiles) * kChannels;
    const int task0 =
        static_cast<int>(take(rest, params.task_groups)) * params.block_tasks;
    const int64_t j0 = take(rest, p.kernel[0]);
    const int64_t split = rest;
    const int task = task0 + warp % params.block_tasks;
    const int64_t j1 = task / runs, j2 = task % runs * kTaps;
    const int count =
        static_cast<int>(p.kernel[2] - j2 < kTaps ? p.kernel[2] - j2 : kTaps);
    A sum[kVectors][kTaps] = {};
    const int64_t end = params.splits.begin(split + 1);
    for (int64_t row = params.splits.begin(split) + share;
         row < end && share < shares && task < params.tasks;
         row += shares) {
      int64_t n = row;
      const int64_t o1 = take(n, p.out[1]);
      const int64_t o0 = take(n, p.out[0]);
      const int64_t part0 = source_offset(
          o0 * p.stride[0] + j0 * p.dilation[0] - p.low[0],
          p.in[0],
          p.x.s[0],
          p.mode);
      const int64_t part1 = source_offset(
          o1 * p.stride[1] + j1 * p.dilation[1] - p.low[1],
          p.in[1],
          p.x.s[1],
          p.mode);
      if (part0 < 0 || part1 < 0) {
        continue; // only zeros
      }
      const int64_t x_row = n * p.x.n + part0 + part1;
      const int64_t y_row = n * p.y.n + o0 * p.y.s[0] + o1 * p.y.s[1];
      for (int64_t strip = 0; strip < params.strips; ++strip) {
        const int64_t first = params.strip.first(strip);
        const int64_t s0 =
            first * params.strip.a + j2 * params.strip.b - p.low[2];
#pragma unroll
        for (int v = 0; v < kVectors; ++v) {
          const int64_t k = channel0 + v * 32 + lane;
          if (k >= p.out_channels) {
            continue;
          }
          const E* x = static_cast<const E*>(params.x) + x_row +
              k / p.out_group() * p.x.c;
          const E* y = static_cast<const E*>(params.y) + y_row + k * p.y.c;
          A by[kStrip];
#pragma unroll
          for (int e = 0; e < kStrip; ++e) {
            const int64_t o = first + e * spacing;
            by[e] = o < p.out[2] ? widened(y[o * p.y.s[2]]) : A(0);
          }
          const auto value = [&](int64_t s) {
            const int64_t o = source_offset(s, p.in[2], p.x.s[2], p.mode);
            return o < 0 ? A(0) : widened(x[o]);
          };
          strip_products(
              sum[v],
              by,
              count,
              params.strip.sliding(),
              [&](int j) { return value(s0 + j * params.strip.b); },
              [&](int e, int s) {
                return value(s0 + e * params.strip.a + s * params.strip.b);
              });
        }
      }
    }
    __syncthreads(); // everybody is through with the last sums
#pragma unroll
    for (int s = 0; s < kTaps; ++s) {
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
        sums.set((warp * kTaps + s) * kChannels + v * 32 + lane, sum[v][s]);
      }
    }
    __syncthreads();
    for (int e = threadIdx.x; e < params.block_tasks * kTaps * kChannels;
         e += kThreads) {
      const int64_t k = channel0 + e % kChannels;
      const int s = e / kChannels % kTaps;
      const int own = task0 + e / (kChannels * kTaps);
      const int64_t tap2 = own % runs * kTaps + s;
      if (k >= p.out_channels || own >= params.tasks || tap2 >= p.kernel[2]) {
        continue;
      }
      A total = 0;
      for (int i = 0; i < shares; ++i) {
        total += sums.get(i * params.block_tasks * kTaps * kChannels + e);
      }
      const int64_t tap = (j0 * p.kernel[1] + own / runs) * p.kernel[2] + tap2;
      params.splits.store<E>(p, split, k, tap, total);
    }
  }
}

template <typename F>
void with_floating_type(DType dtype, const F& f) {
  with_conv_type(dtype, [&](auto type) {
    if constexpr (!std::is_integral_v<decltype(type)>) {
      f(type);
    }
  });
}

} // namespace

const char* depthwise_weight_grad_refusal(const ConvProblem& p) {
  return !depthwise_by_channels(p) && choose_tile(p).samples == 0
      ? "depthwise keeps what a row of outputs reads in 48 kB of shared "
        "memory; kernel and dilation reach further"
      : nullptr;
}

int64_t depthwise_weight_grad_splits(const ConvProblem& p) {
  if (depthwise_by_channels(p)) {
    const int64_t tiles = (p.out_channels + kChannels - 1) / kChannels;
    return weight_grad_splits(
        tiles * p.kernel[0], p.batch * p.out[0] * p.out[1], 8);
  }
  return weight_grad_splits(
      p.out_channels * p.kernel[0], row_units(p, choose_tile(p)), 2);
}

void depthwise_weight_grad_rows(
    const ConvProblem& p,
    const ConvTensors& t,
    void* space) {
  const Tile tile = choose_tile(p);
  RowsParams params = {};
  params.p = p;
  params.x = t.x;
  params.y = t.y;
  params.strip = {p.stride[2], p.dilation[2]};
  params.tile = tile;
  params.row_tiles = (p.out[1] + tile.height - 1) / tile.height;
  params.width_tiles = (p.out[2] + tile.width - 1) / tile.width;
  params.splits = {
      depthwise_weight_grad_splits(p), row_units(p, tile), space, t.w};
  params.blocks = p.out_channels * p.kernel[0] * params.splits.count;
  with_floating_type(p.dtype, [&](auto type) {
    using E = decltype(type);
    launch(
        "conv depthwise weight_grad",
        rows_kernel<E>,
        {params.blocks,
         kThreads,
         tile.elements() * static_cast<int>(sizeof(Acc<E>))},
        *t.queue,
        params);
  });
  add_splits(p, params.splits, *t.queue);
}

void depthwise_weight_grad_columns(
    const ConvProblem& p,
    const ConvTensors& t,
    void* space) {
  ColumnsParams params = {};
  params.p = p;
  params.x = t.x;
  params.y = t.y;
  params.strip = {p.stride[2], p.dilation[2]};
  params.strips = params.strip.strips(p.out[2]);
  params.tasks =
      static_cast<int>(p.kernel[1] * ((p.kernel[2] + kTaps - 1) / kTaps));
  params.block_tasks = std::min(params.tasks, kWarps);
  params.task_groups =
      (params.tasks + params.block_tasks - 1) / params.block_tasks;
  params.channel_tiles = (p.out_channels + kChannels - 1) / kChannels;
  params.splits = {
      depthwise_weight_grad_splits(p),
      p.batch * p.out[0] * p.out[1],
      space,
      t.w};
  params.blocks = params.channel_tiles * params.task_groups * p.kernel[0] *
      params.splits.count;
  with_floating_type(p.dtype, [&](auto type) {
    using E = decltype(type);
    launch(
        "conv depthwise weight_grad",
        columns_kernel<E>,
        {params.blocks,
         kThreads,
         kWarps * kTaps * kChannels * static_cast<int>(sizeof(Acc<E>))},
        *t.queue,
        params);
  });
  add_splits(p, params.splits, *t.queue);
}

} // namespace cuda
} // namespace torchconv
