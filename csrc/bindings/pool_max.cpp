// Max pooling: schemas and the CPU's kernels.
#include "bindings/pool_max.h"

#include "bindings/bound.h"
#include "bindings/cpu.h"
#include "cpu/pool_max.h"

namespace torchconv {
namespace {

struct MaxPoolOnCpu : OnCpu {
  using OnCpu::OnCpu;

  void max_pool(
      const PoolProblem& p,
      bool sliding,
      CodeKind kind,
      const void* x,
      void* y,
      void* codes) const {
    cpu::max_pool(
        sliding ? cpu::sliding_max_pool(p, kind)
                : cpu::adaptive_max_pool(p, kind),
        x,
        y,
        codes);
  }
  void fractional_max_pool(
      const PoolProblem& p,
      int nd,
      const void* samples,
      const void* x,
      void* y,
      int64_t* indices) const {
    cpu::fractional_max_pool(p, nd, samples, x, y, indices);
  }
};

} // namespace

std::vector<Bindable> bindable_max_pool() {
  return {
      bindable<&max_pool<MaxPoolOnCpu>>("max_pool"),
      bindable<&max_pool_with_codes<MaxPoolOnCpu>>("max_pool_with_codes"),
      bindable<&max_pool_with_indices<MaxPoolOnCpu>>("max_pool_with_indices"),
      bindable<&adaptive_max_pool<MaxPoolOnCpu>>("adaptive_max_pool"),
      bindable<&adaptive_max_pool_with_codes<MaxPoolOnCpu>>(
          "adaptive_max_pool_with_codes"),
      bindable<&adaptive_max_pool_with_indices<MaxPoolOnCpu>>(
          "adaptive_max_pool_with_indices"),
      bindable<&fractional_max_pool<MaxPoolOnCpu>>("fractional_max_pool"),
  };
}

} // namespace torchconv

STABLE_TORCH_LIBRARY_FRAGMENT(torchconv, m) {
  m.def(
      "max_pool(Tensor x, SymInt[] kernel_size, SymInt[] stride, "
      "SymInt[] padding, SymInt[] dilation, bool ceil_mode, "
      "bool channels_last) -> Tensor");
  m.def(
      "max_pool_with_codes(Tensor x, SymInt[] kernel_size, SymInt[] stride, "
      "SymInt[] padding, SymInt[] dilation, bool ceil_mode, "
      "bool channels_last) -> (Tensor, Tensor)");
  m.def(
      "max_pool_with_indices(Tensor x, SymInt[] kernel_size, SymInt[] stride, "
      "SymInt[] padding, SymInt[] dilation, bool ceil_mode, "
      "bool channels_last) -> (Tensor, Tensor)");
  m.def(
      "adaptive_max_pool(Tensor x, SymInt[] output_size, bool channels_last) "
      "-> Tensor");
  m.def(
      "adaptive_max_pool_with_codes(Tensor x, SymInt[] output_size, "
      "bool channels_last) -> (Tensor, Tensor)");
  m.def(
      "adaptive_max_pool_with_indices(Tensor x, SymInt[] output_size, "
      "bool channels_last) -> (Tensor, Tensor)");
  m.def(
      "fractional_max_pool(Tensor x, Tensor random_samples, "
      "SymInt[] kernel_size, SymInt[] output_size, bool channels_last) "
      "-> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(torchconv, CPU, m) {
  torchconv::register_max_pool<torchconv::MaxPoolOnCpu>(m);
}
