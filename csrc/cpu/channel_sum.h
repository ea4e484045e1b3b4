// The sum over batch and space: the gradient of a convolution's bias.
#pragma once

#include "core/dtype.h"

namespace torchconv {
namespace cpu {

// x: (batch, channels, size[0], size[1], size[2]) with any strides (elements);
// out: `channels` elements of the same type, contiguous.
struct ChannelSum {
  int64_t batch, channels, size[3];
  int64_t stride_n, stride_c, stride[3];
  DType dtype;
};

void channel_sum(const ChannelSum& p, const void* x, void* out);

} // namespace cpu
} // namespace torchconv
