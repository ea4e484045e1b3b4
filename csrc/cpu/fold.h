// unfold (im2col as an operator) and fold, its adjoint, on the CPU.
#pragma once

#include "core/pool_problem.h"

namespace torchconv {
namespace cpu {

// The image is the problem's x: (batch, channels, *in). The columns are
// (batch, channels * taps, positions): a row for each channel and tap, taps in
// row-major order, and a column for each of the prod(out) window positions.
// Of the problem's y strides only these count.
struct FoldProblem {
  PoolProblem p;
  int64_t columns_n, columns_row, columns_position; // strides in elements
};

enum class FoldType : int8_t { f32, f64, f16, bf16, c64, c128, boolean };

// Columns are written dense.
void unfold(const FoldProblem& f, FoldType t, const void* x, void* columns);

// The image is written dense; booleans are or-ed.
void fold(const FoldProblem& f, FoldType t, const void* columns, void* image);

} // namespace cpu
} // namespace torchconv
