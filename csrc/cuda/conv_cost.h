// What the CUDA kernels cost, roughly: a model to rank algorithms by. Its rates
// are those of an H200 by its data sheet; no kernel has been timed.
#pragma once

#include "core/conv_problem.h"

namespace torchconv {
namespace cuda {

// The problem that costs are about. A sample's result must not depend on the
// rest of its batch, nor may the choice of algorithm: forward and input_grad
// are ranked as for a batch of 16.
inline ConvProblem nominal(ConvProblem p, Pass pass) {
  p.batch = pass == Pass::weight_grad ? p.batch : 16;
  return p;
}

enum class Unit { fma, tensor }; // what does the multiply-adds

// Multiply-adds per nanosecond at full rate.
double peak_rate(const ConvProblem& p, Unit unit);

// Nanoseconds for one kernel: the larger of products / (rate x share) and bytes
// / bandwidth, and the start of a kernel.
double kernel_cost(double products, double rate, double share, double bytes);

// Streaming multiprocessors to fill with blocks.
constexpr int64_t kProcessors = 132;

// The share of the machine that so many equal blocks keep busy.
double fill(double blocks, double blocks_per_processor);

} // namespace cuda
} // namespace torchconv
