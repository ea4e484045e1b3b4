// im2col: every pass as a matrix product with blocks of columns, each written out
// in a bounded buffer (never the column matrix of a sample); complete for every
// problem. The product is the same register tile that direct uses.
#include <algorithm>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/conv_algorithm.h"
#include "core/conv_gather.h"
#include "core/parallel.h"
#include "cpu/conv_cost.h"
#include "cpu/epilogue.h"
#include "cpu/scratch.h"

#ifndef TC_ISA
#define TC_SELF "cpu/conv_im2col.cpp"
#include "cpu/foreach_isa.h"

namespace torchconv {
namespace cpu {
namespace {

const char* refusal(const ConvProblem&, Pass) {
  return nullptr;
}

double cost(const ConvProblem& p, Pass pass) {
  return tile_cost(simplified(p), pass, true);
}

int64_t workspace(const ConvProblem& p, Pass pass, int threads) {
  const ConvProblem s = simplified(p);
  switch (p.dtype) {
    case DType::f32:
      return TC_DISPATCH(im2col_workspace<float>)(s, pass, threads);
    case DType::f64:
      return TC_DISPATCH(im2col_workspace<double>)(s, pass, threads);
    case DType::f16:
      return TC_DISPATCH(im2col_workspace<half>)(s, pass, threads);
    case DType::bf16:
      return TC_DISPATCH(im2col_workspace<bfloat16>)(s, pass, threads);
    default: // whole numbers are rare: not worth compiling for every set
      return baseline::im2col_workspace<int64_t>(s, pass, threads);
  }
}

void run(const ConvProblem& p, Pass pass, const ConvTensors& t, void* space) {
  const ConvProblem s = simplified(p);
  switch (p.dtype) {
    case DType::f32:
      return TC_DISPATCH(im2col_run<float>)(s, pass, t, space);
    case DType::f64:
      return TC_DISPATCH(im2col_run<double>)(s, pass, t, space);
    case DType::f16:
      return TC_DISPATCH(im2col_run<half>)(s, pass, t, space);
    case DType::bf16:
      return TC_DISPATCH(im2col_run<bfloat16>)(s, pass, t, space);
    default:
      return baseline::im2col_run<int64_t>(s, pass, t, space);
  }
}

} // namespace

extern const ConvAlgorithm kConvIm2col;
const ConvAlgorithm kConvIm2col = {"im2col", refusal, workspace, cost, run};

} // namespace cpu
} // namespace torchconv

#else // one instruction set

#include "cpu/conv_tiles.h"

namespace torchconv {
namespace cpu {
namespace TC_ISA {

template <typename S>
int64_t im2col_workspace(const ConvProblem& p, Pass pass, int threads) {
  if (pass == Pass::weight_grad) {
    return WeightGradJob<S, true>(p).workspace(threads);
  }
  return panel_workspace<S>(p, pass, threads);
}

template <typename S>
void im2col_run(
    const ConvProblem& p,
    Pass pass,
    const ConvTensors& t,
    void* workspace) {
  if (pass == Pass::weight_grad) {
    const WeightGradJob<S, true> job(p);
    job(static_cast<const S*>(t.x),
        static_cast<const S*>(t.y),
        static_cast<S*>(t.w),
        workspace);
  } else {
    panel_run<S>(p, pass, t, workspace);
  }
}

#define TC_INSTANTIATE(S)                                              \
  template int64_t im2col_workspace<S>(const ConvProblem&, Pass, int); \
  template void im2col_run<S>(                                         \
      const ConvProblem&, Pass, const ConvTensors&, void*);
TC_INSTANTIATE(float)
TC_INSTANTIATE(double)
TC_INSTANTIATE(half)
TC_INSTANTIATE(bfloat16)
#ifndef TC_AVX2
TC_INSTANTIATE(int64_t)
#endif
#undef TC_INSTANTIATE

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

#endif
