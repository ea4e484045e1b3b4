// unfold and fold: schemas and the CPU's kernels.
#include "bindings/fold.h"

#include "bindings/bound.h"
#include "bindings/cpu.h"
#include "cpu/fold.h"

namespace torchconv {
namespace {

struct FoldOnCpu : OnCpu {
  using OnCpu::OnCpu;

  void unfold(const FoldProblem& f, FoldType t, const void* x, void* columns)
      const {
    cpu::unfold(f, t, x, columns);
  }
  void fold(const FoldProblem& f, FoldType t, const void* columns, void* image)
      const {
    cpu::fold(f, t, columns, image);
  }
};

} // namespace

std::vector<Bindable> bindable_fold() {
  return {
      bindable<&unfold<FoldOnCpu>>("unfold"),
      bindable<&fold<FoldOnCpu>>("fold"),
  };
}

} // namespace torchconv

STABLE_TORCH_LIBRARY_FRAGMENT(torchconv, m) {
  m.def(
      "unfold(Tensor x, SymInt[] kernel_size, SymInt[] dilation, "
      "SymInt[] padding, SymInt[] stride) -> Tensor");
  m.def(
      "fold(Tensor columns, SymInt[] output_size, SymInt[] kernel_size, "
      "SymInt[] dilation, SymInt[] padding, SymInt[] stride) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(torchconv, CPU, m) {
  torchconv::register_fold<torchconv::FoldOnCpu>(m);
}
