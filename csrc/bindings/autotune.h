// A convolution by the choice that was measured (core/tuner.h): where tensors
// come in, for scratch memory and for torch's own kernel.
#pragma once

#include <optional>

#include "bindings/tensor.h"

#include "core/tuner.h"

namespace torchconv {

// The tensors of a pass as its operator has them: x and weight (forward), grad
// and weight (input_grad), grad and x (weight_grad); result is written, unless
// torch's kernel is the choice and makes its own.
struct TunedCall {
  const ConvProblem& p;
  Pass pass;
  const ConvTensors& t;
  const Tensor& first;
  const Tensor& second;
  const std::optional<Tensor>& bias;
  const Tensor& result;
  bool exact; // only exact rows are candidates
};

// Runs it, measuring first where that is asked for, and returns the result.
// Nothing where there is no measured choice: then the planner decides. For
// calls whose algorithm is "auto" or "auto-exact", while tuning_mode() is not off.
std::optional<Tensor> run_tuned(const TunedCall& call);

} // namespace torchconv
