// The part of input_grad that padding modes add: positions at the border,
// which several coordinates of the padded input show. The algorithms compute
// the interior, this the rest.
#pragma once

#include "core/conv_algorithm.h"

namespace torchconv {
namespace cuda {

// Nothing to do where the padding shows zeros.
void input_grad_border(const ConvProblem& p, const ConvTensors& t);

// Estimated nanoseconds of it.
double border_cost(const ConvProblem& p);

} // namespace cuda
} // namespace torchconv
