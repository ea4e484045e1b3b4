// winograd: convolutions with fewer multiplications than their definition has, in
// float32; strided ones by their phases.
#include <algorithm>
#include <cmath>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/conv_algorithm.h"
#include "core/conv_gather.h"
#include "core/parallel.h"
#include "cpu/conv_cost.h"
#include "cpu/epilogue.h"
#include "cpu/conv_winograd_form.h"
#include "cpu/scratch.h"

#ifndef TC_ISA
#define TC_SELF "cpu/conv_winograd.cpp"
#include "cpu/foreach_isa.h"

namespace torchconv {
namespace cpu {
namespace {

// Tiles of a dilated row share their sources with tiles that lie up to a
// dilation away, and are kept in cache together.
constexpr int64_t kWidestDilation1 = 512, kWidestDilation2 = 64;

const char* refusal(const ConvProblem& problem, Pass pass) {
  const ConvProblem p = simplified(problem);
  if (p.dtype != DType::f32 && p.dtype != DType::f16 &&
      p.dtype != DType::bf16) {
    return "winograd takes float32, float16 and bfloat16, being less exact than "
           "other dtypes ask for";
  }
  if (conv_flops(p) == 0 || p.in_pixels() == 0) {
    return "winograd takes tensors that have elements";
  }
  if (p.kernel[2] < 2) {
    return "winograd takes kernels of at least 2 along the last dimension";
  }
  // Stride 1 is found in the phases (positions modulo the stride) of the
  // source, or of the destination of input_grad, each of which sees every
  // stride-th tap. Those of single taps alone save nothing.
  for (int d = 0; d < 3; ++d) {
    const bool tiled = d == 2 || (d == 1 && p.kernel[1] > 1);
    const int64_t least = p.stride[d] + (tiled ? 1 : 0);
    if (p.stride[d] > 1 && (tiled || pass == Pass::input_grad) &&
        (p.kernel[d] < least || p.dilation[d] != 1)) {
      return "winograd takes strided convolutions whose kernels are not dilated "
             "and longer than the stride";
    }
  }
  if (p.stride[0] != 1 && pass == Pass::weight_grad) {
    return "winograd takes weight_grad of stride 1 along the depth";
  }
  if (p.dilation[2] > (p.kernel[1] > 1 ? kWidestDilation2 : kWidestDilation1)) {
    return "winograd takes dilations up to 64 along the last dimension, 512 "
           "where the kernel is flat";
  }
  return nullptr;
}

// What tiles along one dimension take, of all phases of a stride together.
struct CostAlong {
  double tiles = 1; // of a phase
  double points = 0; // of all pieces
  double outputs = 0; // points that are added up before outputs are made
  double taps = 0;
};

CostAlong cost_along(const ConvProblem& p, Pass pass, int d) {
  const bool swapped = pass == Pass::input_grad;
  const int64_t k = p.kernel[d], s = p.stride[d];
  const auto up = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  const int64_t count = swapped ? up(p.in[d], s) : p.out[d];
  CostAlong c;
  c.taps = k;
  if (d < 2 && (d == 0 || k == 1)) {
    c.tiles = count;
    c.points = k;
    c.outputs = swapped ? s : 1;
    return c;
  }
  c.tiles = up(count, 4 * p.dilation[d]) * p.dilation[d];
  for (int64_t f = 0; f < std::min(s, k); ++f) {
    // Three taps have six points, two five and one four.
    const int64_t taps = up(k - f, s), pieces = up(taps, 3);
    const double most = 3 + up(taps, pieces);
    c.points += taps + 3 * pieces;
    c.outputs = swapped ? c.outputs + most : std::max(c.outputs, most);
  }
  return c;
}

// Vector operations of the products and of the transforms, counted on Zen 4. A
// transform costs more where channels have to be turned to the lanes first.
double cost(const ConvProblem& problem, Pass pass) {
  const ConvProblem p = simplified(problem);
  const int64_t L = vector_lanes(p.dtype);
  const auto up = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  double tiles = p.batch, points = 1, outputs = 1, taps = 1;
  for (int d = 0; d < 3; ++d) {
    const CostAlong along = cost_along(p, pass, d);
    tiles *= along.tiles;
    points *= along.points;
    outputs *= along.outputs;
    taps *= along.taps;
  }
  // x and y, or y and x: what the product reads as scalars, and as lanes.
  const bool swapped = pass == Pass::input_grad;
  const int64_t red = swapped ? p.out_group() : p.in_group();
  const int64_t lanes = swapped ? p.in_group() : p.out_group();
  const int64_t side = groups_side_by_side(p, L);
  const double blocks = up(red, L), vectors = up(lanes, L);
  const bool inner = (swapped ? p.y : p.x).c == 1;
  const bool outer = (swapped ? p.x : p.y).c == 1;
  const double product = red * vectors;
  // Half types are converted on the way, and weights of input_grad, whose lanes
  // lie apart in contiguous weights, one by one.
  const bool half_type = p.dtype != DType::f32;
  const double in = half_type ? 13 : inner ? 5 : 11;
  const double out = outer ? (half_type ? 8 : 4.5) : (half_type ? 12 : 10);
  const double convert = !half_type || pass == Pass::weight_grad ? 0
      : swapped && p.w.c != 1                                    ? 55
                                                                 : 11;
  const bool strided = p.stride[1] * p.stride[2] > 1;
  // Products of few tiles wait for the weights.
  double operations = std::max(tiles, 4.0) * points * product *
          (side > 1          ? 1.4
               : vectors > 1 ? 1.0
                             : 1.2) *
          (pass == Pass::weight_grad ? 1.3 : 1.0) +
      tiles * (blocks * points * in + vectors * outputs * out);
  // How often weights are transformed, or gradients of weights made.
  const double times =
      pass == Pass::weight_grad || (strided && pass == Pass::forward)
      ? 1 + std::floor(tiles / 64)
      : 1;
  operations += times * product *
      (pass == Pass::weight_grad ? points * 8 + taps * 12
                                 : points * 4 + taps * (9 + convert));
  // Pieces of a kernel each convert their sources: measured beside dot, which
  // bfloat16 has for a choice.
  if (p.dtype == DType::bf16 &&
      (strided || p.kernel[1] > 3 || p.kernel[2] > 3)) {
    operations *= 1.4;
  }
  // Results of groups in phases, which are few in a row of channels.
  double phases = 0;
  if (swapped && p.groups > 1 && p.stride[2] > 1) {
    phases = p.x.c != 1 ? 0.35 : side > 1 ? 0.2 : 0.0;
  }
  return p.groups / side * (operations * L / fma_rate(p.dtype) + 1000) +
      phases * p.batch * p.in_channels * p.in_pixels();
}

int64_t workspace(const ConvProblem& p, Pass pass, int threads) {
  const ConvProblem s = simplified(p);
  switch (p.dtype) {
    case DType::f16:
      return TC_DISPATCH(winograd_workspace<half>)(s, pass, threads);
    case DType::bf16:
      return TC_DISPATCH(winograd_workspace<bfloat16>)(s, pass, threads);
    default:
      return TC_DISPATCH(winograd_workspace<float>)(s, pass, threads);
  }
}

void run(const ConvProblem& p, Pass pass, const ConvTensors& t, void* space) {
  const ConvProblem s = simplified(p);
  switch (p.dtype) {
    case DType::f16:
      return TC_DISPATCH(winograd_run<half>)(s, pass, t, space);
    case DType::bf16:
      return TC_DISPATCH(winograd_run<bfloat16>)(s, pass, t, space);
    default:
      return TC_DISPATCH(winograd_run<float>)(s, pass, t, space);
  }
}

} // namespace

extern const ConvAlgorithm kConvWinograd;
const ConvAlgorithm kConvWinograd =
    {"winograd", refusal, workspace, cost, run, false};

} // namespace cpu
} // namespace torchconv

