// depthwise: one input channel per group, any multiplier; every pass for both
// orders of memory, any kernel size and number of dimensions.
#include <algorithm>

#include "core/conv_algorithm.h"
#include "cuda/conv_border.h"
#include "cuda/conv_cost.h"
#include "cuda/conv_depthwise.h"

namespace torchconv {
namespace cuda {

int64_t splits_workspace(const ConvProblem& p, int64_t splits);

bool depthwise_by_channels(const ConvProblem& p) {
  return p.in_channels > 1 && p.x.c <= p.x.s[2] && p.y.c <= p.y.s[2];
}

namespace {

const char* refusal(const ConvProblem& problem, Pass pass) {
  if (problem.dtype == DType::i64) {
    return "depthwise takes floating dtypes, not integers";
  }
  if (problem.in_group() != 1) {
    return "depthwise takes one input channel per group (groups equal to "
           "in_channels)";
  }
  const ConvProblem p = simplified(problem);
  if (depthwise_by_channels(p)) {
    return nullptr;
  }
  return pass == Pass::weight_grad ? depthwise_weight_grad_refusal(p)
                                   : depthwise_rows_refusal(p, pass);
}

int64_t workspace(const ConvProblem& problem, Pass pass, int) {
  const ConvProblem p = simplified(problem);
  return pass == Pass::weight_grad
      ? splits_workspace(p, depthwise_weight_grad_splits(p))
      : 0;
}

double cost(const ConvProblem& problem, Pass pass) {
  const ConvProblem p = nominal(simplified(problem), pass);
  const double products = conv_flops(p) / 2;
  const double rate = peak_rate(p, Unit::fma);
  // Half of the instructions are multiply-adds; a strip's last positions may
  // lie beyond the row.
  const double used = 1.0 * p.out[2] / ((p.out[2] + 7) / 8 * 8);
  const double time = kernel_cost(products, rate, 0.4 * used, conv_bytes(p));
  if (pass == Pass::weight_grad) {
    return 1.2 * time +
        (workspace(p, pass, 1) > 0 ? kernel_cost(0, 1, 1, 0) : 0);
  }
  return time + (pass == Pass::input_grad ? border_cost(p) : 0);
}

void run(
    const ConvProblem& problem,
    Pass pass,
    const ConvTensors& t,
    void* space) {
  const ConvProblem p = simplified(problem);
  const bool channels = depthwise_by_channels(p);
  if (pass == Pass::weight_grad) {
    channels ? depthwise_weight_grad_columns(p, t, space)
             : depthwise_weight_grad_rows(p, t, space);
    return;
  }
  channels ? depthwise_columns(p, pass, t) : depthwise_rows(p, pass, t);
  if (pass == Pass::input_grad) {
    input_grad_border(p, t);
  }
}

} // namespace

extern const ConvAlgorithm kConvDepthwise;
const ConvAlgorithm kConvDepthwise =
    {"depthwise", refusal, workspace, cost, run};

} // namespace cuda
} // namespace torchconv
