// The epilogue (core/epilogue.h) of one element.
#pragma once

#include <type_traits>

#include "core/epilogue.h"
#include "cuda/element.cuh"

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

// Element i of a result: its sum, with the bias, through the epilogue. The sum is
// rounded to the element's type first, as if the epilogue were a pass of its own:
// what an algorithm gives does not depend on where that is applied.
template <typename T>
__device__ inline T finished(const Epilogue& e, int64_t i, compute_t<T> sum) {
  if constexpr (std::is_integral_v<T>) {
    return sum;
  } else {
    const T rounded = narrowed<T>(sum);
    if (!e.any()) {
      return rounded;
    }
    compute_t<T> v = widened(rounded);
    if (e.residual != nullptr) {
      v += widened(static_cast<const T*>(e.residual)[i]);
    }
    return narrowed<T>(activated(
        e.activation,
        v,
        static_cast<compute_t<T>>(e.a),
        static_cast<compute_t<T>>(e.b)));
  }
}

} // namespace cuda
} // namespace torchconv
