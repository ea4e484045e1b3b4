// Max pooling on CUDA: sliding, adaptive and fractional windows.
#pragma once

#include <cstdint>

#include "core/pool_codes.h"
#include "cuda/queue.h"

namespace torchconv {
namespace cuda {

// y and, unless `kind` is none, codes, which lie as y does. Every dtype, any
// strides. Of equal maxima the first in row-major order of the window is taken,
// and a NaN beats everything, the last one of several. A window without taps
// gives the lowest value and a code that names no position.
void max_pool(
    const PoolProblem& p,
    bool sliding,
    CodeKind kind,
    const void* x,
    void* y,
    void* codes,
    const Queue& queue);

// Fractional max pooling (float32, float64, float16, bfloat16): windows of
// p.kernel that start where samples[(n * channels + c) * nd + i], of the type
// of x, put them (core/pool_fractional.h). Sample 0 belongs to the last
// dimension if nd is 2 and to the first if nd is 3, as torch has it.
void fractional_max_pool(
    const PoolProblem& p,
    int nd,
    const void* samples,
    const void* x,
    void* y,
    int64_t* indices,
    const Queue& queue);

} // namespace cuda
} // namespace torchconv
