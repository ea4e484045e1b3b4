// Convolution whose kernel depends on the output position, on the CPU: the
// position o uses the kernel of number o mod tile. A tile as large as the
// output is a locally connected layer, where every weight is used once per
// sample.
#pragma once

#include "core/conv_problem.h"

namespace torchconv {
namespace cpu {

// The weight is dense, (tile[0], tile[1], tile[2], out_channels, in_channels /
// groups, *kernel), and so is the bias, (*tile, out_channels); the strides
// conv.w are not read.
struct LocalProblem {
  ConvProblem conv;
  int64_t tile[3];
};

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
