// depthwise forward and input_grad where channels lie side by side in memory.
//
// Neighbouring threads take neighbouring channels, each a strip of positions of
// kVectors channels 32 apart; a block's warps take neighbouring strips. Source
// elements come straight from global memory; the filters of the block's
// channels lie in shared memory, [tap][channel], as many rows of taps at a
// time as fit.
//
// Compiled for sm_80, sm_90a and PTX; it has not run on hardware yet.
#include <algorithm>
#include <type_traits>

#include "cuda/conv_depthwise.cuh"
#include "cuda/conv_depthwise.h"
#include "cuda/launch.cuh"
#include "cuda/shared.cuh"

namespace torchconv {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kVectors = 2;
constexpr int kChannels = 32 * kVectors; // of a block
constexpr int kFilterTaps = 64; // in shared memory at a time

struct Params {
  Gather g;
  DepthwiseChannels channels;
  StripStep strip;
  int64_t strips; // of a row
  int64_t strip_tiles, channel_tiles, tiles;
};

template <typename E>
__global__ void __launch_bounds__(kThreads)
    columns_kernel(const __grid_constant__ Params params) {
  using A = Acc<E>;
  const Gather& g = params.g;
  const ConvProblem& p = g.p;
  const Shared<A> filter(0, kFilterTaps * kChannels);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t spacing = params.strip.spacing();

  for (int64_t tile = blockIdx.x; tile < params.tiles; tile += gridDim.x) {
    int64_t rest = tile;
    const int64_t channel0 = take(rest, params.channel_tiles) * kChannels;
    int64_t n = take(rest, params.strip_tiles) * kWarps + warp;
    const int64_t f2 = take(rest, g.phases[2]);
    const int64_t f1 = take(rest, g.phases[1]);
    const Axis axis[3] = {
        upwards(g.phase(0, rest)),
        upwards(g.phase(1, f1)),
        upwards(g.phase(2, f2))};
    // Rows innermost, so that the warps of a block read the same source rows.
    const int64_t y = take(n, g.count[1]);
    const int64_t x = params.strip.first(take(n, params.strips));
    const int64_t z = take(n, g.count[0]);
    const bool inside = n < p.batch && z < axis[0].count && y < axis[1].count;
    const int64_t taps =
        axis[0].taps * axis[1].taps * axis[2].taps * params.channels.sources;

    A sum[kVectors][kStrip] = {};
    // The next tap: source channel, and (j0, j1, j2).
    int64_t m = 0, j0 = 0, j1 = 0, j2 = 0;
    for (int64_t done = 0; done < taps; done += kFilterTaps) {
      const int staged = static_cast<int>(
          taps - done < kFilterTaps ? taps - done : kFilterTaps);
      __syncthreads(); // everybody is through with the filter
      for (int e = threadIdx.x; e < staged * kChannels; e += kThreads) {
        const int64_t channel = channel0 + e % kChannels;
        int64_t tap = done + e / kChannels;
        const int64_t t2 = take(tap, axis[2].taps);
        const int64_t t1 = take(tap, axis[1].taps);
        const int64_t t0 = take(tap, axis[0].taps);
        A value = 0;
        if (channel < params.channels.count) {
          const int64_t k = params.channels.filter(channel, tap);
          value = widened(
              static_cast<const E*>(g.w_data)
                  [k * p.w.n + (axis[0].t0 + t0 * axis[0].tstep) * p.w.s[0] +
                   (axis[1].t0 + t1 * axis[1].tstep) * p.w.s[1] +
                   (axis[2].t0 + t2 * axis[2].tstep) * p.w.s[2]]);
        }
        filter.set(e, value);
      }
      __syncthreads();
      for (int k = 0; k < staged;) {
        int count = static_cast<int>(
            axis[2].taps - j2 < kTaps ? axis[2].taps - j2 : kTaps);
        count = staged - k < count ? staged - k : count;
        int64_t row = inside ? n * g.src.n : -1;
        const int64_t part0 = source_offset(
            z * axis[0].a + j0 * axis[0].b + axis[0].c,
            g.src_size[0],
            g.src.s[0],
            g.mode);
        const int64_t part1 = source_offset(
            y * axis[1].a + j1 * axis[1].b + axis[1].c,
            g.src_size[1],
            g.src.s[1],
            g.mode);
        row = row < 0 || part0 < 0 || part1 < 0 ? -1 : row + part0 + part1;
        const int64_t s0 = x * axis[2].a + j2 * axis[2].b + axis[2].c;
        if (row >= 0) {
#pragma unroll
          for (int v = 0; v < kVectors; ++v) {
            const int64_t channel = channel0 + v * 32 + lane;
            if (channel >= params.channels.count) {
              continue;
            }
            const E* src = static_cast<const E*>(g.src_data) + row +
                params.channels.source(channel, m) * g.src.c;
            const auto value = [&](int64_t s) {
              const int64_t o =
                  source_offset(s, g.src_size[2], g.src.s[2], g.mode);
              return o < 0 ? A(0) : widened(src[o]);
            };
            strip_taps(
                sum[v],
                count,
                params.strip.sliding(),
                [&](int s) {
                  return filter.get((k + s) * kChannels + v * 32 + lane);
                },
                [&](int j) { return value(s0 + j * axis[2].b); },
                [&](int e, int s) {
                  return value(s0 + e * axis[2].a + s * axis[2].b);
                });
          }
        }
        k += count;
        j2 += count;
        if (j2 == axis[2].taps) {
          j2 = 0;
          if (++j1 == axis[1].taps) {
            j1 = 0;
            if (++j0 == axis[0].taps) {
              j0 = 0;
              ++m;
            }
          }
        }
      }
    }
    if (!inside) {
      continue;
    }
    const E* bias = static_cast<const E*>(g.bias);
    const int64_t row = n * g.dst.n +
        (axis[0].p0 + z * axis[0].step) * g.dst.s[0] +
        (axis[1].p0 + y * axis[1].step) * g.dst.s[1];
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const int64_t channel = channel0 + v * 32 + lane;
      if (channel >= params.channels.count) {
        continue;
      }
      const A start = bias == nullptr ? A(0) : widened(bias[channel]);
      E* to = static_cast<E*>(g.dst_data) + row + channel * g.dst.c;
#pragma unroll
      for (int e = 0; e < kStrip; ++e) {
        const int64_t i = x + e * spacing;
        if (i < axis[2].count) {
          to[(axis[2].p0 + i * axis[2].step) * g.dst.s[2]] =
              narrowed<E>(sum[v][e] + start);
        }
      }
    }
  }
}

} // namespace

void depthwise_columns(const ConvProblem& p, Pass pass, const ConvTensors& t) {
  Params params = {};
  params.g = gather(p, pass, t);
  const Gather& g = params.g;
  params.channels = depthwise_channels(g);
  params.strip = strip_step(g);
  params.strips = params.strip.strips(g.count[2]);
  params.strip_tiles =
      (p.batch * g.count[0] * g.count[1] * params.strips + kWarps - 1) / kWarps;
  params.channel_tiles = (params.channels.count + kChannels - 1) / kChannels;
  params.tiles = params.strip_tiles * params.channel_tiles * g.all_phases();
  with_conv_type(p.dtype, [&](auto type) {
    using E = decltype(type);
    if constexpr (!std::is_integral_v<E>) {
      launch(
          "conv depthwise",
          columns_kernel<E>,
          {params.tiles,
           kThreads,
           kFilterTaps * kChannels * static_cast<int>(sizeof(Acc<E>))},
          *t.queue,
          params);
    }
  });
}

} // namespace cuda
} // namespace torchconv
