// The convolution algorithms of the CPU: one file and one row each.
#include "core/planner.h"

namespace torchconv {
namespace cpu {
extern const ConvAlgorithm kConvDirect;
extern const ConvAlgorithm kConvIm2col;
extern const ConvAlgorithm kConvDepthwise;
extern const ConvAlgorithm kConvGrouped;
extern const ConvAlgorithm kConvWinograd;
extern const ConvAlgorithm kConvDot;
} // namespace cpu

const std::vector<const ConvAlgorithm*>& cpu_conv_algorithms() {
  static const std::vector<const ConvAlgorithm*> table = {
      &cpu::kConvDirect,
      &cpu::kConvIm2col,
      &cpu::kConvDepthwise,
      &cpu::kConvGrouped,
      &cpu::kConvWinograd,
      &cpu::kConvDot,
  };
  return table;
}

} // namespace torchconv
