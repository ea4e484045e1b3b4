// The one way kernels are started: on a given device and stream, with a params
// struct by value, errors turned into exceptions. There is no <<<>>>, so that a
// host compiler can read it too (tests/cuda_on_cpu).
#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#include "cuda/limits.h"
#include "cuda/queue.h"

namespace torchconv {
namespace cuda {

inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) {
    throw std::runtime_error(
        std::string("torchconv: ") + what +
        " failed: " + cudaGetErrorString(status));
  }
}

// Makes a device current for a scope. It goes through the same (static) runtime
// that launches the kernels, so the two cannot disagree.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device) {
    check(cudaGetDevice(&before_), "cudaGetDevice");
    if (device != before_) {
      check(cudaSetDevice(device), "cudaSetDevice");
      changed_ = true;
    }
  }
  ~DeviceGuard() {
    if (changed_) {
      cudaSetDevice(before_);
    }
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int before_ = 0;
  bool changed_ = false;
};

struct Grid {
  int64_t blocks;
  int threads;
  int shared_bytes = 0;
};

// A kernel must not rely on the number of blocks it asked for: more than the
// hardware's limit are cut off, so it walks its work with a grid-sized stride.
template <typename Params>
void launch(
    const char* name,
    void (*kernel)(Params),
    Grid grid,
    const Queue& queue,
    const Params& params) {
  if (grid.blocks <= 0) {
    return;
  }
  DeviceGuard guard(queue.device);
  if (grid.shared_bytes > 48 * 1024) {
    check(
        cudaFuncSetAttribute(
            kernel,
            cudaFuncAttributeMaxDynamicSharedMemorySize,
            grid.shared_bytes),
        name);
  }
  const auto blocks = static_cast<unsigned>(
      grid.blocks < kMaxBlocks ? grid.blocks : kMaxBlocks);
  void* arguments[] = {const_cast<Params*>(&params)};
  check(
      cudaLaunchKernel(
          kernel,
          dim3(blocks),
          dim3(static_cast<unsigned>(grid.threads)),
          arguments,
          static_cast<size_t>(grid.shared_bytes),
          static_cast<cudaStream_t>(queue.stream)),
      name);
}

} // namespace cuda
} // namespace torchconv
