// Convolution of CUDA tensors.
#include "bindings/conv_passes.h"

#include "bindings/cuda_device.h"

namespace torchconv {
namespace {

struct ConvOnCuda : OnCuda {
  using OnCuda::OnCuda;

  // All algorithms of CUDA apply the epilogue where they write their sums.
  Tensor conv(const ConvCall& call) const {
    ConvProblem p = call.p;
    const std::string algorithm = take_tf32(call.algorithm, &p);
    const ConvAlgorithm* a =
        require_conv(cuda_conv_algorithms(), p, call.pass, algorithm);
    ConvTensors t = call.t;
    t.queue = &queue();
    const int64_t bytes = a->workspace(p, call.pass, 1);
    if (bytes == 0) {
      a->run(p, call.pass, t, nullptr);
    } else {
      const Tensor space = workspace(bytes);
      a->run(p, call.pass, t, space.mutable_data_ptr());
    }
    return call.result;
  }
};

} // namespace
} // namespace torchconv

TORCHCONV_CUDA_IMPL(m) {
  torchconv::register_conv<torchconv::ConvOnCuda>(m);
}
