// Convolution whose kernel depends on the output position, on the CPU.
#pragma once

#include "core/conv_local.h"

namespace torchconv {
namespace cpu {

// Bytes of scratch memory that a pass needs.
int64_t conv_local_workspace(const LocalProblem& p, Pass pass, int threads);

// y = forward(x, w) + bias; bias may be null.
void conv_local_forward(
    const LocalProblem& p,
    const void* x,
    const void* w,
    const void* bias,
    void* y,
    void* workspace);

void conv_local_input_grad(
    const LocalProblem& p,
    const void* gy,
    const void* w,
    void* gx,
    void* workspace);

void conv_local_weight_grad(
    const LocalProblem& p,
    const void* gy,
    const void* x,
    void* gw,
    void* workspace);

} // namespace cpu
} // namespace torchconv
