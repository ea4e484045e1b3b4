// Max pooling of CUDA tensors.
#include "bindings/pool.h"

#include "bindings/cuda.h"
#include "cuda/max_pool2d.h"

namespace torchconv {
namespace {

Tensor max_pool_cuda(
    const Tensor& x,
    const Ints& kernel_size,
    const Ints& stride,
    const Ints& padding,
    const Ints& dilation,
    bool ceil_mode,
    bool channels_last) {
  if (spatial_dims(x) != 2) {
    throw std::runtime_error(
        "torchconv::max_pool of CUDA tensors is 2-d only in this build; move "
        "the input to the CPU");
  }
  const cuda::Queue queue = queue_of(x, "max_pool");
  PoolProblem p = pool_problem(
      size_of(x),
      kernel_size,
      stride,
      padding,
      dilation,
      ceil_mode,
      "max_pool");
  p.dtype = pool_dtype_of(x, "max_pool");
  Tensor y = torch::stable::empty(
      pool_output_shape(p, 2),
      x.scalar_type(),
      std::nullopt,
      x.device(),
      std::nullopt,
      channels_last ? torch::headeronly::MemoryFormat::ChannelsLast
                    : torch::headeronly::MemoryFormat::Contiguous);
  set_pool_x(p, x);
  set_pool_y(p, y);
  cuda::max_pool2d(
      p,
      x.const_data_ptr(),
      y.mutable_data_ptr(),
      channels_last,
      queue.device,
      queue.stream);
  return y;
}

} // namespace
} // namespace torchconv

TORCHCONV_CUDA_IMPL(m) {
  m.impl("max_pool", TORCH_BOX(&torchconv::max_pool_cuda));
}
