// Scatter, gather and unpool: schemas and the CPU's kernels.
#include "bindings/pool_index.h"

#include "bindings/bound.h"
#include "bindings/cpu.h"
#include "cpu/pool_index.h"

namespace torchconv {
namespace {

struct PoolIndexOnCpu : OnCpu {
  using OnCpu::OnCpu;

  void pool_scatter(const PoolCodes& k, const void* grad, void* gx) const {
    cpu::pool_scatter(k, grad, gx);
  }
  void pool_gather(const PoolCodes& k, const void* x, void* out) const {
    cpu::pool_gather(k, x, out);
  }
  bool max_unpool(const PoolCodes& k, const void* x, void* out, int64_t* wrong)
      const {
    return cpu::max_unpool(k, x, out, wrong);
  }
};

} // namespace

std::vector<Bindable> bindable_pool_index() {
  return {
      bindable<&pool_scatter<PoolIndexOnCpu>>("pool_scatter"),
      bindable<&pool_gather<PoolIndexOnCpu>>("pool_gather"),
      bindable<&max_unpool<PoolIndexOnCpu>>("max_unpool"),
  };
}

} // namespace torchconv

STABLE_TORCH_LIBRARY_FRAGMENT(torchconv, m) {
  m.def(
      "pool_scatter(Tensor grad, Tensor codes, SymInt[] input_size, "
      "SymInt[] kernel_size, SymInt[] stride, SymInt[] padding, "
      "SymInt[] dilation, bool channels_last) -> Tensor");
  m.def(
      "pool_gather(Tensor x, Tensor codes, SymInt[] kernel_size, "
      "SymInt[] stride, SymInt[] padding, SymInt[] dilation, "
      "bool channels_last) -> Tensor");
  m.def(
      "max_unpool(Tensor x, Tensor indices, SymInt[] output_size, "
      "bool channels_last) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(torchconv, CPU, m) {
  torchconv::register_pool_index<torchconv::PoolIndexOnCpu>(m);
}
