// The epilogue (core/epilogue.h) of one element.
#pragma once

#include "core/epilogue.h"

namespace torchconv {
namespace cuda {

// Comparisons with a NaN are false, and leave it where it is.
template <typename A>
__device__ inline A activated(Activation f, A v, A a, A b) {
  switch (f) {
    case Activation::relu:
      return v < A(0) ? A(0) : v;
    case Activation::hardtanh:
      v = v < a ? a : v;
      return v > b ? b : v;
    case Activation::leaky_relu:
      return v > A(0) ? v : v * a;
    case Activation::hardswish:
    case Activation::hardsigmoid: {
      A gate = v + A(3);
      gate = gate < A(0) ? A(0) : gate;
      gate = gate > A(6) ? A(6) : gate;
      return (f == Activation::hardswish ? v * gate : gate) / A(6);
    }
    default:
      return v;
  }
}

} // namespace cuda
} // namespace torchconv
