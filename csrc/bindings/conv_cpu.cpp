#include "bindings/conv_cpu.h"

#include "bindings/autotune.h"
#include "core/parallel.h"

namespace torchconv {

bool ConvChoice::holds() const {
  return isa == cpu::active_isa() && threads == pool_threads();
}

ConvChoice choose_on_cpu(
    ConvProblem p,
    Pass pass,
    const std::string& algorithm) {
  const std::string name = take_tf32(algorithm, &p);
  ConvChoice c;
  c.algorithm = require_conv(cpu_conv_algorithms(), p, pass, name);
  c.isa = cpu::active_isa();
  c.threads = pool_threads();
  c.workspace = c.algorithm->workspace(p, pass, c.threads);
  return c;
}

Tensor run_on_cpu(
    const ConvCall& call,
    const ConvChoice* known,
    const void* packed) {
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
  const ConvChoice choice = known != nullptr && known->holds()
      ? *known
      : choose_on_cpu(call.p, call.pass, call.algorithm);
  ConvTensors t = call.t;
  // Packing does not depend on the threads.
  if (known != nullptr && known->isa == choice.isa &&
      known->algorithm == choice.algorithm) {
    t.packed = packed;
  }
  if (choice.workspace == 0) {
    choice.algorithm->run(p, call.pass, t, nullptr);
    return call.result;
  }
  const Tensor workspace = allocate_workspace(choice.workspace);
  choice.algorithm->run(p, call.pass, t, workspace.mutable_data_ptr());
  return call.result;
}

} // namespace torchconv
