// Which algorithm computes a problem.
#pragma once

#include <string>
#include <vector>

#include "core/conv_algorithm.h"

namespace torchconv {

// Names that leave the choice to the planner: the cheapest row, or the cheapest
// of those that are exact (conv_algorithm.h).
constexpr const char* kAuto = "auto";
constexpr const char* kAutoExact = "auto-exact";

// The rows of the CPU, in the order of the table (csrc/cpu/conv_table.cpp).
const std::vector<const ConvAlgorithm*>& cpu_conv_algorithms();

// The rows of CUDA (csrc/cuda/conv_table.cpp); only in builds with CUDA.
const std::vector<const ConvAlgorithm*>& cuda_conv_algorithms();

struct Candidate {
  const ConvAlgorithm* algorithm;
  const char* refusal; // null: supported
  double cost; // nanoseconds, estimated
  int64_t workspace; // bytes
};

// Every row with its answers, and which of them `name` (one of the above or a
// row's name) leads to: chosen is -1, and error says why in words, where none.
struct Plan {
  std::vector<Candidate> candidates;
  int chosen = -1;
  std::string error;
};

Plan plan_conv(
    const std::vector<const ConvAlgorithm*>& table,
    const ConvProblem& p,
    Pass pass,
    const std::string& name,
    int threads);

// Only the choice: what a call pays for. Null where there is none; `error`
// then says why.
const ConvAlgorithm* choose_conv(
    const std::vector<const ConvAlgorithm*>& table,
    const ConvProblem& p,
    Pass pass,
    const std::string& name,
    std::string* error);

} // namespace torchconv
