// Reading and writing at the positions a max pooling chose.
#pragma once

#include "core/pool_problem.h"
#include "cpu/pool_codes.h"

namespace torchconv {
namespace cpu {

// Codes and the tensor they were made for. p.in is the plane the codes point
// into and p.out their own size; u8 codes read p's windows, the others do not.
// p.y_stride_* are the strides of the tensor of p.out's size (grad, out, x of
// max_unpool) and c_stride_* those of the codes; p.x_stride_* belong to the
// tensor of p.in's size.
struct PoolCodes {
  PoolProblem p;
  CodeKind kind;
  const void* codes;
  int64_t c_stride_n, c_stride_c, c_stride[3];
};

// gx = the sum of grad at the coded positions, added in the order of the
// outputs; gx is contiguous or channels_last.
void pool_scatter(const PoolCodes& k, const void* grad, void* gx);

// out = x at the coded positions, zero where a code names none.
void pool_gather(const PoolCodes& k, const void* x, void* out);

// out = x at the positions of i64 codes and zero elsewhere; of several inputs
// on one position the last one wins. The codes have to be good: check_indices
// puts the first one outside the plane into *wrong and returns false.
bool check_indices(const PoolCodes& k, int64_t* wrong);
void max_unpool(const PoolCodes& k, const void* x, void* out);

} // namespace cpu
} // namespace torchconv
