// unfold (im2col as an operator) and fold, its adjoint, on the CPU.
#pragma once

#include "core/fold_problem.h"

namespace torchconv {
namespace cpu {

// Columns are written dense.
void unfold(const FoldProblem& f, FoldType t, const void* x, void* columns);

// The image is written dense; booleans are or-ed.
void fold(const FoldProblem& f, FoldType t, const void* columns, void* image);

} // namespace cpu
} // namespace torchconv
