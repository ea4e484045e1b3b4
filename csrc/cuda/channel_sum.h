// The sum over batch and space, on CUDA: the gradient of a convolution's bias.
#pragma once

#include "core/channel_sum.h"
#include "cuda/queue.h"

namespace torchconv {
namespace cuda {

// float32, float64, float16, bfloat16 (half types add in float32) and int64;
// `workspace` has as many bytes as channel_sum_workspace says, on the device.
// How the sum is cut up follows from the sizes and strides alone.
void channel_sum(
    const ChannelSum& p,
    const void* x,
    void* out,
    void* workspace,
    const Queue& queue);
int64_t channel_sum_workspace(const ChannelSum& p);

} // namespace cuda
} // namespace torchconv
