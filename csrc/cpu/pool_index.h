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
// on one position the last one wins. The codes have to be good: check_indices
// puts the first one outside the plane into *wrong and returns false.
bool check_indices(const PoolCodes& k, int64_t* wrong);
void max_unpool(const PoolCodes& k, const void* x, void* out);

} // namespace cpu
} // namespace torchconv
