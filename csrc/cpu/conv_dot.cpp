// dot: bfloat16 by the processor's own products of pairs, summed in float32
// (AVX512_BF16: vdpbf16ps, twice the multiply-adds of float32).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "core/conv_algorithm.h"
#include "core/conv_gather.h"
#include "core/dtype.h"
#include "core/parallel.h"
#include "cpu/conv_cost.h"
#include "cpu/conv_dot_form.h"
#include "cpu/conv_patch_plan.h"
#include "cpu/epilogue.h"
#include "cpu/isa.h"
#include "cpu/scratch.h"

// One variant only: pairs of bfloat16 are multiplied by this instruction set.
#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target( \
    "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,prefer-vector-width=512")
#define TC_ISA avx512_bf16
#define TC_AVX2 1
#define TC_AVX512 1
#define TC_VECTOR_BYTES 64
#define TC_REGISTERS 32
#include "cpu/simd.h"

#include "cpu/gemm_tile.h"

#include "cpu/conv_pack.h"

#include "cpu/conv_patch.h"

#include "cpu/conv_dot_tile.h"

#include "cpu/conv_dot_pack.h"

#include "cpu/conv_weight_store.h"

#include "cpu/conv_dot_weight_grad.h"

#include "cpu/conv_dot_grouped.h"

#include "cpu/conv_dot.h"
#undef TC_ISA
#undef TC_AVX2
#undef TC_AVX512
#undef TC_VECTOR_BYTES
#undef TC_REGISTERS
#pragma GCC pop_options
#endif

namespace torchconv {
namespace cpu {
namespace {

bool has_dot() {
#if defined(__x86_64__)
  static const bool has = __builtin_cpu_supports("avx512bf16");
  return has && active_isa() == Isa::avx512;
#else
  return false;
#endif
}

const char* refusal(const ConvProblem& p, Pass pass) {
  if (p.dtype != DType::bf16) {
    return "dot takes bfloat16";
  }
  if (!has_dot()) {
    return "dot takes processors that have AVX512_BF16, and their instruction "
           "set avx512";
  }
  if (pass == Pass::input_grad && p.mode != PaddingMode::zeros) {
    return "dot takes gradients of zero padding only";
  }
  return nullptr;
}

double cost(const ConvProblem& problem, Pass pass) {
  const ConvProblem p = simplified(problem);
  const int64_t L = vector_lanes(p.dtype);
  const bool fwd = pass == Pass::forward;
  if (fwd && !shares_vectors(p, pass) && patch_form(p, pass, 2 * L).takes) {
    return patch_cost(p, 1.6 * fma_rate(p.dtype));
  }
  const double x = 1.0 * p.batch * p.in_channels * p.in_pixels();
  const double y = 1.0 * p.batch * p.out_channels * p.out_pixels();
  const double weights = 1.0 * p.out_channels * p.in_group() * p.taps();
  if (pass == Pass::weight_grad) {
    // Pixels are paired; gy is packed for each 28 to 192 / taps channels.
    const double pixels = static_cast<double>(p.out_pixels());
    const double filled = static_cast<double>(p.out_group()) /
        ((p.out_group() + L - 1) / L * L) * pixels /
        static_cast<double>(p.out_pixels() + p.out_pixels() % 2);
    const double chunks = 1.0 + std::floor(p.in_group() * p.taps() / 256.0);
    // 0.8: what winograd takes for this pass of half types is beyond its
    // estimate by a quarter.
    return 0.8 *
        (conv_flops(p) / 4 / (fma_rate(p.dtype) * filled) + 0.2 * x +
         y * chunks * (p.y.c == 1 ? 0.05 : 0.12) + weights * 0.3 +
         500.0 * p.groups);
  }
  const bool inner = (fwd ? p.x : p.y).c == 1, outer = (fwd ? p.y : p.x).c == 1;
  const double source = fwd ? x : y, result = fwd ? y : x;
  if (shares_vectors(p, pass)) {
    const int64_t filters = fwd ? p.out_group() : p.in_group();
    const double used = static_cast<double>(L / filters * filters) / L;
    return conv_flops(p) / 4 / (fma_rate(p.dtype) * used) +
        source * (inner ? 0.1 : 0.15) + result * (outer ? 0.05 : 0.08) +
        weights + 2000.0;
  }
  const DotForm form(p, pass);
  const int64_t lanes = fwd ? p.out_group() : p.in_group();
  const double steps = form.pair_steps(p.taps()) + form.single_steps();
  const double used = static_cast<double>(lanes) / ((lanes + L - 1) / L * L) *
      form.red * p.taps() / (2 * steps);
  return conv_flops(p) / 4 / (fma_rate(p.dtype) * used) +
      source * (inner ? 0.02 : 0.15) + result * (outer ? 0.03 : 0.05) +
      weights * 0.1 + 500.0 * p.groups;
}

#if defined(__x86_64__)
int64_t workspace(const ConvProblem& p, Pass pass, int threads) {
  return avx512_bf16::dot_workspace(simplified(p), pass, threads);
}
void run(const ConvProblem& p, Pass pass, const ConvTensors& t, void* space) {
  avx512_bf16::dot_run(simplified(p), pass, t, space);
}
int64_t packed_bytes(const ConvProblem& p, Pass pass) {
  return avx512_bf16::dot_packed_bytes(simplified(p), pass);
}
void pack(const ConvProblem& p, Pass pass, const void* w, void* packed) {
  avx512_bf16::dot_pack(simplified(p), pass, w, packed);
}
#else
int64_t workspace(const ConvProblem&, Pass, int) {
  return 0;
}
void run(const ConvProblem&, Pass, const ConvTensors&, void*) {}
int64_t packed_bytes(const ConvProblem&, Pass) {
  return 0;
}
void pack(const ConvProblem&, Pass, const void*, void*) {}
#endif

const ConvPacking kPacking = {packed_bytes, pack};

} // namespace

extern const ConvAlgorithm kConvDot;
const ConvAlgorithm kConvDot =
    {"dot", refusal, workspace, cost, run, true, &kPacking};

} // namespace cpu
} // namespace torchconv
