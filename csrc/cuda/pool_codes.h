// Reading and writing at the positions a max pooling chose, on CUDA.
#pragma once

#include <cstdint>

#include "core/pool_codes.h"
#include "cuda/queue.h"

namespace torchconv {
namespace cuda {

// gx = the sum of grad at the coded positions, added in the order of the
// outputs (float32, float64, float16, bfloat16; half types add in float32).
// Codes of known windows (u8, or p.kernel of more than one tap): each input
// gathers from the windows that hold it. Others need `workspace`, of as many
// bytes as list_workspace says, on the device; see pool_list.cu.
void pool_scatter(
    const PoolCodes& k,
    const void* grad,
    void* gx,
    void* workspace,
    const Queue& queue);
int64_t scatter_workspace(const PoolCodes& k);

// out = x at the coded positions, zero where a code names none; every dtype.
void pool_gather(
    const PoolCodes& k,
    const void* x,
    void* out,
    const Queue& queue);

// out = x at the positions of i64 codes and zero elsewhere; of several inputs
// on one position the last one wins; every dtype. An index outside of the plane
// ends the kernel, and with it all work on the device, as torch's does.
void max_unpool(
    const PoolCodes& k,
    const void* x,
    void* out,
    void* workspace,
    const Queue& queue);
int64_t unpool_workspace(const PoolCodes& k);

} // namespace cuda
} // namespace torchconv
