// What the bindings of the CPU's kernels are given in the place of a device: the
// templates that describe an operator for every device take such a class.
#pragma once

#include "bindings/tensor.h"

namespace torchconv {

struct OnCpu {
  // Vectors of channels need them innermost in input and result.
  static constexpr bool kOneLayout = true;

  OnCpu(const Tensor&, const char*) {}
  // Raises if a tensor is on another device than the first argument.
  void expect_here(const Tensor&, const char*, const char*) const {}
};

} // namespace torchconv
