// Convolution of small groups, by the strips of the depthwise kernels:
// positions in the lanes, several channels of a group in registers.
#include "cpu/conv_depthwise.h"

namespace torchconv {
namespace cpu {
namespace {

// Above this, channels fill vectors by themselves.
constexpr int64_t kMostChannels = 16;

const char* refusal(const ConvProblem& p, Pass pass) {
  if (p.dtype == DType::i64) {
    return "grouped computes in floating point; int64 is left to direct";
  }
  if (p.in_group() == 1) {
    return "grouped takes two or more input channels per group; depthwise takes "
           "one";
  }
  if (p.in_group() > kMostChannels || p.out_group() > kMostChannels) {
    return "grouped takes groups of up to 16 input and 16 output channels";
  }
  if (pass == Pass::weight_grad && p.groups == 1) {
    return "grouped computes weight_grad of two or more groups";
  }
  return nullptr;
}

} // namespace

extern const ConvAlgorithm kConvGrouped =
    {"grouped", refusal, strip_workspace, strip_cost, strip_run};

} // namespace cpu
} // namespace torchconv
