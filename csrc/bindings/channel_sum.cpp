#include "bindings/tensor.h"

#include "cpu/channel_sum.h"

namespace torchconv {
namespace {

Tensor channel_sum(const Tensor& x) {
  STD_TORCH_CHECK(
      x.dim() >= 3 && x.dim() <= 5,
      "torchconv::channel_sum expects x of 3 to 5 dimensions, got ",
      x.dim());
  cpu::ChannelSum p;
  p.dtype = dtype_of(x, "channel_sum");
  p.batch = x.sizes()[0];
  p.channels = x.sizes()[1];
  p.stride_n = x.strides()[0];
  p.stride_c = x.strides()[1];
  spatial3(x, p.size, p.stride);
  Tensor out = allocate({p.channels}, x.scalar_type());
  cpu::channel_sum(p, x.const_data_ptr(), out.mutable_data_ptr());
  return out;
}

} // namespace
} // namespace torchconv

STABLE_TORCH_LIBRARY_FRAGMENT(torchconv, m) {
  m.def("channel_sum(Tensor x) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(torchconv, CPU, m) {
  m.impl("channel_sum", TORCH_BOX(&torchconv::channel_sum));
}
