// Reading and writing at the positions a max pooling chose.
#pragma once

#include "core/pool_problem.h"
#include "cpu/pool_codes.h"

namespace torchconv {
namespace cpu {

// gx = the sum of grad at the coded positions, added in the order of the
// outputs; gx is contiguous or channels_last.
void pool_scatter(const PoolCodes& k, const void* grad, void* gx);

// out = x at the coded positions, zero where a code names none.
void pool_gather(const PoolCodes& k, const void* x, void* out);

// out = x at the positions of i64 codes and zero elsewhere; of several inputs
// on one position the last one wins. If a code is outside the plane, the first
// one is put into *wrong, the result is false and what out holds means nothing.
bool max_unpool(const PoolCodes& k, const void* x, void* out, int64_t* wrong);

} // namespace cpu
} // namespace torchconv
