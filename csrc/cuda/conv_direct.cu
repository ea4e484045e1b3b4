// direct: register tiles without tensor cores, for everything.
//
// forward and input_grad: a thread keeps kPositions positions x L channels of
// the destination. The block stages the weights of its channels through shared
// memory, [tap][source channel][L]; source elements come straight from global
// memory, where neighbouring threads read neighbouring positions.
//
// weight_grad: a block keeps kRows output channels x kColumns (channel, tap)
// pairs in every thread, whose threads share out the pixels; their sums are
// added in a fixed order by shuffles. Several blocks may share out the pixels
// further (conv_splits.cuh).
//
// Compiled for sm_80, sm_90a and PTX; it has not run on hardware yet.
#include <algorithm>

#include "core/conv_algorithm.h"
#include "cuda/conv_border.h"
#include "cuda/conv_cost.h"
#include "cuda/conv_gather.cuh"
#include "cuda/conv_splits.cuh"
#include "cuda/epilogue.cuh"
#include "cuda/launch.cuh"
#include "cuda/shared.cuh"

namespace torchconv {
namespace cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kPositions = 4; // of a thread
constexpr int kStaged = 256; // steps of the reduction in shared memory

// -- forward and input_grad --------------------------------------------------

struct GatherParams {
  Gather g;
  int64_t lane_tiles, position_tiles, tiles;
};

// The positions of one thread: where they read and write.
template <typename T>
struct Positions {
  bool inside[kPositions];
  int64_t n[kPositions], m[kPositions][3];
  int64_t offset[kPositions]; // in the source, at channel 0; -1: reads zeros
};

// The source offsets of a tap.
template <typename T>
__device__ void aim(
    const Gather& g,
    const Phase (&phase)[3],
    const int64_t (&j)[3],
    Positions<T>& at) {
#pragma unroll
  for (int i = 0; i < kPositions; ++i) {
    int64_t offset = at.inside[i] ? at.n[i] * g.src.n : -1;
#pragma unroll
    for (int d = 0; d < 3; ++d) {
      const int64_t s =
          at.m[i][d] * phase[d].a + j[d] * phase[d].b + phase[d].c;
      const int64_t part = source_offset(s, g.src_size[d], g.src.s[d], g.mode);
      offset = offset < 0 || part < 0 ? -1 : offset + part;
    }
    at.offset[i] = offset;
  }
}

template <typename T, int L>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(const __grid_constant__ GatherParams params) {
  const Gather& g = params.g;
  const Shared<Acc<T>> staged(0, kStaged * L);
  for (int64_t tile = blockIdx.x; tile < params.tiles; tile += gridDim.x) {
    int64_t rest = tile;
    const int64_t lane0 = take(rest, params.lane_tiles) * L;
    const int64_t first =
        take(rest, params.position_tiles) * (kThreads * kPositions);
    const int64_t f2 = take(rest, g.phases[2]);
    const int64_t f1 = take(rest, g.phases[1]);
    const int64_t group = rest / g.phases[0];
    const Phase phase[3] = {
        g.phase(0, rest - group * g.phases[0]), g.phase(1, f1), g.phase(2, f2)};
    const T* src = static_cast<const T*>(g.src_data) + group * g.red * g.src.c;
    const T* w = static_cast<const T*>(g.w_data) + group * g.w_group;

    Positions<T> at;
#pragma unroll
    for (int i = 0; i < kPositions; ++i) {
      int64_t n = first + i * kThreads + threadIdx.x;
      at.m[i][2] = take(n, g.count[2]);
      at.m[i][1] = take(n, g.count[1]);
      at.m[i][0] = take(n, g.count[0]);
      at.n[i] = n;
      at.inside[i] = n < g.p.batch && at.m[i][0] < phase[0].count &&
          at.m[i][1] < phase[1].count && at.m[i][2] < phase[2].count;
    }
    Acc<T> sum[kPositions][L] = {};

    const int64_t taps = phase[0].taps * phase[1].taps * phase[2].taps;
    const int64_t steps = taps * g.red;
    int64_t j[3] = {0, 0, 0}, r = 0; // the step: tap and source channel
    for (int64_t step0 = 0; step0 < steps; step0 += kStaged) {
      const int count =
          static_cast<int>(steps - step0 < kStaged ? steps - step0 : kStaged);
      __syncthreads(); // everybody is through with what was staged
      for (int e = threadIdx.x; e < count * L; e += kThreads) {
        const int64_t lane = lane0 + e % L;
        int64_t tap = step0 + e / L;
        const int64_t red = take(tap, g.red);
        const int64_t j2 = take(tap, phase[2].taps);
        const int64_t j1 = take(tap, phase[1].taps);
        Acc<T> value = 0;
        if (lane < g.lanes) {
          value = widened(
              w[lane * g.w_lane + red * g.w_red +
                (phase[0].t0 + tap * phase[0].tstep) * g.p.w.s[0] +
                (phase[1].t0 + j1 * phase[1].tstep) * g.p.w.s[1] +
                (phase[2].t0 + j2 * phase[2].tstep) * g.p.w.s[2]]);
        }
        staged.set(e, value);
      }
      __syncthreads();
      for (int k = 0; k < count;) {
        if (r == 0) {
          aim(g, phase, j, at);
        }
        const int run =
            static_cast<int>(g.red - r < count - k ? g.red - r : count - k);
        for (int q = 0; q < run; ++q) {
          Acc<T> by[L];
#pragma unroll
          for (int l = 0; l < L; ++l) {
            by[l] = staged.get((k + q) * L + l);
          }
#pragma unroll
          for (int i = 0; i < kPositions; ++i) {
            if (at.offset[i] >= 0) {
              const Acc<T> value =
                  widened(src[at.offset[i] + (r + q) * g.src.c]);
#pragma unroll
              for (int l = 0; l < L; ++l) {
                sum[i][l] += value * by[l];
              }
            }
          }
        }
        k += run;
        r += run;
        if (r == g.red) {
          r = 0;
          if (++j[2] == phase[2].taps) {
            j[2] = 0;
            if (++j[1] == phase[1].taps) {
              j[1] = 0;
              ++j[0];
            }
          }
        }
      }
    }

    T* dst = static_cast<T*>(g.dst_data);
    const T* bias = static_cast<const T*>(g.bias);
#pragma unroll
    for (int i = 0; i < kPositions; ++i) {
      if (!at.inside[i]) {
        continue;
      }
      int64_t offset = at.n[i] * g.dst.n + group * g.lanes * g.dst.c;
#pragma unroll
      for (int d = 0; d < 3; ++d) {
        offset += (phase[d].p0 + at.m[i][d] * phase[d].step) * g.dst.s[d];
      }
#pragma unroll
      for (int l = 0; l < L; ++l) {
        const int64_t lane = lane0 + l;
        if (lane < g.lanes) {
          const Acc<T> start = bias == nullptr
              ? Acc<T>(0)
              : widened(bias[group * g.lanes + lane]);
          const int64_t o = offset + lane * g.dst.c;
          dst[o] = finished<T>(g.epilogue, o, sum[i][l] + start);
        }
      }
    }
  }
}

template <typename T, int L>
void run_gather(const Gather& g, const Queue& queue) {
  GatherParams params = {g, (g.lanes + L - 1) / L, 0, 0};
  const int64_t positions = kThreads * kPositions;
  params.position_tiles = (g.p.batch * g.pixels() + positions - 1) / positions;
  params.tiles =
      params.lane_tiles * params.position_tiles * g.all_phases() * g.p.groups;
  launch(
      "conv direct",
      gather_kernel<T, L>,
      {params.tiles, kThreads, static_cast<int>(kStaged * L * sizeof(Acc<T>))},
      queue,
      params);
}

// -- weight_grad -------------------------------------------------------------

constexpr int kRows = 8; // output channels
constexpr int kColumns = 8; // pairs of a channel and a tap
constexpr int kSums = kRows * kColumns;
constexpr int kWarps = kThreads / 32;
static_assert(kSums <= kThreads, "a thread writes one sum");

struct WeightGradParams {
  ConvProblem p;
  const void* x;
  const void* y;
  WeightGradSplits splits;
  int64_t row_tiles, column_tiles, tiles;
};

template <typename T>
__device__ T add_lanes(T value) {
#pragma unroll
  for (int by = 16; by > 0; by /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, by);
  }
  return value;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    weight_grad_kernel(const __grid_constant__ WeightGradParams params) {
  const ConvProblem& p = params.p;
  // Of each column: the channel's offset in x, and what its tap adds to the
  // coordinates.
  const Shared<int64_t> column(0, kColumns * 4);
  const Shared<Acc<T>> sums(kColumns * 4 * 8, kWarps * kSums);
  const int64_t columns = p.in_group() * p.taps();
  for (int64_t tile = blockIdx.x; tile < params.tiles; tile += gridDim.x) {
    int64_t group = tile;
    const int64_t row0 = take(group, params.row_tiles) * kRows;
    const int64_t column0 = take(group, params.column_tiles) * kColumns;
    const int64_t split = take(group, params.splits.count);
    const T* x = static_cast<const T*>(params.x) + group * p.in_group() * p.x.c;
    const T* y = static_cast<const T*>(params.y) +
        (group * p.out_group() + row0) * p.y.c;
    __syncthreads(); // everybody is through with the last tile's columns
    if (threadIdx.x < kColumns) {
      int64_t c = column0 + threadIdx.x;
      int64_t tap[3];
#pragma unroll
      for (int d = 2; d >= 0; --d) {
        tap[d] = take(c, p.kernel[d]);
      }
      column.set(threadIdx.x * 4, c * p.x.c);
#pragma unroll
      for (int d = 0; d < 3; ++d) {
        column.set(threadIdx.x * 4 + 1 + d, tap[d] * p.dilation[d] - p.low[d]);
      }
    }
    __syncthreads();

    Acc<T> sum[kRows][kColumns] = {};
    const int64_t end = params.splits.begin(split + 1);
    for (int64_t i = params.splits.begin(split) + threadIdx.x; i < end;
         i += kThreads) {
      int64_t n = i, o[3];
#pragma unroll
      for (int d = 2; d >= 0; --d) {
        o[d] = take(n, p.out[d]);
      }
      const T* grad =
          y + n * p.y.n + o[0] * p.y.s[0] + o[1] * p.y.s[1] + o[2] * p.y.s[2];
      Acc<T> by[kRows];
#pragma unroll
      for (int k = 0; k < kRows; ++k) {
        by[k] = row0 + k < p.out_group() ? widened(grad[k * p.y.c]) : Acc<T>(0);
      }
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        int64_t offset = column0 + c < columns ? column.get(c * 4) : -1;
#pragma unroll
        for (int d = 0; d < 3; ++d) {
          const int64_t part = source_offset(
              o[d] * p.stride[d] + column.get(c * 4 + 1 + d),
              p.in[d],
              p.x.s[d],
              p.mode);
          offset = offset < 0 || part < 0 ? -1 : offset + part;
        }
        if (offset >= 0) {
          const Acc<T> value = widened(x[n * p.x.n + offset]);
#pragma unroll
          for (int k = 0; k < kRows; ++k) {
            sum[k][c] += by[k] * value;
          }
        }
      }
    }

    const int warp = threadIdx.x / 32;
#pragma unroll
    for (int k = 0; k < kRows; ++k) {
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        const Acc<T> total = add_lanes(sum[k][c]);
        if (threadIdx.x % 32 == 0) {
          sums.set(warp * kSums + k * kColumns + c, total);
        }
      }
    }
    __syncthreads();
    const int64_t row = row0 + threadIdx.x / kColumns;
    const int64_t col = column0 + threadIdx.x % kColumns;
    if (threadIdx.x < kSums && row < p.out_group() && col < columns) {
      Acc<T> total = 0;
#pragma unroll
      for (int i = 0; i < kWarps; ++i) {
        total += sums.get(i * kSums + threadIdx.x);
      }
      params.splits.store<T>(p, split, group * p.out_group() + row, col, total);
    }
  }
}

