// depthwise forward and input_grad where the positions of a row lie side by
// side in memory.
//
// A block computes `height` rows x `width` positions of `planes` planes. It
// copies what they read to shared memory, with padding, in the type of
// accumulation: neighbouring threads copy neighbouring positions. For the
// products neighbouring threads take neighbouring rows, whose pitch is odd, so
// that a warp's reads lie in different banks; results go out by way of shared
// memory, side by side again. Taps of the first dimension are walked outside.
//
// Compiled for sm_80, sm_90a and PTX; it has not run on hardware yet.
#include <algorithm>
#include <type_traits>

#include "cuda/conv_cost.h"
#include "cuda/conv_depthwise.cuh"
#include "cuda/conv_depthwise.h"
#include "cuda/epilogue.cuh"
#include "cuda/launch.cuh"
#include "cuda/shared.cuh"

namespace torchconv {
namespace cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kSharedBytes = 48 * 1024;

struct Tile {
  int height, width, planes;
  int strips; // of `width`
  int region_height, region_pitch; // of a plane's source
  int weights; // of a plane: taps of the last two dimensions
  int out_pitch;

  int elements() const {
    return planes *
        (region_height * region_pitch + weights + height * out_pitch);
  }
};

struct Params {
  Gather g;
  DepthwiseChannels channels;
  StripStep strip;
  Tile tile;
  int64_t row_tiles, width_tiles, plane_tiles, tiles;
};

template <typename E>
__global__ void __launch_bounds__(kThreads)
    rows_kernel(const __grid_constant__ Params params) {
  using A = Acc<E>;
  const Gather& g = params.g;
  const ConvProblem& p = g.p;
  const Tile& t = params.tile;
  const int region_size = t.region_height * t.region_pitch;
  const int regions = t.planes * region_size;
  const int all_weights = t.planes * t.weights;
  const Shared<A> region(0, regions);
  const Shared<A> weights(regions * sizeof(A), all_weights);
  const Shared<A> out(
      (regions + all_weights) * sizeof(A), t.planes * t.height * t.out_pitch);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  constexpr int kWarps = kThreads / 32;
  const int64_t all_planes = p.batch * params.channels.count;

  for (int64_t tile = blockIdx.x; tile < params.tiles; tile += gridDim.x) {
    int64_t rest = tile;
    const int64_t x0 = take(rest, params.width_tiles) * t.width;
    const int64_t y0 = take(rest, params.row_tiles) * t.height;
    const int64_t z = take(rest, g.count[0]);
    const int64_t f2 = take(rest, g.phases[2]);
    const int64_t f1 = take(rest, g.phases[1]);
    const int64_t f0 = take(rest, g.phases[0]);
    const int64_t plane0 = rest * t.planes;
    const int planes = static_cast<int>(
        all_planes - plane0 < t.planes ? all_planes - plane0 : t.planes);
    const Axis axis[3] = {
        upwards(g.phase(0, f0)),
        upwards(g.phase(1, f1)),
        upwards(g.phase(2, f2))};
    if (z >= axis[0].count) {
      continue; // a shorter phase
    }
    const int taps1 = static_cast<int>(axis[1].taps);
    const int taps2 = static_cast<int>(axis[2].taps);

    bool started = false;
    for (int64_t m = 0; m < params.channels.sources; ++m) {
      for (int64_t j0 = 0; j0 < axis[0].taps || !started; ++j0) {
        const bool first = !started;
        started = true;
        const bool any = j0 < axis[0].taps;
        const int64_t plane_offset = any
            ? source_offset(
                  z * axis[0].a + j0 * axis[0].b + axis[0].c,
                  g.src_size[0],
                  g.src.s[0],
                  g.mode)
            : -1;
        __syncthreads(); // everybody is through with what was here
        for (int row = warp; row < planes * t.region_height; row += kWarps) {
          const int i = row % t.region_height;
          const int64_t plane = plane0 + row / t.region_height;
          const int64_t n = plane / params.channels.count;
          const int64_t channel =
              params.channels.source(plane - n * params.channels.count, m);
          const int64_t part = source_offset(
              y0 * axis[1].a + axis[1].c + i,
              g.src_size[1],
              g.src.s[1],
              g.mode);
          const E* from = static_cast<const E*>(g.src_data) + n * g.src.n +
              channel * g.src.c + plane_offset + part;
          const bool inside = plane_offset >= 0 && part >= 0;
          const int64_t s0 = x0 * axis[2].a + axis[2].c;
          for (int c = lane; c < t.region_pitch; c += 32) {
            const int64_t o =
                source_offset(s0 + c, g.src_size[2], g.src.s[2], g.mode);
            region.set(
                row * t.region_pitch + c,
                inside && o >= 0 ? widened(from[o]) : A(0));
          }
        }
        const int own = taps1 * taps2;
        if (any) {
          for (int e = threadIdx.x; e < planes * own; e += kThreads) {
            const int j2 = e % taps2, j1 = e / taps2 % taps1, i = e / own;
            const int64_t plane = plane0 + i;
            const int64_t k =
                params.channels.filter(plane % params.channels.count, m);
            const E* w = static_cast<const E*>(g.w_data) + k * p.w.n;
            weights.set(
                i * t.weights + j1 * taps2 + j2,
                widened(
                    w[(axis[0].t0 + j0 * axis[0].tstep) * p.w.s[0] +
                      (axis[1].t0 + j1 * axis[1].tstep) * p.w.s[1] +
                      (axis[2].t0 + j2 * axis[2].tstep) * p.w.s[2]]));
          }
        }
        __syncthreads();
        const int a1 = static_cast<int>(axis[1].a);
        const int b1 = static_cast<int>(axis[1].b);
        const int a2 = static_cast<int>(params.strip.a);
        const int b2 = static_cast<int>(params.strip.b);
        const int spacing = static_cast<int>(params.strip.spacing());
        const int items = planes * t.height * t.strips;
        for (int item = threadIdx.x; item < items; item += kThreads) {
          const int i = item % t.height;
          const int plane = item / t.height % planes;
          const int strip = item / t.height / planes;
          const int x = static_cast<int>(params.strip.first(strip));
          const int to = (plane * t.height + i) * t.out_pitch + x;
          A sum[kStrip];
#pragma unroll
          for (int e = 0; e < kStrip; ++e) {
            sum[e] = first ? A(0) : out.get(to + e * spacing);
          }
          for (int j1 = 0; any && j1 < taps1; ++j1) {
            const int row = plane * region_size +
                (i * a1 + j1 * b1) * t.region_pitch + x * a2;
            for (int j2 = 0; j2 < taps2; j2 += kTaps) {
              const int count = taps2 - j2 < kTaps ? taps2 - j2 : kTaps;
              const int by = plane * t.weights + j1 * taps2 + j2;
              const int at = row + j2 * b2;
              strip_taps(
                  sum,
                  count,
                  params.strip.sliding(),
                  [&](int s) { return weights.get(by + s); },
                  [&](int j) { return region.get(at + j * b2); },
                  [&](int e, int s) {
                    return region.get(at + e * a2 + s * b2);
                  });
            }
          }
#pragma unroll
          for (int e = 0; e < kStrip; ++e) {
            out.set(to + e * spacing, sum[e]);
          }
        }
      }
    }
    __syncthreads();
    const E* bias = static_cast<const E*>(g.bias);
    for (int row = warp; row < planes * t.height; row += kWarps) {
      const int64_t i = y0 + row % t.height;
      if (i >= axis[1].count) {
        continue;
      }
      const int64_t plane = plane0 + row / t.height;
      const int64_t n = plane / params.channels.count;
      const int64_t channel = plane - n * params.channels.count;
      const A start = bias == nullptr ? A(0) : widened(bias[channel]);
      const int64_t to = n * g.dst.n + channel * g.dst.c +
          (axis[0].p0 + z * axis[0].step) * g.dst.s[0] +
          (axis[1].p0 + i * axis[1].step) * g.dst.s[1];
      for (int c = lane; c < t.width && x0 + c < axis[2].count; c += 32) {
        const int64_t o =
            to + (axis[2].p0 + (x0 + c) * axis[2].step) * g.dst.s[2];
        static_cast<E*>(g.dst_data)[o] =
            finished<E>(g.epilogue, o, out.get(row * t.out_pitch + c) + start);
      }
    }
  }
}

int64_t odd(int64_t value) {
  return value | 1;
}

// The largest tile whose shared memory fits; planes is 0 if none does.
Tile choose_tile(const Gather& g, const StripStep& strip) {
  const int64_t wide = kStrip * strip.spacing();
  const int64_t a1 = g.forward ? g.p.stride[1] : 1;
  const int64_t b1 = g.forward
      ? g.p.dilation[1]
      : g.p.dilation[1] / greatest_divisor(g.p.stride[1], g.p.dilation[1]);
  const int64_t budget =
      kSharedBytes / std::max<int64_t>(dtype_size(g.p.dtype), 4);
  Tile tile = {};
  const int64_t width = wide *
      std::max<int64_t>(1, std::min((g.count[2] + wide - 1) / wide, 64 / wide));
  for (int64_t height = std::min<int64_t>(std::max<int64_t>(g.count[1], 1), 16);
       height > 0;
       height /= 2) {
    const int64_t region_height = (height - 1) * a1 + (g.taps(1) - 1) * b1 + 1;
    const int64_t region_pitch =
        odd((width - 1) * strip.a + (g.taps(2) - 1) * strip.b + 1);
    const int64_t weights = odd(g.taps(1) * g.taps(2));
    const int64_t one =
        region_height * region_pitch + weights + height * odd(width);
    if (one > budget) {
      continue;
    }
    const int64_t items = height * strip.strips(width);
    const int64_t planes = std::max<int64_t>(
        1,
        std::min<int64_t>(
            {(256 + items - 1) / items,
             budget / one,
             std::max<int64_t>(
                 g.p.batch * std::max(g.p.in_channels, g.p.out_channels), 1)}));
    tile.height = static_cast<int>(height);
    tile.width = static_cast<int>(width);
    tile.planes = static_cast<int>(planes);
    tile.strips = static_cast<int>(strip.strips(width));
    tile.region_height = static_cast<int>(region_height);
    tile.region_pitch = static_cast<int>(region_pitch);
    tile.weights = static_cast<int>(weights);
    tile.out_pitch = static_cast<int>(odd(width));
    return tile;
  }
  return tile;
}

} // namespace

