// weight_grad as a matrix product whose operands are gathered on the way to
// shared memory: see conv_gemm.h and conv_gemm_tile.cuh.
//
// A chunk is some consecutive output positions of one row of one sample, for an
// output channel (a: of y) or a pair of a channel and a tap (b: of x). Threads
// of a warp take neighbouring rows of a panel, so that channels_last tensors are
// read side by side across the warp, others within a chunk. Blocks share out
// the positions (conv_splits.cuh).
//
// Compiled for sm_80, sm_90a and PTX; it has not run on hardware yet.
#include <algorithm>

#include "cuda/conv_cost.h"
#include "cuda/conv_gather.cuh"
#include "cuda/conv_gemm.h"
#include "cuda/conv_gemm_tile.cuh"
#include "cuda/conv_splits.cuh"
#include "cuda/launch.cuh"

namespace torchconv {
namespace cuda {
namespace {

struct Params {
  ConvProblem p;
  const void* x;
  const void* y;
  WeightGradSplits splits; // of the steps along k
  int64_t row_chunks; // chunks of a row of y
  int64_t row_tiles, column_tiles, tiles;
  bool channels_first; // columns: channels are closer in memory than taps
  bool vector_y; // chunks of y are 16 aligned bytes
};

// A column: a channel and a tap.
struct Column {
  int64_t c, tap[3];
};

__device__ inline Column column_of(const Params& params, int64_t column) {
  const ConvProblem& p = params.p;
  Column r;
  if (params.channels_first) {
    r.c = take(column, p.in_group());
  }
#pragma unroll
  for (int d = 2; d >= 0; --d) {
    r.tap[d] = take(column, p.kernel[d]);
  }
  if (!params.channels_first) {
    r.c = column;
  }
  return r;
}

template <typename Unit, typename E, typename S>
__global__ void __launch_bounds__(S::threads)
    gemm_kernel(const __grid_constant__ Params params) {
  using Block = BlockTile<E, S>;
  constexpr int per = kChunk<E>;
  constexpr int kRowStep = S::threads / kStep;
  constexpr int kSlotsA = S::rows / kRowStep;
  constexpr int kSlotsB = S::columns / kRowStep;
  // Of a column of the tile: its channel's offset, or -1 beyond the last
  // column, and what its tap adds to the coordinates.
  constexpr int kWidth = 4;
  const Shared<int64_t> table(Block::bytes, S::columns * kWidth);
  const ConvProblem& p = params.p;
  const int64_t columns = p.in_group() * p.taps();
  const int chunk_column = threadIdx.x / 32 % kStep;
  const int row0 = threadIdx.x / (32 * kStep) * 32 + threadIdx.x % 32;

  for (int64_t tile = blockIdx.x; tile < params.tiles; tile += gridDim.x) {
    int64_t rest = tile;
    const int64_t first_column = take(rest, params.column_tiles) * S::columns;
    const int64_t first_row = take(rest, params.row_tiles) * S::rows;
    const int64_t split = take(rest, params.splits.count);
    const int64_t group = rest;
    for (int i = threadIdx.x; i < S::columns; i += S::threads) {
      const Column column = column_of(params, first_column + i);
      table.set(i * kWidth, first_column + i < columns ? column.c * p.x.c : -1);
#pragma unroll
      for (int d = 0; d < 3; ++d) {
        table.set(i * kWidth + 1 + d, column.tap[d] * p.dilation[d] - p.low[d]);
      }
    }
    __syncthreads();

    const E* x = static_cast<const E*>(params.x) + group * p.in_group() * p.x.c;
    const E* y = static_cast<const E*>(params.y) +
        (group * p.out_group() + first_row) * p.y.c;
    const int64_t step0 = params.splits.begin(split);
    const int64_t steps = params.splits.begin(split + 1) - step0;
    // The thread's way along k: sample, row of y, chunk of the row.
    int64_t n = step0 * kStep + chunk_column, o[3];
    o[2] = take(n, params.row_chunks);
    o[1] = take(n, p.out[1]);
    o[0] = take(n, p.out[0]);
    Chunk<E> held_a[kSlotsA], held_b[kSlotsB];

    const auto load = [&](const Shared<E>&, int, const Shared<E>&, int) {
      const bool inside = n < p.batch;
      const int64_t first = o[2] * per;
      const int64_t count = p.out[2] - first; // positions left in the row
      const int64_t from =
          n * p.y.n + o[0] * p.y.s[0] + o[1] * p.y.s[1] + first * p.y.s[2];
#pragma unroll
      for (int i = 0; i < kSlotsA; ++i) {
        const int row = row0 + i * kRowStep;
        const bool there = inside && first_row + row < p.out_group();
        const E* at = y + from + row * p.y.c;
        if (params.vector_y) {
          if (there) {
            held_a[i] = *reinterpret_cast<const Chunk<E>*>(at);
          } else {
#pragma unroll
            for (int e = 0; e < per; ++e) {
              held_a[i].e[e] = narrowed<E>(0);
            }
          }
        } else {
#pragma unroll
          for (int e = 0; e < per; ++e) {
            held_a[i].e[e] =
                there && e < count ? at[e * p.y.s[2]] : narrowed<E>(0);
          }
        }
      }
#pragma unroll
      for (int i = 0; i < kSlotsB; ++i) {
        const int column = (row0 + i * kRowStep) * kWidth;
        int64_t offset = inside ? table.get(column) : -1;
#pragma unroll
        for (int d = 0; d < 2; ++d) {
          const int64_t part = source_offset(
              o[d] * p.stride[d] + table.get(column + 1 + d),
              p.in[d],
              p.x.s[d],
              p.mode);
          offset = offset < 0 || part < 0 ? -1 : offset + part;
        }
        const E* at = x + n * p.x.n + offset;
        const int64_t s = first * p.stride[2] + table.get(column + 3);
#pragma unroll
        for (int e = 0; e < per; ++e) {
          const int64_t part =
              source_offset(s + e * p.stride[2], p.in[2], p.x.s[2], p.mode);
          held_b[i].e[e] =
              offset >= 0 && part >= 0 && e < count ? at[part] : narrowed<E>(0);
        }
      }
      o[2] += kStep;
      while (o[2] >= params.row_chunks) {
        o[2] -= params.row_chunks;
        if (++o[1] == p.out[1]) {
          o[1] = 0;
          if (++o[0] == p.out[0]) {
            o[0] = 0;
            ++n;
          }
        }
      }
    };
    const auto keep =
        [&](const Shared<E>& a, int a0, const Shared<E>& b, int b0) {
#pragma unroll
          for (int i = 0; i < kSlotsA; ++i) {
            a.set_as(
                a0 + panel_at<E>(row0 + i * kRowStep, chunk_column), held_a[i]);
          }
#pragma unroll
          for (int i = 0; i < kSlotsB; ++i) {
            b.set_as(
                b0 + panel_at<E>(row0 + i * kRowStep, chunk_column), held_b[i]);
          }
        };
    WarpTile<Unit, E, S::warp_rows, S::warp_columns> warp;
    Block::multiply(warp, steps, load, keep);
    Block::write(warp, false, [&](int row, int column, Acc<E> sum) {
      const int64_t k = first_row + row;
      if (k >= p.out_group() || first_column + column >= columns) {
        return;
      }
      const Column at = column_of(params, first_column + column);
      const int64_t flat =
          ((at.c * p.kernel[0] + at.tap[0]) * p.kernel[1] + at.tap[1]) *
              p.kernel[2] +
          at.tap[2];
      params.splits.store<E>(p, split, group * p.out_group() + k, flat, sum);
    });
  }
}

template <typename Unit, typename E, typename S>
void start(const Params& params, const Queue& queue) {
  launch(
      "conv implicit_gemm weight_grad",
      gemm_kernel<Unit, E, S>,
      {params.tiles, S::threads, BlockTile<E, S>::bytes + S::columns * 4 * 8},
      queue,
      params);
}

using Large = TileShape<128, 128, 64, 32>;
using Small = TileShape<64, 64, 32, 32>;

template <typename Unit, typename E>
void run(bool large, const Params& params, const Queue& queue) {
  if constexpr (sizeof(E) == 2) {
    if (large) {
      return start<Unit, E, Large>(params, queue);
    }
  }
  start<Unit, E, Small>(params, queue);
}

int64_t steps_of(const ConvProblem& p) {
  const int64_t per = 16 / dtype_size(p.dtype);
  const int64_t chunks =
      p.batch * p.out[0] * p.out[1] * ((p.out[2] + per - 1) / per);
  return (chunks + kStep - 1) / kStep;
}

} // namespace

WeightGradGemmPlan weight_grad_gemm_plan(const ConvProblem& p) {
  WeightGradGemmPlan plan = {};
  const int64_t columns = p.in_group() * p.taps();
  plan.large = dtype_size(p.dtype) == 2 && p.out_group() > kSmallTile.rows &&
      columns > kSmallTile.columns;
  const GemmTile& tile = plan.large ? kLargeTile : kSmallTile;
  plan.row_tiles = (p.out_group() + tile.rows - 1) / tile.rows;
  plan.column_tiles = (columns + tile.columns - 1) / tile.columns;
  plan.splits = weight_grad_splits(
      plan.row_tiles * plan.column_tiles * p.groups, steps_of(p), 16);
  plan.parts_bytes = splits_workspace(p, plan.splits);
  return plan;
}

void weight_grad_gemm(
    const ConvProblem& problem,
    const ConvTensors& t,
    void* space,
    bool more,
    bool last) {
  ConvProblem p = problem;
  if (p.out_pixels() == 0) { // sums over nothing; no division by zero
    p.batch = 0;
    for (int d = 0; d < 3; ++d) {
      p.out[d] = 1;
    }
  }
  const WeightGradGemmPlan plan = weight_grad_gemm_plan(p);
  const int64_t per = 16 / dtype_size(p.dtype);
  Params params = {};
  params.p = p;
  params.x = t.x;
  params.y = t.y;
  params.splits = {plan.splits, steps_of(p), space, t.w, more, last};
  params.row_chunks = (p.out[2] + per - 1) / per;
  params.row_tiles = plan.row_tiles;
  params.column_tiles = plan.column_tiles;
  params.tiles = plan.row_tiles * plan.column_tiles * plan.splits * p.groups;
  params.channels_first = p.x.c < p.x.s[2];
  params.vector_y = p.y.s[2] == 1 && p.out[2] % per == 0 &&
      p.y.s[1] % per == 0 && p.y.s[0] % per == 0 && p.y.n % per == 0 &&
      p.y.c % per == 0 && reinterpret_cast<uintptr_t>(t.y) % 16 == 0;
  const Queue& queue = *t.queue;
  switch (p.dtype) {
    case DType::f16:
      run<TensorHalf, __half>(plan.large, params, queue);
      break;
    case DType::bf16:
      run<TensorHalf, __nv_bfloat16>(plan.large, params, queue);
      break;
    case DType::f64:
      run<TensorF64, double>(false, params, queue);
      break;
    default:
      p.tf32 ? run<TensorTf32, float>(false, params, queue)
             : run<Fma, float>(false, params, queue);
  }
  add_splits(p, params.splits, queue);
}

} // namespace cuda
} // namespace torchconv
