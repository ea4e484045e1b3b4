// What the threads of the pooling kernels have in common: which element is
// theirs, and which windows or outputs belong to it.
#pragma once

#include <cstdint>

#include "core/pool_codes.h"
#include "core/pool_problem.h"
#include "cuda/index.cuh"

namespace torchconv {
namespace cuda {

constexpr int kPoolThreads = 256;

// An element of a (batch, channels, size[0], size[1], size[2]) tensor.
struct PoolPlace {
  int64_t n, c, at[3];
};

// Number i of the elements, in the order of memory: channels innermost or the
// last dimension. `channels` may count vectors of them.
__device__ inline PoolPlace pool_place(
    int64_t i,
    int64_t channels,
    const int64_t (&size)[3],
    bool channels_innermost) {
  PoolPlace p;
  if (channels_innermost) {
    p.c = take(i, channels);
  }
  p.at[2] = take(i, size[2]);
  p.at[1] = size[1] == 1 ? 0 : take(i, size[1]);
  p.at[0] = size[0] == 1 ? 0 : take(i, size[0]);
  if (!channels_innermost) {
    p.c = take(i, channels);
  }
  p.n = i;
  return p;
}

__device__ inline int64_t x_offset(
    const PoolProblem& p,
    int64_t n,
    int64_t c,
    int64_t d,
    int64_t h,
    int64_t w) {
  return n * p.x_stride_n + c * p.x_stride_c + d * p.x_stride[0] +
      h * p.x_stride[1] + w * p.x_stride[2];
}
__device__ inline int64_t y_offset(
    const PoolProblem& p,
    int64_t n,
    int64_t c,
    int64_t d,
    int64_t h,
    int64_t w) {
  return n * p.y_stride_n + c * p.y_stride_c + d * p.y_stride[0] +
      h * p.y_stride[1] + w * p.y_stride[2];
}

// -- on the host ----------------------------------------------------------------

// Whether threads should walk a tensor channel by channel.
inline bool channels_first_in_memory(int64_t stride_c, int64_t channels) {
  return stride_c == 1 && channels > 1;
}

// Whether vectors of V channels can be read or written in one access.
inline bool channel_vectors(
    int vector,
    int64_t channels,
    int64_t stride_n,
    int64_t stride_c,
    const int64_t (&stride)[3]) {
  return stride_c == 1 && channels % vector == 0 && stride_n % vector == 0 &&
      stride[0] % vector == 0 && stride[1] % vector == 0 &&
      stride[2] % vector == 0;
}

inline int64_t pool_blocks(int64_t pieces) {
  return ceil_div(pieces, kPoolThreads);
}

} // namespace cuda
} // namespace torchconv
