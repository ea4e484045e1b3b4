// im2col: columns written out in blocks of at most kColumnBytes (or one panel),
// each then multiplied by the product of implicit_gemm, which reads them instead
// of the source. For when the gather itself is what costs: every element of the
// columns is computed once, whatever number of column tiles read it.
//
// weight_grad: a block holds the columns of some rows of y, [position][channel,
// tap]; the product is that of a pointwise convolution, and adds to the sums of
// the blocks before.
//
// Compiled for sm_80, sm_90a and PTX; it has not run on hardware yet.
#include <algorithm>
#include <type_traits>

#include "cuda/conv_border.h"
#include "cuda/conv_cost.h"
#include "cuda/conv_gather.cuh"
#include "cuda/conv_gemm.h"
#include "cuda/conv_splits.cuh"
#include "cuda/launch.cuh"
#include "cuda/limits.h"

namespace torchconv {
namespace cuda {
namespace {

constexpr int kThreads = 256;

// -- forward and input_grad --------------------------------------------------

struct GatherParams {
  Gather g;
  void* columns;
  int64_t first, last; // panels
  int64_t rows; // of a panel
  int64_t row_tiles;
  int64_t channels; // source channels, padded
};

template <typename E>
__global__ void gather_columns(const __grid_constant__ GatherParams params) {
  const Gather& g = params.g;
  const int64_t taps[3] = {g.taps(0), g.taps(1), g.taps(2)};
  const int64_t total = (params.last - params.first) * params.rows * taps[0] *
      taps[1] * taps[2] * params.channels;
  for (int64_t e = first_piece(); e < total; e += piece_step()) {
    int64_t rest = e, j[3], m[3], f[3];
    const int64_t red = take(rest, params.channels);
    // Taps lie as close as their phase has of them (conv_gemm.h), so that a
    // phase with fewer leaves the end of its rows free.
    int64_t tap = take(rest, taps[0] * taps[1] * taps[2]);
    int64_t n = take(rest, params.rows);
    int64_t group = params.first + rest;
    n += take(group, params.row_tiles) * params.rows;
#pragma unroll
    for (int d = 2; d >= 0; --d) {
      f[d] = take(group, g.phases[d]);
    }
#pragma unroll
    for (int d = 2; d >= 0; --d) {
      m[d] = take(n, g.count[d]);
    }
    const Phase phase[3] = {
        g.phase(0, f[0]), g.phase(1, f[1]), g.phase(2, f[2])};
    if (tap >= phase[0].taps * phase[1].taps * phase[2].taps) {
      continue;
    }
    int64_t offset = n < g.p.batch && red < g.red
        ? n * g.src.n + (group * g.red + red) * g.src.c
        : -1;
#pragma unroll
    for (int d = 2; d >= 0; --d) {
      j[d] = take(tap, phase[d].taps);
      const int64_t part = source_offset(
          m[d] * phase[d].a + j[d] * phase[d].b + phase[d].c,
          g.src_size[d],
          g.src.s[d],
          g.mode);
      offset =
          offset < 0 || part < 0 || m[d] >= phase[d].count ? -1 : offset + part;
    }
    static_cast<E*>(params.columns)[e] =
        offset < 0 ? narrowed<E>(0) : static_cast<const E*>(g.src_data)[offset];
  }
}

struct GatherBlocks {
  int64_t rows, panels; // of a panel; in all
  int64_t channels;
  int64_t panel_bytes;
  int64_t block; // panels of a block
};

GatherBlocks gather_blocks(const ConvProblem& p, Pass pass) {
  const GatherGemmPlan plan = gather_gemm_plan(p, pass, nullptr);
  const Gather g = gather(p, pass, {});
  const int64_t size = dtype_size(p.dtype), per = 16 / size;
  GatherBlocks b;
  b.rows = (plan.large ? kLargeTile : kSmallTile).rows;
  b.panels = plan.row_tiles * g.all_phases() * p.groups;
  b.channels = (g.red + per - 1) / per * per;
  b.panel_bytes =
      b.rows * g.taps(0) * g.taps(1) * g.taps(2) * b.channels * size;
  b.block = std::max<int64_t>(
      1,
      std::min(b.panels, kColumnBytes / std::max<int64_t>(b.panel_bytes, 1)));
  return b;
}

int64_t packed_bytes(const ConvProblem& p, Pass pass) {
  const GatherGemmPlan plan = gather_gemm_plan(p, pass, nullptr);
  return plan.parts_bytes + plan.packed_bytes;
}

template <typename E>
void run_gather(
    const ConvProblem& p,
    Pass pass,
    const ConvTensors& t,
    void* space) {
  const GatherBlocks b = gather_blocks(p, pass);
  GatherParams params = {};
  params.g = gather(p, pass, t);
  params.columns = space;
  params.rows = b.rows;
  params.row_tiles = gather_gemm_plan(p, pass, nullptr).row_tiles;
  params.channels = b.channels;
  char* packed = static_cast<char*>(space) + b.block * b.panel_bytes;
  for (int64_t first = 0; first < b.panels; first += b.block) {
    params.first = first;
    params.last = std::min(first + b.block, b.panels);
    const int64_t total =
        (params.last - first) * b.panel_bytes / static_cast<int64_t>(sizeof(E));
    launch(
        "conv im2col columns",
        gather_columns<E>,
        {(total + kThreads - 1) / kThreads, kThreads},
        *t.queue,
        params);
    const Columns columns = {space, first, params.last};
    gather_gemm(p, pass, t, packed, &columns);
  }
}

// -- weight_grad -------------------------------------------------------------

struct WeightGradParams {
  ConvProblem p;
  const void* x;
  void* columns; // [row of y][position][group][channel][tap]
  int64_t first, last; // rows of y
};

template <typename E>
__global__ void weight_grad_columns(
    const __grid_constant__ WeightGradParams params) {
  const ConvProblem& p = params.p;
  const int64_t total =
      (params.last - params.first) * p.out[2] * p.in_channels * p.taps();
  for (int64_t e = first_piece(); e < total; e += piece_step()) {
    int64_t rest = e, tap[3], o[3];
#pragma unroll
    for (int d = 2; d >= 0; --d) {
      tap[d] = take(rest, p.kernel[d]);
    }
    const int64_t channel = take(rest, p.in_channels);
    o[2] = take(rest, p.out[2]);
    int64_t n = params.first + rest;
    o[1] = take(n, p.out[1]);
    o[0] = take(n, p.out[0]);
    int64_t offset = n * p.x.n + channel * p.x.c;
#pragma unroll
    for (int d = 0; d < 3; ++d) {
      const int64_t part = source_offset(
          o[d] * p.stride[d] + tap[d] * p.dilation[d] - p.low[d],
          p.in[d],
          p.x.s[d],
          p.mode);
      offset = offset < 0 || part < 0 ? -1 : offset + part;
    }
    static_cast<E*>(params.columns)[e] =
        offset < 0 ? narrowed<E>(0) : static_cast<const E*>(params.x)[offset];
  }
}

// Rows of y lie evenly apart within a sample only: a block has rows of one
// sample and one plane of it.
struct RowBlocks {
  int64_t row_bytes;
  int64_t block; // rows of a block

