// channel_sum of CUDA tensors.
#include "bindings/channel_sum.h"

#include "bindings/cuda_device.h"
#include "cuda/channel_sum.h"

namespace torchconv {
namespace {

struct ChannelSumOnCuda : OnCuda {
  using OnCuda::OnCuda;

  void channel_sum(const ChannelSum& p, const Tensor& x, void* out) const {
    const Tensor space = workspace(cuda::channel_sum_workspace(p));
    cuda::channel_sum(
        p, x.const_data_ptr(), out, space.mutable_data_ptr(), queue());
  }
};

} // namespace
} // namespace torchconv

TORCHCONV_CUDA_IMPL(m) {
  m.impl(
      "channel_sum",
      TORCH_BOX(&torchconv::channel_sum<torchconv::ChannelSumOnCuda>));
}
