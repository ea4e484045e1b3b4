// Codes of a max pooling, as kernels read them.
#pragma once

#include "core/pool_codes.h"
#include "cuda/pool_index.cuh"

namespace torchconv {
namespace cuda {

__device__ inline int64_t read_code(const PoolCodes& k, int64_t at) {
  switch (k.kind) {
    case CodeKind::u8:
      return static_cast<const uint8_t*>(k.codes)[at];
    case CodeKind::i32:
      return static_cast<const int32_t*>(k.codes)[at];
    default:
      return static_cast<const int64_t*>(k.codes)[at];
  }
}

__device__ inline int64_t code_offset(
    const PoolCodes& k,
    int64_t n,
    int64_t c,
    int64_t d,
    int64_t h,
    int64_t w) {
  return n * k.c_stride_n + c * k.c_stride_c + d * k.c_stride[0] +
      h * k.c_stride[1] + w * k.c_stride[2];
}

// Where the code of output o points: the position in the plane and its offset
// in the tensor of the plane's size; false if it names none.
__device__ inline bool pointed_at(
    const PoolCodes& k,
    const PoolPlace& o,
    int64_t code,
    int64_t& flat,
    int64_t& offset) {
  const PoolProblem& p = k.p;
  int64_t at[3];
  if (k.kind == CodeKind::u8) {
    if (code >= pool_taps(p)) {
      return false;
    }
    const int64_t tap[3] = {
        code / (p.kernel[1] * p.kernel[2]),
        code / p.kernel[2] % p.kernel[1],
        code % p.kernel[2]};
    for (int i = 0; i < 3; ++i) {
      at[i] = o.at[i] * p.stride[i] - p.padding[i] + tap[i] * p.dilation[i];
      if (at[i] < 0 || at[i] >= p.in[i]) {
        return false;
      }
    }
    flat = (at[0] * p.in[1] + at[1]) * p.in[2] + at[2];
  } else {
    if (code < 0 || code >= pool_in_plane(p)) {
      return false;
    }
    flat = code;
    at[2] = take(code, p.in[2]);
    at[1] = take(code, p.in[1]);
    at[0] = code;
  }
  offset = x_offset(p, o.n, o.c, at[0], at[1], at[2]);
  return true;
}

// The kernels of pool_list.cu, for codes that may point anywhere.
int64_t list_workspace(const PoolCodes& k);
void scatter_by_list(
    const PoolCodes& k,
    const void* grad,
    void* gx,
    void* workspace,
    const Queue& queue);

} // namespace cuda
} // namespace torchconv