struct WeightGradPlan {
  int64_t row_tiles, column_tiles, tiles; // without splits
  int64_t splits;
};

WeightGradPlan weight_grad_plan(const ConvProblem& p) {
  WeightGradPlan plan;
  plan.row_tiles = (p.out_group() + kRows - 1) / kRows;
  plan.column_tiles = (p.in_group() * p.taps() + kColumns - 1) / kColumns;
  plan.tiles = plan.row_tiles * plan.column_tiles * p.groups;
  plan.splits =
      weight_grad_splits(plan.tiles, p.batch * p.out_pixels(), kThreads * 8);
  return plan;
}

template <typename T>
void run_weight_grad(const ConvProblem& p, const ConvTensors& t, void* space) {
  const WeightGradPlan plan = weight_grad_plan(p);
  const WeightGradSplits splits = {
      plan.splits, p.batch * p.out_pixels(), space, t.w};
  launch(
      "conv direct weight_grad",
      weight_grad_kernel<T>,
      {plan.tiles * plan.splits,
       kThreads,
       static_cast<int>(kColumns * 4 * 8 + kWarps * kSums * sizeof(Acc<T>))},
      *t.queue,
      WeightGradParams{
          p,
          t.x,
          t.y,
          splits,
          plan.row_tiles,
          plan.column_tiles,
          plan.tiles * plan.splits});
  add_splits(p, splits, *t.queue);
}

