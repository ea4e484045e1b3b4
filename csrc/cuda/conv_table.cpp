// The convolution algorithms of CUDA: one file and one row each.
#include "core/planner.h"

namespace torchconv {
namespace cuda {
extern const ConvAlgorithm kConvDirect;
extern const ConvAlgorithm kConvImplicitGemm;
extern const ConvAlgorithm kConvIm2col;
extern const ConvAlgorithm kConvDepthwise;
} // namespace cuda

const std::vector<const ConvAlgorithm*>& cuda_conv_algorithms() {
  static const std::vector<const ConvAlgorithm*> table = {
      &cuda::kConvDirect,
      &cuda::kConvImplicitGemm,
      &cuda::kConvIm2col,
      &cuda::kConvDepthwise,
  };
  return table;
}

} // namespace torchconv