#else // one instruction set

#include "cpu/simd.h"

#include "cpu/shuffle.h"

#include "cpu/gemm_tile.h"

#include "cpu/conv_pack.h"

#include "cpu/conv_panel.h"

#include "cpu/conv_winograd_transform.h"

#include "cpu/conv_winograd_tiles.h"

#include "cpu/conv_winograd_product.h"

#include "cpu/conv_winograd_side.h"

#include "cpu/conv_winograd_weights.h"

#include "cpu/conv_winograd_gather.h"

#include "cpu/conv_winograd_weight_grad.h"

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// The runs of a gather as jobs: winograd where they are affine, columns at the
// borders of a padding mode (input_grad).
template <typename W, typename P>
void each_winograd_job(const GatherView& v, W winograd, P panel) {
  for (const AxisRun& r0 : v.runs[0]) {
    for (const AxisRun& r1 : v.runs[1]) {
      for (const AxisRun& r2 : v.runs[2]) {
        if (v.p.batch * r0.count * r1.count * r2.count == 0) {
          continue;
        }
        r0.affine&& r1.affine&& r2.affine ? winograd(r0, r1, r2)
                                          : panel(r0, r1, r2);
      }
    }
  }
}

// The bias of each group is padded to whole vectors, in the computing type.
template <typename S>
int64_t padded_bias(const GatherView& v) {
  constexpr int64_t L = kLanes<acc_t<S>>;
  return (v.lanes + L - 1) / L * L;
}

} // namespace