const char* depthwise_rows_refusal(const ConvProblem& p, Pass pass) {
  const Gather g = gather(p, pass, {});
  return choose_tile(g, strip_step(g)).planes == 0
      ? "depthwise keeps what a row of outputs reads in 48 kB of shared "
        "memory; kernel and dilation reach further"
      : nullptr;
}

void depthwise_rows(const ConvProblem& p, Pass pass, const ConvTensors& t) {
  Params params = {};
  params.g = gather(p, pass, t);
  const Gather& g = params.g;
  params.channels = depthwise_channels(g);
  params.strip = strip_step(g);
  params.tile = choose_tile(g, params.strip);
  const Tile& tile = params.tile;
  params.row_tiles = (g.count[1] + tile.height - 1) / tile.height;
  params.width_tiles = (g.count[2] + tile.width - 1) / tile.width;
  params.plane_tiles =
      (p.batch * params.channels.count + tile.planes - 1) / tile.planes;
  params.tiles = params.row_tiles * params.width_tiles * params.plane_tiles *
      g.count[0] * g.all_phases();
  with_conv_type(p.dtype, [&](auto type) {
    using E = decltype(type);
    if constexpr (!std::is_integral_v<E>) {
      launch(
          "conv depthwise",
          rows_kernel<E>,
          {params.tiles,
           kThreads,
           tile.elements() * static_cast<int>(sizeof(Acc<E>))},
          *t.queue,
          params);
    }
  });
}

} // namespace cuda
} // namespace torchconv
