// direct: every pass by register tiles over strips of the input; complete for
// every problem.
#include <algorithm>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/conv_algorithm.h"
#include "core/conv_gather.h"
#include "core/parallel.h"
#include "cpu/conv_cost.h"
#include "cpu/conv_patch_plan.h"
#include "cpu/epilogue.h"
#include "cpu/scratch.h"

#ifndef TC_ISA
#define TC_SELF "cpu/conv_direct.cpp"
#include "cpu/foreach_isa.h"

namespace torchconv {
namespace cpu {
namespace {

const char* refusal(const ConvProblem&, Pass) {
  return nullptr;
}

double cost(const ConvProblem& p, Pass pass) {
  const ConvProblem s = simplified(p);
  return patch_form(s, pass, vector_lanes(p.dtype)).takes
      ? patch_cost(s, fma_rate(p.dtype))
      : tile_cost(s, pass, false);
}

int64_t workspace(const ConvProblem& p, Pass pass, int threads) {
  const ConvProblem s = simplified(p);
  switch (p.dtype) {
    case DType::f32:
      return TC_DISPATCH(direct_workspace<float>)(s, pass, threads);
    case DType::f64:
      return TC_DISPATCH(direct_workspace<double>)(s, pass, threads);
    case DType::f16:
      return TC_DISPATCH(direct_workspace<half>)(s, pass, threads);
    case DType::bf16:
      return TC_DISPATCH(direct_workspace<bfloat16>)(s, pass, threads);
    default: // whole numbers are rare: not worth compiling for every set
      return baseline::direct_workspace<int64_t>(s, pass, threads);
  }
}

void run(const ConvProblem& p, Pass pass, const ConvTensors& t, void* space) {
  const ConvProblem s = simplified(p);
  switch (p.dtype) {
    case DType::f32:
      return TC_DISPATCH(direct_run<float>)(s, pass, t, space);
    case DType::f64:
      return TC_DISPATCH(direct_run<double>)(s, pass, t, space);
    case DType::f16:
      return TC_DISPATCH(direct_run<half>)(s, pass, t, space);
    case DType::bf16:
      return TC_DISPATCH(direct_run<bfloat16>)(s, pass, t, space);
    default:
      return baseline::direct_run<int64_t>(s, pass, t, space);
  }
}

// Weights of whole numbers are packed in passing only.
int64_t packed_bytes(const ConvProblem& p, Pass pass) {
  const ConvProblem s = simplified(p);
  switch (p.dtype) {
    case DType::f32:
      return TC_DISPATCH(direct_packed_bytes<float>)(s, pass);
    case DType::f64:
      return TC_DISPATCH(direct_packed_bytes<double>)(s, pass);
    case DType::f16:
      return TC_DISPATCH(direct_packed_bytes<half>)(s, pass);
    case DType::bf16:
      return TC_DISPATCH(direct_packed_bytes<bfloat16>)(s, pass);
    default:
      return 0;
  }
}

void pack(const ConvProblem& p, Pass pass, const void* w, void* packed) {
  const ConvProblem s = simplified(p);
  switch (p.dtype) {
    case DType::f32:
      return TC_DISPATCH(direct_pack<float>)(s, pass, w, packed);
    case DType::f64:
      return TC_DISPATCH(direct_pack<double>)(s, pass, w, packed);
    case DType::f16:
      return TC_DISPATCH(direct_pack<half>)(s, pass, w, packed);
    case DType::bf16:
      return TC_DISPATCH(direct_pack<bfloat16>)(s, pass, w, packed);
    default:
      return;
  }
}

const ConvPacking kPacking = {packed_bytes, pack};

} // namespace

extern const ConvAlgorithm kConvDirect;
const ConvAlgorithm kConvDirect =
    {"direct", refusal, workspace, cost, run, true, &kPacking};

} // namespace cpu
} // namespace torchconv

#else // one instruction set

#include "cpu/conv_tiles.h"

#include "cpu/conv_patch.h"

namespace torchconv {
namespace cpu {
namespace TC_ISA {

template <typename S>
int64_t direct_workspace(const ConvProblem& p, Pass pass, int threads) {
  const PatchForm form = patch_form(p, pass, kLanes<acc_t<S>>);
  if (form.takes) {
    return patch_workspace<S>(p, pass, form, threads);
  }
  if (pass == Pass::weight_grad) {
    return WeightGradJob<S, false>(p).workspace(threads);
  }
  return strip_workspace<S>(p, pass, threads);
}

template <typename S>
void direct_run(
    const ConvProblem& p,
    Pass pass,
    const ConvTensors& t,
    void* workspace) {
  const PatchForm form = patch_form(p, pass, kLanes<acc_t<S>>);
  if (form.takes) {
    patch_run<S>(p, pass, form, t, workspace);
  } else if (pass == Pass::weight_grad) {
    const WeightGradJob<S, false> job(p);
    job(static_cast<const S*>(t.x),
        static_cast<const S*>(t.y),
        static_cast<S*>(t.w),
        workspace);
  } else {
    strip_run<S>(p, pass, t, workspace);
  }
}

template <typename S>
int64_t direct_packed_bytes(const ConvProblem& p, Pass pass) {
  return patch_form(p, pass, kLanes<acc_t<S>>).takes
      ? 0
      : strip_packed_bytes<S>(p, pass);
}

template <typename S>
void direct_pack(const ConvProblem& p, Pass pass, const void* w, void* packed) {
  strip_pack<S>(p, pass, static_cast<const S*>(w), packed);
}

#define TC_INSTANTIATE(S)                                              \
  template int64_t direct_workspace<S>(const ConvProblem&, Pass, int); \
  template void direct_run<S>(                                         \
      const ConvProblem&, Pass, const ConvTensors&, void*);
TC_INSTANTIATE(float)
TC_INSTANTIATE(double)
TC_INSTANTIATE(half)
TC_INSTANTIATE(bfloat16)
#ifndef TC_AVX2
TC_INSTANTIATE(int64_t)
#endif
#undef TC_INSTANTIATE

#define TC_INSTANTIATE(S)                                            \
  template int64_t direct_packed_bytes<S>(const ConvProblem&, Pass); \
  template void direct_pack<S>(const ConvProblem&, Pass, const void*, void*);
TC_INSTANTIATE(float)
TC_INSTANTIATE(double)
TC_INSTANTIATE(half)
TC_INSTANTIATE(bfloat16)
#undef TC_INSTANTIATE

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

#endif