// The view of a problem, with groups side by side.
template <typename S>
GatherView winograd_view(const ConvProblem& p, Pass pass, int64_t side) {
  GatherView v = gather_view(p, pass);
  v.p = side_by_side(p, side);
  v.red *= side;
  v.lanes *= side;
  v.src_group *= side;
  v.dst_group *= side;
  v.w_group *= side;
  return v;
}

// Borders of a padding mode are columns of one group.
template <typename S>
int64_t gather_side(const ConvProblem& p, Pass pass) {
  return pass == Pass::input_grad && p.mode != PaddingMode::zeros
      ? 1
      : groups_side_by_side(p, kLanes<acc_t<S>>);
}

template <typename S>
int64_t winograd_workspace(const ConvProblem& p, Pass pass, int threads) {
  if (pass == Pass::weight_grad) {
    return WinogradWeightGrad<S>(p).workspace(threads);
  }
  const int64_t side = gather_side<S>(p, pass);
  const GatherView v = winograd_view<S>(p, pass, side);
  Scratch scratch(nullptr);
  scratch.take<acc_t<S>>(v.p.groups * padded_bias<S>(v));
  int64_t most = 0;
  each_winograd_job(
      v,
      [&](const AxisRun& r0, const AxisRun& r1, const AxisRun& r2) {
        const WinogradJob<S> job(v, side, r0, r1, r2, threads);
        most = std::max(most, job.workspace(threads));
      },
      [&](const AxisRun& r0, const AxisRun& r1, const AxisRun& r2) {
        most = std::max(most, PanelJob<S>(v, r0, r1, r2).workspace(threads));
      });
  return scratch.used() + most;
}

template <typename S>
void winograd_run(
    const ConvProblem& p,
    Pass pass,
    const ConvTensors& t,
    void* workspace) {
  using A = acc_t<S>;
  if (pass == Pass::weight_grad) {
    const WinogradWeightGrad<S> job(p);
    job(static_cast<const S*>(t.x),
        static_cast<const S*>(t.y),
        static_cast<S*>(t.w),
        workspace);
    return;
  }
  const int64_t side = gather_side<S>(p, pass);
  const GatherView v = winograd_view<S>(p, pass, side);
  const bool fwd = pass == Pass::forward;
  const S* src = static_cast<const S*>(fwd ? t.x : t.y);
  S* dst = static_cast<S*>(fwd ? t.y : t.x);
  const S* w = static_cast<const S*>(t.w);
  const int64_t lanes = padded_bias<S>(v);
  Scratch scratch(workspace);
  A* bias = scratch.take<A>(v.p.groups * lanes);
  void* rest = scratch.take<char>(0);
  if (t.bias == nullptr) {
    bias = nullptr;
  } else {
    for (int64_t i = 0; i < v.p.groups * lanes; ++i) {
      const int64_t g = i / lanes, lane = i % lanes;
      bias[i] = lane < v.lanes
          ? static_cast<A>(static_cast<const S*>(t.bias)[g * v.lanes + lane])
          : A(0);
    }
  }
  const int threads = pool_threads();
  const GatherFinish finish(v, t);
  each_winograd_job(
      v,
      [&](const AxisRun& r0, const AxisRun& r1, const AxisRun& r2) {
        WinogradJob<S>(v, side, r0, r1, r2, threads)(
            src, w, bias, lanes, dst, finish.blocks(), rest);
      },
      [&](const AxisRun& r0, const AxisRun& r1, const AxisRun& r2) {
        PanelJob<S>(v, r0, r1, r2)(src, w, bias, dst, finish.blocks(), rest);
      });
  finish.rest();
}

#define TC_INSTANTIATE(S)                                                \
  template int64_t winograd_workspace<S>(const ConvProblem&, Pass, int); \
  template void winograd_run<S>(                                         \
      const ConvProblem&, Pass, const ConvTensors&, void*);
TC_INSTANTIATE(float)
TC_INSTANTIATE(half)
TC_INSTANTIATE(bfloat16)
#undef TC_INSTANTIATE

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

#endif
