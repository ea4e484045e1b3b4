// Where a kernel runs. This side knows neither torch nor the CUDA headers, so
// the bindings need no toolkit to include it.
#pragma once

namespace torchconv {
namespace cuda {

struct Queue {
  int device;
  void* stream; // a cudaStream_t of that device
};

} // namespace cuda
} // namespace torchconv
