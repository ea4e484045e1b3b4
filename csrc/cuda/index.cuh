// Walks over flat indices.
#pragma once

#include <cstdint>

namespace torchconv {
namespace cuda {

// A grid-sized walk over `total` pieces of work:
//   for (int64_t i = first_piece(); i < total; i += piece_step())
__device__ inline int64_t first_piece() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline int64_t piece_step() {
  return static_cast<int64_t>(gridDim.x) * blockDim.x;
}

// Splits `size` off an index as its innermost digit. A GPU divides 32-bit
// numbers in some 20 instructions, 64-bit numbers in 100.
__device__ inline int64_t take(int64_t& index, int64_t size) {
  const int64_t outer = ((index | size) >> 32) == 0
      ? static_cast<uint32_t>(index) / static_cast<uint32_t>(size)
      : index / size;
  const int64_t digit = index - outer * size;
  index = outer;
  return digit;
}

} // namespace cuda
} // namespace torchconv
