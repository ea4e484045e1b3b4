// Max pooling of CUDA tensors. Files named cuda_* are compiled only where the
// CUDA kernels are.
#include "bindings/pool.h"

#include <stdexcept>

#include "cuda/max_pool2d.h"

// The one symbol that only a CUDA build of torch has (in libtorch_cuda, which
// libtorch brings along): weak, so that the same binary loads beside a
// CPU-only torch.
extern "C" __attribute__((weak)) AOTITorchError
aoti_torch_get_current_cuda_stream(int32_t device_index, void** ret_stream);

namespace torchconv {
namespace {

void* current_stream(int32_t device) {
  if (&aoti_torch_get_current_cuda_stream == nullptr) {
    throw std::runtime_error(
        "torchconv has CUDA kernels, but this torch was built without CUDA");
  }
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(
      aoti_torch_get_current_cuda_stream(device, &stream));
  return stream;
}

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
  // The dispatcher calls this for CUDA tensors; reached by hand, say so.
  STD_TORCH_CHECK(x.is_cuda(), "torchconv::max_pool: x is not on a GPU");
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
  const int32_t device = x.get_device_index();
  cuda::max_pool2d(
      p,
      x.const_data_ptr(),
      y.mutable_data_ptr(),
      channels_last,
      device,
      current_stream(device));
  return y;
}

} // namespace
} // namespace torchconv

STABLE_TORCH_LIBRARY_IMPL(torchconv, CUDA, m) {
  m.impl("max_pool", TORCH_BOX(&torchconv::max_pool_cuda));
}