  explicit RowBlocks(const ConvProblem& p)
      : row_bytes(p.out[2] * p.in_channels * p.taps() * dtype_size(p.dtype)),
        block(
            std::max<int64_t>(
                1,
                std::min(
                    p.out[1],
                    kColumnBytes / std::max<int64_t>(row_bytes, 1)))) {}
};

// The pointwise problem of a block of so many rows: columns are channels.
ConvProblem pointwise_problem(const ConvProblem& p, int64_t rows) {
  ConvProblem q = p;
  const int64_t columns = p.in_channels * p.taps();
  q.batch = 1;
  q.in_channels = columns;
  q.mode = PaddingMode::zeros;
  for (int d = 0; d < 3; ++d) {
    q.kernel[d] = q.stride[d] = q.dilation[d] = 1;
    q.low[d] = q.high[d] = 0;
  }
  q.in[0] = q.out[0] = 1;
  q.in[1] = q.out[1] = rows;
  q.in[2] = p.out[2];
  q.x = {0, 1, {0, p.out[2] * columns, columns}};
  return simplified(q);
}

// Room for the parts of a block, and for the sum of those before.
int64_t parts_bytes(const ConvProblem& p) {
  const ConvProblem q = pointwise_problem(p, RowBlocks(p).block);
  const int64_t size = std::max<int64_t>(dtype_size(p.dtype), 4);
  // Blocks at the end are smaller, and have no more parts.
  return (weight_grad_gemm_plan(q).splits + 1) * p.out_channels * p.in_group() *
      p.taps() * size;
}

int64_t rounded(int64_t bytes) {
  return (bytes + 15) / 16 * 16;
}

template <typename E>
void run_weight_grad(const ConvProblem& p, const ConvTensors& t, void* space) {
  const RowBlocks b(p);
  char* parts = static_cast<char*>(space) + rounded(b.block * b.row_bytes);
  const int64_t planes = p.batch * p.out[0];
  if (planes * p.out[1] == 0) { // sums over nothing
    weight_grad_gemm(p, t, parts);
    return;
  }
  for (int64_t plane = 0; plane < planes; ++plane) {
    for (int64_t row = 0; row < p.out[1]; row += b.block) {
      const int64_t rows = std::min(b.block, p.out[1] - row);
      const int64_t first = plane * p.out[1] + row;
      const int64_t total =
          rows * b.row_bytes / static_cast<int64_t>(sizeof(E));
      launch(
          "conv im2col columns",
          weight_grad_columns<E>,
          {(total + kThreads - 1) / kThreads, kThreads},
          *t.queue,
          WeightGradParams{p, t.x, space, first, first + rows});
      ConvProblem q = pointwise_problem(p, rows);
      // gw as [k][column], column = (channel, tap): w is written through the
      // strides of the real problem by the last sum.
      ConvTensors u = t;
      u.x = space;
      u.y = static_cast<E*>(t.y) + plane / p.out[0] * p.y.n +
          plane % p.out[0] * p.y.s[0] + row * p.y.s[1];
      const bool last = plane == planes - 1 && row + rows == p.out[1];
      weight_grad_gemm(q, u, parts, first > 0, false);
      if (last) {
        add_parts(p, {1, 0, parts, t.w}, *t.queue);
      }
    }
  }
}

// -- the row -----------------------------------------------------------------

const char* refusal(const ConvProblem& p, Pass pass) {
  if (p.dtype == DType::i64) {
    return "im2col takes floating dtypes, not integers";
  }
  if (!gemm_can_count(p, pass)) {
    return "im2col takes filters of fewer than 2^31 elements";
  }
  if (p.groups > 1 && std::min(p.in_group(), p.out_group()) < 4) {
    return "im2col takes groups of at least 4 input and 4 output channels";
  }
  return nullptr;
}

int64_t workspace(const ConvProblem& problem, Pass pass, int) {
  const ConvProblem p = simplified(problem);
  if (pass == Pass::weight_grad) {
    const RowBlocks b(p);
    return rounded(b.block * b.row_bytes) + parts_bytes(p);
  }
  const GatherBlocks b = gather_blocks(p, pass);
  return b.block * b.panel_bytes + packed_bytes(p, pass);
}

double cost(const ConvProblem& problem, Pass pass) {
  const ConvProblem p = nominal(simplified(problem), pass);
  const bool tensor = gemm_uses_tensor_cores(p);
  const double rate = peak_rate(p, tensor ? Unit::tensor : Unit::fma);
  // Columns are written and read once.
  const double columns =
      2 * conv_flops(p) / 2 / p.out_group() * dtype_size(p.dtype);
  const double blocks = pass == Pass::weight_grad
      ? 1.0 * p.batch * p.out[0] * p.out[1] / RowBlocks(p).block
      : 1.0 * gather_blocks(p, pass).panels / gather_blocks(p, pass).block;
  const double starts = 3000 * (2 * blocks + 1);
  return kernel_cost(conv_flops(p) / 2, rate, kSmallTile.share * 0.6, 0) +
      kernel_cost(0, 1, 1, columns) + starts +
      (pass == Pass::input_grad ? border_cost(p) : 0);
}

void run(
    const ConvProblem& problem,
    Pass pass,
    const ConvTensors& t,
    void* space) {
  const ConvProblem p = simplified(problem);
  with_conv_type(p.dtype, [&](auto type) {
    using E = decltype(type);
    if constexpr (!std::is_integral_v<E>) {
      pass == Pass::weight_grad ? run_weight_grad<E>(p, t, space)
                                : run_gather<E>(p, pass, t, space);
    }
  });
  if (pass == Pass::input_grad) {
    input_grad_border(p, t);
  }
}

} // namespace

extern const ConvAlgorithm kConvIm2col;
const ConvAlgorithm kConvIm2col = {"im2col", refusal, workspace, cost, run};

} // namespace cuda
} // namespace torchconv
