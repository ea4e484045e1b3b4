// Average and Lp pooling and their gradients, on CUDA.
#pragma once

#include "core/pool_problem.h"
#include "cuda/queue.h"

namespace torchconv {
namespace cuda {

// y = sums over windows of x, divided: float32, float64, float16, bfloat16 and
// int64 (whose division rounds towards zero). Sums have an order that follows
// from the sizes of one sample alone. Half types add in float32.
void average(
    const PoolProblem& p,
    const PoolDivisor& divisor,
    const void* x,
    void* y,
    const Queue& queue);

// gx from gy: each input gathers from the windows that hold it. In int64 each
// term is divided on its own, as torch does.
void average_input_grad(
    const PoolProblem& p,
    const PoolDivisor& divisor,
    const void* gy,
    void* gx,
    const Queue& queue);

// y = (K * mean of x^norm)^(1 / norm) over windows of K taps; a window that the
// input cuts short has a mean over fewer. Not for int64.
void lp(
    const PoolProblem& p,
    double norm,
    const void* x,
    void* y,
    const Queue& queue);

// gx = x^(norm - 1) * sum of K / count * gy * y^(1 - norm), where y is not
// zero; gy lies as y does and x as gx.
void lp_input_grad(
    const PoolProblem& p,
    double norm,
    const void* gy,
    const void* x,
    const void* y,
    void* gx,
    const Queue& queue);

} // namespace cuda
} // namespace torchconv
