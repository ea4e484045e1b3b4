// implicit_gemm: every pass as a matrix product (conv_gemm.h), on tensor cores
// for half types, float64 and, where it is allowed, float32 as TF32. Columns
// are never written out. 1 x 1 convolutions and patches (kernel = stride) are
// the same product: each source element is read once.
#include <algorithm>

#include "core/conv_algorithm.h"
#include "cuda/conv_border.h"
#include "cuda/conv_cost.h"
#include "cuda/conv_gemm.h"

namespace torchconv {
namespace cuda {
namespace {

constexpr int64_t kLeastChannels = 4; // of a group, if there are several

const char* refusal(const ConvProblem& p, Pass pass) {
  if (p.dtype == DType::i64) {
    return "implicit_gemm takes floating dtypes, not integers";
  }
  if (!gemm_can_count(p, pass)) {
    return "implicit_gemm takes filters of fewer than 2^31 elements";
  }
  if (p.groups > 1 && std::min(p.in_group(), p.out_group()) < kLeastChannels) {
    return "implicit_gemm takes groups of at least 4 input and 4 output "
           "channels: smaller ones would leave its tiles empty";
  }
  return nullptr;
}

int64_t workspace(const ConvProblem& problem, Pass pass, int) {
  const ConvProblem p = simplified(problem);
  if (pass == Pass::weight_grad) {
    return weight_grad_gemm_plan(p).parts_bytes;
  }
  const GatherGemmPlan plan = gather_gemm_plan(p, pass, nullptr);
  return plan.parts_bytes + plan.packed_bytes;
}

double cost(const ConvProblem& problem, Pass pass) {
  const ConvProblem p = nominal(simplified(problem), pass);
  const bool tensor = gemm_uses_tensor_cores(p);
  const double rate = peak_rate(p, tensor ? Unit::tensor : Unit::fma);
  const int64_t per = 16 / dtype_size(p.dtype);
  if (pass == Pass::weight_grad) {
    const WeightGradGemmPlan plan = weight_grad_gemm_plan(p);
    const GemmTile& tile = plan.large ? kLargeTile : kSmallTile;
    const double blocks =
        1.0 * plan.row_tiles * plan.column_tiles * plan.splits * p.groups;
    // What tiles and chunks hold beyond the problem is multiplied too.
    const double used = 1.0 * p.out_channels * p.in_group() * p.taps() /
        (1.0 * plan.row_tiles * tile.rows * plan.column_tiles * tile.columns *
         p.groups) *
        p.out[2] / ((p.out[2] + per - 1) / per * per);
    return kernel_cost(
               conv_flops(p) / 2,
               rate,
               tile.share * 0.5 * used * fill(blocks, 2),
               conv_bytes(p)) +
        (plan.splits > 1 ? kernel_cost(0, 1, 1, 1.0 * plan.parts_bytes) : 0);
  }
  const GatherGemmPlan plan = gather_gemm_plan(p, pass, nullptr);
  const GemmTile& tile = plan.large ? kLargeTile : kSmallTile;
  const bool forward = pass == Pass::forward;
  const int64_t red = forward ? p.in_group() : p.out_group();
  const int64_t lanes = forward ? p.out_group() : p.in_group();
  const double pixels =
      1.0 * p.batch * (forward ? p.out_pixels() : p.in_pixels());
  const double phases =
      forward ? 1.0 : 1.0 * p.stride[0] * p.stride[1] * p.stride[2];
  const double blocks = 1.0 * plan.row_tiles * plan.column_tiles * plan.splits *
      phases * p.groups;
  const double used = lanes / (1.0 * plan.column_tiles * tile.columns) * red /
      ((red + per - 1) / per * per) * pixels /
      (1.0 * plan.row_tiles * tile.rows * phases);
  return kernel_cost(
             conv_flops(p) / 2,
             rate,
             tile.share * (plan.vector ? 1.0 : 0.5) * used * fill(blocks, 2),
             conv_bytes(p)) +
      (plan.pack ? kernel_cost(0, 1, 1, 2.0 * plan.packed_bytes) : 0) +
      (plan.splits > 1 ? kernel_cost(0, 1, 1, 2.0 * plan.parts_bytes) : 0) +
      (forward ? 0 : border_cost(p));
}

void run(
    const ConvProblem& problem,
    Pass pass,
    const ConvTensors& t,
    void* space) {
  const ConvProblem p = simplified(problem);
  if (pass == Pass::weight_grad) {
    weight_grad_gemm(p, t, space);
    return;
  }
  gather_gemm(p, pass, t, space);
  if (pass == Pass::input_grad) {
    input_grad_border(p, t);
  }
}

} // namespace

extern const ConvAlgorithm kConvImplicitGemm;
const ConvAlgorithm kConvImplicitGemm =
    {"implicit_gemm", refusal, workspace, cost, run};

} // namespace cuda
} // namespace torchconv
