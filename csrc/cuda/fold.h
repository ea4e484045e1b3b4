// unfold (im2col as an operator) and fold, its adjoint, on CUDA.
#pragma once

#include "core/fold_problem.h"
#include "cuda/queue.h"

namespace torchconv {
namespace cuda {

// Columns are written dense.
void unfold(
    const FoldProblem& f,
    FoldType type,
    const void* x,
    void* columns,
    const Queue& queue);

// The image is written dense: each element gathers from its columns, in the
// order of the taps. Half types add in float32, booleans are or-ed.
void fold(
    const FoldProblem& f,
    FoldType type,
    const void* columns,
    void* image,
    const Queue& queue);

} // namespace cuda
} // namespace torchconv
