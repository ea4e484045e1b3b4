// Convolution with a kernel per output position: schemas and the CPU's kernels.
#include "bindings/conv_local.h"

#include "bindings/cpu.h"
#include "core/parallel.h"
#include "cpu/conv_local.h"

namespace torchconv {
namespace {

struct ConvLocalOnCpu : OnCpu {
  using OnCpu::OnCpu;

  void forward(
      const LocalProblem& p,
      const void* x,
      const void* w,
      const void* bias,
      void* y) const {
    const Tensor space = workspace(p, Pass::forward);
    cpu::conv_local_forward(p, x, w, bias, y, space.mutable_data_ptr());
  }
  void input_grad(
      const LocalProblem& p,
      const void* gy,
      const void* w,
      void* gx) const {
    const Tensor space = workspace(p, Pass::input_grad);
    cpu::conv_local_input_grad(p, gy, w, gx, space.mutable_data_ptr());
  }
  void weight_grad(
      const LocalProblem& p,
      const void* gy,
      const void* x,
      void* gw) const {
    const Tensor space = workspace(p, Pass::weight_grad);
    cpu::conv_local_weight_grad(p, gy, x, gw, space.mutable_data_ptr());
  }

 private:
  static Tensor workspace(const LocalProblem& p, Pass pass) {
    return allocate_workspace(
        cpu::conv_local_workspace(p, pass, pool_threads()));
  }
};

} // namespace
} // namespace torchconv

STABLE_TORCH_LIBRARY_FRAGMENT(torchconv, m) {
  m.def(
      "local_conv_forward(Tensor x, Tensor weight, Tensor? bias, "
      "SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups, "
      "str padding_mode, bool channels_last) -> Tensor");
  m.def(
      "local_conv_input_grad(Tensor grad, Tensor weight, SymInt[] input_size, "
      "SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups, "
      "str padding_mode, bool channels_last) -> Tensor");
  m.def(
      "local_conv_weight_grad(Tensor grad, Tensor x, SymInt[] weight_size, "
      "SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups, "
      "str padding_mode) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(torchconv, CPU, m) {
  torchconv::register_conv_local<torchconv::ConvLocalOnCpu>(m);
}
