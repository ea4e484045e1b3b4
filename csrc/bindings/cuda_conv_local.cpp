// Convolution with a kernel per output position, of CUDA tensors.
#include "bindings/conv_local.h"

#include "bindings/cuda_device.h"
#include "cuda/conv_local.h"

namespace torchconv {
namespace {

struct ConvLocalOnCuda : OnCuda {
  using OnCuda::OnCuda;

  void forward(
      const LocalProblem& p,
      const void* x,
      const void* w,
      const void* bias,
      void* y) const {
    cuda::conv_local_forward(p, x, w, bias, y, queue());
  }
  void input_grad(
      const LocalProblem& p,
      const void* gy,
      const void* w,
      void* gx) const {
    const Tensor space = workspace(cuda::conv_local_input_grad_workspace(p));
    cuda::conv_local_input_grad(
        p, gy, w, gx, space.mutable_data_ptr(), queue());
  }
  void weight_grad(
      const LocalProblem& p,
      const void* gy,
      const void* x,
      void* gw) const {
    const Tensor space = workspace(cuda::conv_local_weight_grad_workspace(p));
    cuda::conv_local_weight_grad(
        p, gy, x, gw, space.mutable_data_ptr(), queue());
  }
};

} // namespace
} // namespace torchconv

TORCHCONV_CUDA_IMPL(m) {
  torchconv::register_conv_local<torchconv::ConvLocalOnCuda>(m);
}
