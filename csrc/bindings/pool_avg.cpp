// Average, adaptive average and Lp pooling: schemas and the CPU's kernels.
#include "bindings/pool_avg.h"

#include "bindings/bound.h"
#include "bindings/cpu.h"
#include "cpu/pool_avg.h"
#include "cpu/pool_lp.h"

namespace torchconv {
namespace {

cpu::WindowSum windows_of(const PoolProblem& p, const PoolDivisor& d) {
  return d.sliding
      ? cpu::average_windows(p, d.count_include_pad, d.divisor_override)
      : cpu::adaptive_windows(p);
}

struct AvgPoolOnCpu : OnCpu {
  using OnCpu::OnCpu;

  void average(
      const PoolProblem& p,
      const PoolDivisor& divisor,
      const void* x,
      void* y) const {
    cpu::WindowSum w = windows_of(p, divisor);
    cpu::average_forward(w, p.dtype, x, y);
  }
  void average_input_grad(
      const PoolProblem& p,
      const PoolDivisor& divisor,
      const void* gy,
      void* gx) const {
    cpu::WindowSum w = cpu::transposed(windows_of(p, divisor));
    cpu::average_input_grad(w, p.dtype, gy, gx);
  }
  void lp(const PoolProblem& p, double norm_type, const void* x, void* y)
      const {
    cpu::WindowSum w = cpu::average_windows(p, true, 0);
    cpu::lp_forward(w, p.dtype, norm_type, pool_taps(p), x, y);
  }
  void lp_input_grad(
      const PoolProblem& p,
      double norm_type,
      const void* gy,
      const void* x,
      const void* y,
      void* gx) const {
    cpu::WindowSum w = cpu::transposed(cpu::average_windows(p, true, 0));
    cpu::lp_input_grad(w, p.dtype, norm_type, pool_taps(p), gy, x, y, gx);
  }
};

} // namespace

std::vector<Bindable> bindable_avg_pool() {
  return {
      bindable<&avg_pool<AvgPoolOnCpu>>("avg_pool"),
      bindable<&avg_pool_input_grad<AvgPoolOnCpu>>("avg_pool_input_grad"),
      bindable<&adaptive_avg_pool<AvgPoolOnCpu>>("adaptive_avg_pool"),
      bindable<&adaptive_avg_pool_input_grad<AvgPoolOnCpu>>(
          "adaptive_avg_pool_input_grad"),
      bindable<&lp_pool<AvgPoolOnCpu>>("lp_pool"),
      bindable<&lp_pool_input_grad<AvgPoolOnCpu>>("lp_pool_input_grad"),
  };
}

} // namespace torchconv

STABLE_TORCH_LIBRARY_FRAGMENT(torchconv, m) {
  m.def(
      "avg_pool(Tensor x, SymInt[] kernel_size, SymInt[] stride, "
      "SymInt[] padding, bool ceil_mode, bool count_include_pad, "
      "SymInt? divisor_override, bool channels_last) -> Tensor");
  m.def(
      "avg_pool_input_grad(Tensor grad, SymInt[] input_size, "
      "SymInt[] kernel_size, SymInt[] stride, SymInt[] padding, "
      "bool ceil_mode, bool count_include_pad, SymInt? divisor_override, "
      "bool channels_last) -> Tensor");
  m.def(
      "adaptive_avg_pool(Tensor x, SymInt[] output_size, bool channels_last)"
      " -> Tensor");
  m.def(
      "adaptive_avg_pool_input_grad(Tensor grad, SymInt[] input_size, "
      "bool channels_last) -> Tensor");
  m.def(
      "lp_pool(Tensor x, float norm_type, SymInt[] kernel_size, "
      "SymInt[] stride, bool ceil_mode, bool channels_last) -> Tensor");
  m.def(
      "lp_pool_input_grad(Tensor grad, Tensor x, Tensor y, float norm_type, "
      "SymInt[] kernel_size, SymInt[] stride, bool ceil_mode, "
      "bool channels_last) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(torchconv, CPU, m) {
  torchconv::register_avg_pool<torchconv::AvgPoolOnCpu>(m);
}
