// The schemas of the convolution operators, and their CPU side.
#include "bindings/conv_passes.h"

#include "bindings/autotune.h"
#include "bindings/cpu.h"
#include "core/parallel.h"

namespace torchconv {
namespace {

struct ConvOnCpu : OnCpu {
  using OnCpu::OnCpu;

  // Runs the measured choice or the planner's; what it returns is result, or
  // what torch made in its place.
  Tensor conv(const ConvCall& call) const {
    ConvProblem p = call.p;
    const std::string algorithm = take_tf32(call.algorithm, &p);
    const bool exact = algorithm == kAutoExact;
    if (tuning_mode() != Tuning::off && (exact || algorithm == kAuto)) {
      auto tuned = run_tuned(
          {p,
           call.pass,
           call.t,
           call.first,
           call.second,
           call.bias,
           call.result,
           exact});
      if (tuned.has_value()) {
        return *tuned;
      }
    }
    const ConvAlgorithm* a =
        require_conv(cpu_conv_algorithms(), p, call.pass, algorithm);
    const int64_t bytes = a->workspace(p, call.pass, pool_threads());
    if (bytes == 0) {
      a->run(p, call.pass, call.t, nullptr);
      return call.result;
    }
    const Tensor workspace = allocate_workspace(bytes);
    a->run(p, call.pass, call.t, workspace.mutable_data_ptr());
    return call.result;
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
  m.def(
      "conv_weight_grad(Tensor grad, Tensor x, SymInt[] weight_size, "
      "SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups, "
      "str padding_mode, bool channels_last, str algorithm) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(torchconv, CPU, m) {
  torchconv::register_conv<torchconv::ConvOnCpu>(m);
}