// -- the row -----------------------------------------------------------------

const char* refusal(const ConvProblem&, Pass) {
  return nullptr;
}

int64_t workspace(const ConvProblem& p, Pass pass, int) {
  return pass == Pass::weight_grad
      ? splits_workspace(p, weight_grad_plan(simplified(p)).splits)
      : 0;
}

double cost(const ConvProblem& problem, Pass pass) {
  const ConvProblem p = nominal(simplified(problem), pass);
  const double products = conv_flops(p) / 2;
  const double rate = peak_rate(p, Unit::fma);
  if (pass == Pass::weight_grad) {
    const WeightGradPlan plan = weight_grad_plan(p);
    // 8 x 8 sums for 16 loads and the index arithmetic of 8 taps.
    const double used = 1.0 * p.out_group() * p.in_group() * p.taps() *
        p.groups / (1.0 * plan.tiles * kSums);
    return kernel_cost(
               products,
               rate,
               0.15 * used * fill(1.0 * plan.tiles * plan.splits, 4),
               conv_bytes(p)) +
        (plan.splits > 1 ? 3000 : 0);
  }
  const int64_t lanes = pass == Pass::forward ? p.out_group() : p.in_group();
  const int64_t L = lanes > 2 ? 8 : 2;
  const double used = 1.0 * lanes / ((lanes + L - 1) / L * L);
  const double pixels =
      1.0 * p.batch * (pass == Pass::forward ? p.out_pixels() : p.in_pixels());
  const double blocks = std::max(1.0, pixels / (kThreads * kPositions)) *
      p.groups * ((lanes + L - 1) / L);
  return kernel_cost(
             products,
             rate,
             (L == 8 ? 0.35 : 0.1) * used * fill(blocks, 4),
             conv_bytes(p)) +
      (pass == Pass::input_grad ? border_cost(p) : 0);
}

void run(
    const ConvProblem& problem,
    Pass pass,
    const ConvTensors& t,
    void* space) {
  const ConvProblem p = simplified(problem);
  with_conv_type(p.dtype, [&](auto type) {
    using T = decltype(type);
    if (pass == Pass::weight_grad) {
      run_weight_grad<T>(p, t, space);
      return;
    }
    const Gather g = gather(p, pass, t);
    if (g.lanes > 2) {
      run_gather<T, 8>(g, *t.queue);
    } else {
      run_gather<T, 2>(g, *t.queue);
    }
  });
  if (pass == Pass::input_grad) {
    input_grad_border(p, t);
  }
}

} // namespace

extern const ConvAlgorithm kConvDirect;
const ConvAlgorithm kConvDirect = {"direct", refusal, workspace, cost, run};

} // namespace cuda
} // namespace torchconv
