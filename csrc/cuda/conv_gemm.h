// The products behind implicit_gemm and im2col.
//
// forward and input_grad: rows are destination positions, columns destination
// channels, k runs over taps and, within a tap, source channels in whole
// chunks. b, the weights, are packed to [group][lane][tap][source channel],
// source channels padded with zeros to whole chunks, unless they lie so
// already.
//
// weight_grad: rows are output channels, columns (channel, tap), k runs over
// output positions, rows of them padded to whole chunks.
#pragma once

#include "core/conv_algorithm.h"

namespace torchconv {
namespace cuda {

// A tile as data: what the cost model and the choice look at. The kernels are
// instantiated for these shapes (conv_gemm_gather.cu, conv_gemm_weight_grad.cu).
struct GemmTile {
  int rows, columns;
  double share; // of the unit's peak in a full tile; not measured
};
constexpr GemmTile kLargeTile = {128, 128, 0.75};
constexpr GemmTile kSmallTile = {64, 64, 0.5};

bool gemm_uses_tensor_cores(const ConvProblem& p);

// Whether k, counted in elements, fits the 32 bits in which forward and input_grad
// walk it.
inline bool gemm_can_count(const ConvProblem& p, Pass pass) {
  const int64_t red = pass == Pass::forward ? p.in_group() : p.out_group();
  const double length = (static_cast<double>(red) + 8) * p.kernel[0] *
      static_cast<double>(p.kernel[1]) * p.kernel[2];
  return pass == Pass::weight_grad || length < 2147483648.0 - 64;
}

// forward and input_grad (of its interior, where a padding mode shows
// positions twice).
struct GatherGemmPlan {
  bool large; // tile
  bool vector; // source chunks are 16 aligned bytes: cp.async
  bool pack; // weights
  int64_t splits; // of k
  int64_t row_tiles, column_tiles; // per phase and group
  int64_t packed_bytes, parts_bytes;
};
GatherGemmPlan gather_gemm_plan(
    const ConvProblem& p,
    Pass pass,
    const ConvTensors* t); // addresses, if there are any yet

// Columns that were written out (im2col): for panels of tile rows, one after
// the other over row tiles, phases and groups, [row][tap][source channel], the
// channels padded to whole chunks.
struct Columns {
  const void* data;
  int64_t first, last; // panels
};

// columns: null, or what to read instead of the source, for some of the tiles.
void gather_gemm(
    const ConvProblem& p,
    Pass pass,
    const ConvTensors& t,
    void* space,
    const Columns* columns = nullptr);

struct WeightGradGemmPlan {
  bool large;
  int64_t splits;
  int64_t row_tiles, column_tiles; // per group
  int64_t parts_bytes;
};
WeightGradGemmPlan weight_grad_gemm_plan(const ConvProblem& p);
// Adds to what the workspace's first part holds, if `more`; writes the result to
// t.w, or to the first part if not `last`.
void weight_grad_gemm(
    const ConvProblem& p,
    const ConvTensors& t,
    void* space,
    bool more = false,
    bool last = true);

} // namespace cuda
} // namespace torchconv
