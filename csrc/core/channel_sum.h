// The sum over batch and space as a plain struct.
#pragma once

#include "core/dtype.h"

namespace torchconv {

// x: (batch, channels, size[0], size[1], size[2]) with any strides (elements);
// out: `channels` elements of the same type, contiguous.
struct ChannelSum {
  int64_t batch, channels, size[3];
  int64_t stride_n, stride_c, stride[3];
  DType dtype;
};

} // namespace torchconv
