// The sum over batch and space: the gradient of a convolution's bias.
#pragma once

#include "core/channel_sum.h"

namespace torchconv {
namespace cpu {

void channel_sum(const ChannelSum& p, const void* x, void* out);

} // namespace cpu
} // namespace torchconv
