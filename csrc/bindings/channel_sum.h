// channel_sum: the operator for every device.
//
// Device is constructed from the tensor and the operator's name and has
//   channel_sum(p, x, out)
#pragma once

#include "bindings/tensor.h"
#include "core/channel_sum.h"

namespace torchconv {

template <typename Device>
Tensor channel_sum(const Tensor& x) {
  const Device device(x, "channel_sum");
  STD_TORCH_CHECK(
      x.dim() >= 3 && x.dim() <= 5,
      "torchconv::channel_sum expects x of 3 to 5 dimensions, got ",
      x.dim());
  ChannelSum p;
  p.dtype = dtype_of(x, "channel_sum");
  p.batch = x.sizes()[0];
  p.channels = x.sizes()[1];
  p.stride_n = x.strides()[0];
  p.stride_c = x.strides()[1];
  spatial3(x, p.size, p.stride);
  Tensor out = allocate({p.channels}, x.scalar_type(), false, &x);
  device.channel_sum(p, x, out.mutable_data_ptr());
  return out;
}

} // namespace torchconv
