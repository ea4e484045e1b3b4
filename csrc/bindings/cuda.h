// What the bindings of CUDA tensors share. Files named cuda_* are compiled only
// where the CUDA kernels are. tests/cuda_on_cpu puts a file of this name in this
// one's place, which registers the same functions for CPU tensors.
#pragma once

#include "bindings/tensor.h"

#include <stdexcept>

#include "cuda/queue.h"

// The one symbol that only a CUDA build of torch has (in libtorch_cuda, which
// libtorch brings along): weak, so that the same binary loads beside a
// CPU-only torch.
extern "C" __attribute__((weak)) AOTITorchError
aoti_torch_get_current_cuda_stream(int32_t device_index, void** ret_stream);

// A block that registers implementations for CUDA tensors with the library m.
#define TORCHCONV_CUDA_IMPL(m) STABLE_TORCH_LIBRARY_IMPL(torchconv, CUDA, m)

namespace torchconv {

// The device of a tensor and torch's current stream there, which kernels on
// the tensor are started on. The dispatcher calls CUDA implementations for CUDA
// tensors; reached by hand with others, they say so.
inline cuda::Queue queue_of(const Tensor& x, const char* op) {
  STD_TORCH_CHECK(
      x.is_cuda(), "torchconv::", op, ": CUDA kernels take CUDA tensors only");
  if (&aoti_torch_get_current_cuda_stream == nullptr) {
    throw std::runtime_error(
        "torchconv has CUDA kernels, but this torch was built without CUDA");
  }
  const int32_t device = x.get_device_index();
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(
      aoti_torch_get_current_cuda_stream(device, &stream));
  return {device, stream};
}

inline bool on_device_of(const Tensor& a, const Tensor& b) {
  return a.is_cuda() && a.get_device_index() == b.get_device_index();
}

} // namespace torchconv
