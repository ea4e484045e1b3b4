// What the dense CPU kernels cost, roughly: a model to rank algorithms by.
#pragma once

#include "core/conv_problem.h"

namespace torchconv {
namespace cpu {

// Nanoseconds on one core for the register-tile kernels: multiply-adds, with
// the lanes that few channels leave empty, and what is copied on the way.
// columns: im2col, which writes every tap's column, or strips.
double tile_cost(const ConvProblem& p, Pass pass, bool columns);

// Multiply-adds per nanosecond of the active instruction set at dtype, and the
// lanes of a vector of what it computes in.
double fma_rate(DType dtype);
int64_t vector_lanes(DType dtype);

} // namespace cpu
} // namespace torchconv
