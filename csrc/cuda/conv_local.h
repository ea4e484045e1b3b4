// Convolution whose kernel depends on the output position, on CUDA. Tensors are
// what the problem's strides say; weight and bias are dense.
#pragma once

#include "core/conv_local.h"
#include "cuda/queue.h"

namespace torchconv {
namespace cuda {

// y = forward(x, w) + bias; bias may be null.
void conv_local_forward(
    const LocalProblem& p,
    const void* x,
    const void* w,
    const void* bias,
    void* y,
    const Queue& queue);

int64_t conv_local_input_grad_workspace(const LocalProblem& p);

void conv_local_input_grad(
    const LocalProblem& p,
    const void* gy,
    const void* w,
    void* gx,
    void* workspace,
    const Queue& queue);

int64_t conv_local_weight_grad_workspace(const LocalProblem& p);

void conv_local_weight_grad(
    const LocalProblem& p,
    const void* gy,
    const void* x,
    void* gw,
    void* workspace,
    const Queue& queue);

} // namespace cuda
} // namespace torchconv
