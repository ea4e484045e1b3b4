// unfold and fold of CUDA tensors.
#include "bindings/fold.h"

#include "bindings/cuda_device.h"
#include "cuda/fold.h"

namespace torchconv {
namespace {

struct FoldOnCuda : OnCuda {
  using OnCuda::OnCuda;

  void unfold(const FoldProblem& f, FoldType t, const void* x, void* columns)
      const {
    cuda::unfold(f, t, x, columns, queue());
  }
  void fold(const FoldProblem& f, FoldType t, const void* columns, void* image)
      const {
    cuda::fold(f, t, columns, image, queue());
  }
};

} // namespace
} // namespace torchconv

TORCHCONV_CUDA_IMPL(m) {
  torchconv::register_fold<torchconv::FoldOnCuda>(m);
}
