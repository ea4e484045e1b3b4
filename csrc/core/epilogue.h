// What a convolution does to its sums before it writes them:
//
//   result = activation(sum + bias + residual)
//
// The bias belongs to the sum (conv_algorithm.h); this is the rest.
#pragma once

#include <cstdint>

namespace torchconv {

// As torch's functions of these names; a NaN stays one.
enum class Activation : int8_t {
  none,
  relu,
  hardtanh, // min(max(v, a), b), relu6 among them
  leaky_relu, // v > 0 ? v : a v
  hardswish, // v min(max(v + 3, 0), 6) / 6
  hardsigmoid, // min(max(v + 3, 0), 6) / 6
};

const char* activation_name(Activation activation);
bool parse_activation(const char* name, Activation* activation);

// residual: null, or elements that lie as those of the result do: the same
// dtype, and the element of the result at `result + i` has its own at
// `residual + i`.
struct Epilogue {
  Activation activation = Activation::none;
  double a = 0, b = 0;
  const void* residual = nullptr;

  constexpr bool any() const {
    return activation != Activation::none || residual != nullptr;
  }
};

} // namespace torchconv
