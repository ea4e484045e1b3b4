// Convolutions whose arguments were read, checked and planned before: a call
// of the operator conv_prepared brings the tensors and a number.
//
// Of a small convolution's time most goes into carrying lists and strings
// through the dispatcher; eager code therefore keeps what it has prepared.
#pragma once

#include <cstdint>
#include <optional>

#include "bindings/conv_cpu.h"
#include "bindings/kept.h"

namespace torchconv {

// The tensors of a pass are called first and second, as its operator has them:
// x and weight (forward), grad and weight (input_grad), grad and x
// (weight_grad).
struct PreparedCall {
  Pass pass;
  ConvProblem p; // with all strides
  Ints first, second, result; // sizes
  ScalarType dtype;
  bool channels_last; // of the result
  std::string algorithm;
  Epilogue epilogue; // its residual comes with the call
  ConvChoice choice;
  // The weight as the choice's algorithm reads it, and where it was packed from.
  std::optional<Tensor> packed;
  const void* packed_from = nullptr;
};

// Fills result, the result's strides in p and the choice; raises where no
// algorithm takes the problem.
void complete(PreparedCall* call);

Strides strides_of(const Ints& v);

// Its id is what conv_prepared takes.
using PreparedConv = Kept<PreparedCall>;

} // namespace torchconv
