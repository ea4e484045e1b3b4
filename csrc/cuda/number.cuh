// Element types of convolution kernels.
#pragma once

#include "cuda/element.cuh"
#include "cuda/index.cuh"

namespace torchconv {
namespace cuda {

// The type sums are kept in.
template <typename T>
using Acc = compute_t<T>;

// Calls f with a value of the element type, for the dtypes that convolution
// takes.
template <typename F>
void with_conv_type(DType dtype, const F& f) {
  if (dtype == DType::i64) {
    f(int64_t{});
    return;
  }
  with_floating(dtype, "conv", [&](auto element) {
    f(typename decltype(element)::type{});
  });
}

} // namespace cuda
} // namespace torchconv
