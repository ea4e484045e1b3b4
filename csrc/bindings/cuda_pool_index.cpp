// Scatter, gather and unpool of CUDA tensors.
#include "bindings/pool_index.h"

#include "bindings/cuda_device.h"
#include "cuda/pool_codes.h"

namespace torchconv {
namespace {

struct PoolIndexOnCuda : OnCuda {
  using OnCuda::OnCuda;

  void pool_scatter(const PoolCodes& k, const void* grad, void* gx) const {
    const Tensor space = workspace(cuda::scatter_workspace(k));
    cuda::pool_scatter(k, grad, gx, space.mutable_data_ptr(), queue());
  }
  void pool_gather(const PoolCodes& k, const void* x, void* out) const {
    cuda::pool_gather(k, x, out, queue());
  }
  // The kernel looks at the indices: the host does not wait for them.
  bool max_unpool(const PoolCodes& k, const void* x, void* out, int64_t*)
      const {
    const Tensor space = workspace(cuda::unpool_workspace(k));
    cuda::max_unpool(k, x, out, space.mutable_data_ptr(), queue());
    return true;
  }
};

} // namespace
} // namespace torchconv

TORCHCONV_CUDA_IMPL(m) {
  torchconv::register_pool_index<torchconv::PoolIndexOnCuda>(m);
}
