// What a kernel finds wrong with its input. tests/cuda_on_cpu puts a file of
// the same name in this one's place.
#pragma once

#include <cstdio>

namespace torchconv {
namespace cuda {

// Prints the message and ends the kernel; every later call on the device fails,
// as after a failed assertion of torch's kernels.
__device__ inline void stop(const char* message, long long value) {
  printf("torchconv: %s%lld\n", message, value);
  __trap();
}

} // namespace cuda
} // namespace torchconv
