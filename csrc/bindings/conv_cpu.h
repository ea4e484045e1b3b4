// Running a convolution on the CPU, for the operators and for prepared calls.
#pragma once

#include "bindings/conv_passes.h"
#include "cpu/isa.h"

namespace torchconv {

// The planner's answer for a problem with all its strides. It depends on the
// instruction set too, the workspace on the threads.
struct ConvChoice {
  const ConvAlgorithm* algorithm;
  cpu::Isa isa;
  int threads;
  int64_t workspace; // bytes

  bool holds() const;
};
ConvChoice choose_on_cpu(
    ConvProblem p,
    Pass pass,
    const std::string& algorithm);

// Runs a row with so many bytes of workspace.
void run_row_on_cpu(
    const ConvAlgorithm* a,
    int64_t workspace,
    const ConvProblem& p,
    Pass pass,
    const ConvTensors& t);

// The epilogue in a pass of its own; nothing where there is none.
void finish_on_cpu(
    const ConvProblem& p,
    const Epilogue& e,
    const Tensor& result);

// Runs the measured choice or else `known`, which is the planner's for call.p
// or null; what it returns is call.result, or what torch made in its place.
// packed: what `known`'s packing made of the weight, or null.
Tensor run_on_cpu(
    const ConvCall& call,
    const ConvChoice* known,
    const void* packed = nullptr);

} // namespace torchconv
