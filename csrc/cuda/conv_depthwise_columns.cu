// depthwise forward and input_grad where channels lie side by side in memory.
//
// A thread takes a strip of positions of two channels side by side, neighbouring
// threads the next two; a block's warps take neighbouring strips. Source elements
// come straight from global memory, both channels in one access where they lie so
// and are aligned; the filters of the block's channels lie in shared memory,
// [tap][channel], as many rows of taps at a time as fit.
//
// Compiled for sm_80, sm_90a and PTX; it has not run on hardware yet.
#include <algorithm>
#include <type_traits>

#include "cuda/conv_depthwise.cuh"
#include "cuda/conv_depthwise.h"
#include "cuda/epilogue.cuh"
#include "cuda/launch.cuh"
#include "cuda/shared.cuh"

namespace torchconv {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kChannels = 32 * 2; // of a block
constexpr int kFilterTaps = 64; // in shared memory at a time

struct Params {
  Gather g;
  DepthwiseChannels channels;
  StripStep strip;
  int64_t strips; // of a row
  int64_t strip_tiles, channel_tiles, tiles;
  bool pairs_in, pairs_out; // two channels are one aligned access
};

template <typename E>
struct alignas(2 * sizeof(E)) Two {
  E e[2];
};

template <typename E>
__global__ void __launch_bounds__(kThreads)
    columns_kernel(const __grid_constant__ Params params) {
  using A = Acc<E>;
  const Gather& g = params.g;
  const ConvProblem& p = g.p;
  const Shared<A> filter(0, kFilterTaps * kChannels);
  const int own = threadIdx.x % 32 * 2; // the first channel, of the block's
  const int warp = threadIdx.x / 32;
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

    const int64_t channel = channel0 + own;
    const bool first = channel < params.channels.count;
    const bool second = channel + 1 < params.channels.count;
    Pair<A> sum[kStrip] = {};
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
        if (row >= 0 && first) {
          const E* src = static_cast<const E*>(g.src_data) + row;
          const int64_t c = params.channels.source(channel, m) * g.src.c;
          const int64_t c1 =
              second ? params.channels.source(channel + 1, m) * g.src.c : c;
          const auto value = [&](int64_t s) -> Pair<A> {
            const int64_t o =
                source_offset(s, g.src_size[2], g.src.s[2], g.mode);
            if (o < 0) {
              return {};
            }
            if (params.pairs_in) {
              const auto two = *reinterpret_cast<const Two<E>*>(src + c + o);
              return {{widened(two.e[0]), widened(two.e[1])}};
            }
            return {{widened(src[c + o]), widened(src[c1 + o])}};
          };
          strip_taps(
              sum,
              count,
              params.strip.sliding(),
              [&](int s) {
                return filter.template get_as<Pair<A>>(
                    (k + s) * kChannels + own);
              },
              [&](int j) { return value(s0 + j * axis[2].b); },
              [&](int e, int s) {
                return value(s0 + e * axis[2].a + s * axis[2].b);
              });
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
    if (!inside || !first) {
      continue;
    }
    const E* bias = static_cast<const E*>(g.bias);
    Pair<A> start = {};
    if (bias != nullptr) {
      start.v[0] = widened(bias[channel]);
      start.v[1] = second ? widened(bias[channel + 1]) : A(0);
    }
    const int64_t row = n * g.dst.n + channel * g.dst.c +
        (axis[0].p0 + z * axis[0].step) * g.dst.s[0] +
        (axis[1].p0 + y * axis[1].step) * g.dst.s[1];
#pragma unroll
    for (int e = 0; e < kStrip; ++e) {
      const int64_t i = x + e * spacing;
      if (i >= axis[2].count) {
        continue;
      }
      const int64_t o = row + (axis[2].p0 + i * axis[2].step) * g.dst.s[2];
      const int64_t o1 = second ? o + g.dst.c : o;
      E* to = static_cast<E*>(g.dst_data);
      const Two<E> both = {
          {finished<E>(g.epilogue, o, sum[e].v[0] + start.v[0]),
           finished<E>(g.epilogue, o1, sum[e].v[1] + start.v[1])}};
      if (params.pairs_out) {
        *reinterpret_cast<Two<E>*>(to + o) = both;
      } else {
        to[o] = both.e[0];
        if (second) {
          to[o1] = both.e[1];
        }
      }
    }
  }
}

// Whether every pair of channels 2 i, 2 i + 1 is one aligned access.
bool in_pairs(const Strides& s, const void* data, int64_t channels, DType t) {
  const auto even = [](int64_t value) { return value % 2 == 0; };
  const auto bytes = static_cast<uintptr_t>(2 * dtype_size(t));
  return s.c == 1 && even(channels) && even(s.n) && even(s.s[0]) &&
      even(s.s[1]) && even(s.s[2]) &&
      reinterpret_cast<uintptr_t>(data) % bytes == 0;
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
  params.pairs_in = params.channels.multiplier == 1 &&
      in_pairs(g.src, g.src_data, params.channels.count, p.dtype);
  params.pairs_out =
      in_pairs(g.dst, g.dst_data, params.channels.count, p.dtype);
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
