// The depthwise kernels, by pass and by what lies side by side in memory.
#pragma once

#include "core/conv_algorithm.h"

namespace torchconv {
namespace cuda {

// Whether the channels of x and y lie closer together than the positions of a
// row, so that threads take neighbouring channels.
bool depthwise_by_channels(const ConvProblem& p);

// forward and input_grad (of the interior). Null, or why a problem is too
// large for the kernel's shared memory.
const char* depthwise_rows_refusal(const ConvProblem& p, Pass pass);
void depthwise_rows(const ConvProblem& p, Pass pass, const ConvTensors& t);
void depthwise_columns(const ConvProblem& p, Pass pass, const ConvTensors& t);

// weight_grad.
const char* depthwise_weight_grad_refusal(const ConvProblem& p);
int64_t depthwise_weight_grad_splits(const ConvProblem& p);
void depthwise_weight_grad_rows(
    const ConvProblem& p,
    const ConvTensors& t,
    void* space);
void depthwise_weight_grad_columns(
    const ConvProblem& p,
    const ConvTensors& t,
    void* space);

} // namespace cuda
} // namespace torchconv
