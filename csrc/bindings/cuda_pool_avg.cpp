// Average, adaptive average and Lp pooling of CUDA tensors.
#include "bindings/pool_avg.h"

#include "bindings/cuda_device.h"
#include "cuda/pool_sum.h"

namespace torchconv {
namespace {

struct AvgPoolOnCuda : OnCuda {
  using OnCuda::OnCuda;

  void average(
      const PoolProblem& p,
      const PoolDivisor& divisor,
      const void* x,
      void* y) const {
    cuda::average(p, divisor, x, y, queue());
  }
  void average_input_grad(
      const PoolProblem& p,
      const PoolDivisor& divisor,
      const void* gy,
      void* gx) const {
    cuda::average_input_grad(p, divisor, gy, gx, queue());
  }
  void lp(const PoolProblem& p, double norm_type, const void* x, void* y)
      const {
    cuda::lp(p, norm_type, x, y, queue());
  }
  void lp_input_grad(
      const PoolProblem& p,
      double norm_type,
      const void* gy,
      const void* x,
      const void* y,
      void* gx) const {
    cuda::lp_input_grad(p, norm_type, gy, x, y, gx, queue());
  }
};

} // namespace
} // namespace torchconv

TORCHCONV_CUDA_IMPL(m) {
  torchconv::register_avg_pool<torchconv::AvgPoolOnCuda>(m);
}
