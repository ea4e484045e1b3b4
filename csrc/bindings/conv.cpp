// The schemas of the convolution operators, and their CPU side.
#include "bindings/conv_cpu.h"
#include "bindings/conv_passes.h"
#include "bindings/cpu.h"

namespace torchconv {
namespace {

struct ConvOnCpu : OnCpu {
  using OnCpu::OnCpu;

  Tensor conv(const ConvCall& call) const {
    return run_on_cpu(call, nullptr);
  }
};

} // namespace
} // namespace torchconv

STABLE_TORCH_LIBRARY_FRAGMENT(torchconv, m) {
  m.def(
      "conv_forward(Tensor x, Tensor weight, Tensor? bias, SymInt[] stride, "
      "SymInt[] padding, SymInt[] dilation, SymInt groups, str padding_mode, "
      "bool channels_last, str algorithm) -> Tensor");
  m.def(
      "conv_input_grad(Tensor grad, Tensor weight, Tensor? bias, "
      "SymInt[] input_size, SymInt[] stride, SymInt[] padding, "
      "SymInt[] dilation, SymInt groups, str padding_mode, "
      "bool channels_last, str algorithm) -> Tensor");
  // As forward and input_grad, then activation(result + residual); a and b are
  // the activation's parameters (core/epilogue.h).
  m.def(
      "conv_forward_fused(Tensor x, Tensor weight, Tensor? bias, "
      "Tensor? residual, SymInt[] stride, SymInt[] padding, SymInt[] dilation, "
      "SymInt groups, str padding_mode, bool channels_last, str algorithm, "
      "str activation, float a, float b) -> Tensor");
  m.def(
      "conv_input_grad_fused(Tensor grad, Tensor weight, Tensor? bias, "
      "Tensor? residual, SymInt[] input_size, SymInt[] stride, "
      "SymInt[] padding, SymInt[] dilation, SymInt groups, str padding_mode, "
      "bool channels_last, str algorithm, str activation, float a, float b) -> "
      "Tensor");
  m.def(
      "conv_weight_grad(Tensor grad, Tensor x, SymInt[] weight_size, "
      "SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups, "
      "str padding_mode, bool channels_last, str algorithm) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(torchconv, CPU, m) {
  torchconv::register_conv<torchconv::ConvOnCpu>(m);
}
