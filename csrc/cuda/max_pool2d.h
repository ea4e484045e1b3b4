// 2-d max pooling on CUDA, without indices. This side knows neither torch nor
// the CUDA headers, so the bindings need no toolkit to include it.
#pragma once

#include <cstdint>

#include "core/pool_problem.h"

namespace torchconv {
namespace cuda {

// float32, float64, float16 and bfloat16, any strides; another dtype is an
// error. channels_innermost tells how y is laid out, so that neighbouring
// threads write side by side; stream is a cudaStream_t of that device.
void max_pool2d(
    const PoolProblem& problem,
    const void* x,
    void* y,
    bool channels_innermost,
    int device,
    void* stream);

} // namespace cuda
} // namespace torchconv
