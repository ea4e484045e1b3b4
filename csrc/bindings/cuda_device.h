// What the bindings of the CUDA kernels are given in the place of a device: the
// templates that describe an operator for every device take such a class.
#pragma once

#include "bindings/cuda.h"

namespace torchconv {

class OnCuda {
 public:
  static constexpr bool kOneLayout = false; // every element finds its own place

  OnCuda(const Tensor& x, const char* op) : x_(x), queue_(queue_of(x, op)) {}

  // Raises if a tensor is on another device than the first argument.
  void expect_here(const Tensor& t, const char* op, const char* name) const {
    STD_TORCH_CHECK(
        on_device_of(t, x_),
        "torchconv::",
        op,
        ": ",
        name,
        " is not on the device of the other tensors");
  }

  const cuda::Queue& queue() const {
    return queue_;
  }
  // Bytes on the device; what is freed is used again only by later work of the
  // same stream.
  Tensor workspace(int64_t bytes) const {
    return allocate({bytes}, ScalarType::Byte, false, &x_);
  }

 private:
  const Tensor& x_;
  cuda::Queue queue_;
};

} // namespace torchconv
