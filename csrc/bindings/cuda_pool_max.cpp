// Max pooling of CUDA tensors.
#include "bindings/pool_max.h"

#include "bindings/cuda_device.h"
#include "cuda/pool_max.h"

namespace torchconv {
namespace {

struct MaxPoolOnCuda : OnCuda {
  using OnCuda::OnCuda;

  void max_pool(
      const PoolProblem& p,
      bool sliding,
      CodeKind kind,
      const void* x,
      void* y,
      void* codes) const {
    cuda::max_pool(p, sliding, kind, x, y, codes, queue());
  }
  void fractional_max_pool(
      const PoolProblem& p,
      int nd,
      const void* samples,
      const void* x,
      void* y,
      int64_t* indices) const {
    cuda::fractional_max_pool(p, nd, samples, x, y, indices, queue());
  }
};

} // namespace
} // namespace torchconv

TORCHCONV_CUDA_IMPL(m) {
  torchconv::register_max_pool<torchconv::MaxPoolOnCuda>(m);
}
