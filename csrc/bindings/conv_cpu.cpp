#include "bindings/conv_cpu.h"

#include "bindings/autotune.h"
#include "core/parallel.h"
#include "cpu/epilogue.h"

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

void run_row_on_cpu(
    const ConvAlgorithm* a,
    int64_t workspace,
    const ConvProblem& p,
    Pass pass,
    const ConvTensors& t) {
  if (workspace == 0) {
    a->run(p, pass, t, nullptr);
  } else {
    const Tensor space = allocate_workspace(workspace);
    a->run(p, pass, t, space.mutable_data_ptr());
  }
}

void finish_on_cpu(
    const ConvProblem& p,
    const Epilogue& e,
    const Tensor& result) {
  if (e.any()) {
    cpu::apply_epilogue(
        p.dtype, e, result.mutable_data_ptr(), element_count(result));
  }
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
  run_row_on_cpu(choice.algorithm, choice.workspace, p, call.pass, t);
  return call.result;
}

} // namespace torchconv
