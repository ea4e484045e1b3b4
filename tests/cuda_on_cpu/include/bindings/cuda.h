// In place of csrc/bindings/cuda.h: the implementations for CUDA tensors are
// registered for CPU tensors, while the library is switched on.
#pragma once

#include "bindings/tensor.h"

#include "cuda/queue.h"
#include "registration.h"

#define TORCHCONV_CUDA_IMPL(m) CUDA_ON_CPU_IMPL(m, C10_UID)
#define CUDA_ON_CPU_IMPL(m, uid) CUDA_ON_CPU_IMPL_(m, uid)
#define CUDA_ON_CPU_IMPL_(m, uid)                                            \
  static void cuda_on_cpu_fill_##uid(torch::stable::detail::StableLibrary&); \
  static const bool cuda_on_cpu_filled_##uid =                               \
      ::cuda_on_cpu::add_registration(cuda_on_cpu_fill_##uid);               \
  static void cuda_on_cpu_fill_##uid(torch::stable::detail::StableLibrary& m)

namespace torchconv {

inline cuda::Queue queue_of(const Tensor& x, const char* op) {
  STD_TORCH_CHECK(x.is_cpu(), "torchconv::", op, ": a tensor of no CPU");
  return {0, nullptr};
}

inline bool on_device_of(const Tensor& a, const Tensor&) {
  return a.is_cpu();
}

} // namespace torchconv
