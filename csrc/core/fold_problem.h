// unfold and fold as plain structs.
#pragma once

#include "core/pool_problem.h"

namespace torchconv {

// The image is the problem's x: (batch, channels, *in). The columns are
// (batch, channels * taps, positions): a row for each channel and tap, taps in
// row-major order, and a column for each of the prod(out) window positions.
// Of the problem's y strides only these count.
struct FoldProblem {
  PoolProblem p;
  int64_t columns_n, columns_row, columns_position; // strides in elements
};

enum class FoldType : int8_t { f32, f64, f16, bf16, c64, c128, boolean };

} // namespace torchconv
