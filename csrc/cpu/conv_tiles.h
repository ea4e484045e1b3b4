// Convolution passes by register tiles: what direct and im2col share. Read
// once per instruction set.
#include "cpu/simd.h"

#include "cpu/gemm_tile.h"

#include "cpu/conv_pack.h"

#include "cpu/conv_strip.h"

#include "cpu/conv_rows.h"

#include "cpu/conv_panel.h"

#include "cpu/conv_weight_grad.h"

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// Visits the jobs of a gather: one for each choice of a run per dimension.
template <typename F>
void each_job(const GatherView& v, F f) {
  for (const AxisRun& r0 : v.runs[0]) {
    for (const AxisRun& r1 : v.runs[1]) {
      for (const AxisRun& r2 : v.runs[2]) {
        if (v.p.batch * r0.count * r1.count * r2.count > 0) {
          f(r0, r1, r2);
        }
      }
    }
  }
}

// What computes a job: strips serve affine runs, with channels or pixels in
// the lanes, whichever is estimated cheaper; the borders of a padding mode take
// columns.
enum class Method { strip, rows, panel };

template <typename S>
Method method(
    bool strips,
    const GatherView& v,
    const AxisRun& r0,
    const AxisRun& r1,
    const AxisRun& r2) {
  if (!strips || !r0.affine || !r1.affine || !r2.affine) {
    return Method::panel;
  }
  return RowsJob<S>::cycles(v, r0, r1, r2) < StripJob<S>::cycles(v, r0, r1, r2)
      ? Method::rows
      : Method::strip;
}

// The bias of each group, in the computing type, padded to whole vectors.
template <typename S>
int64_t padded_lanes(const GatherView& v) {
  constexpr int64_t L = kLanes<acc_t<S>>;
  return (v.lanes + L - 1) / L * L;
}

template <typename S>
int64_t gather_workspace(
    const ConvProblem& p,
    Pass pass,
    bool strips,
    int threads) {
  const GatherView v = gather_view(p, pass);
  int64_t most = 0;
  each_job(v, [&](const AxisRun& r0, const AxisRun& r1, const AxisRun& r2) {
    const Method m = method<S>(strips, v, r0, r1, r2);
    most = std::max(
        most,
        m == Method::strip
            ? StripJob<S>(v, r0, r1, r2, threads).workspace(threads)
            : m == Method::rows
            ? RowsJob<S>(v, r0, r1, r2, threads).workspace(threads)
            : PanelJob<S>(v, r0, r1, r2).workspace(threads));
  });
  Scratch scratch(nullptr);
  scratch.take<acc_t<S>>(v.p.groups * padded_lanes<S>(v));
  return scratch.used() + most;
}

template <typename S>
void gather_run(
    const ConvProblem& p,
    Pass pass,
    bool strips,
    const ConvTensors& t,
    void* workspace) {
  using A = acc_t<S>;
  const GatherView v = gather_view(p, pass);
  const bool fwd = pass == Pass::forward;
  const S* src = static_cast<const S*>(fwd ? t.x : t.y);
  S* dst = static_cast<S*>(fwd ? t.y : t.x);
  const S* w = static_cast<const S*>(t.w);
  const int64_t lanes = padded_lanes<S>(v);
  Scratch scratch(workspace);
  A* bias = scratch.take<A>(v.p.groups * lanes);
  void* rest = scratch.take<char>(0);
  if (t.bias == nullptr) {
    bias = nullptr;
  } else {
    for (int64_t g = 0; g < v.p.groups; ++g) {
      for (int64_t l = 0; l < lanes; ++l) {
        bias[g * lanes + l] = l < v.lanes
            ? static_cast<A>(static_cast<const S*>(t.bias)[g * v.lanes + l])
            : A(0);
      }
    }
  }
  const int threads = pool_threads();
  each_job(v, [&](const AxisRun& r0, const AxisRun& r1, const AxisRun& r2) {
    switch (method<S>(strips, v, r0, r1, r2)) {
      case Method::strip:
        StripJob<S>(v, r0, r1, r2, threads)(src, w, bias, dst, rest);
        break;
      case Method::rows:
        RowsJob<S>(v, r0, r1, r2, threads)(src, w, bias, lanes, dst, rest);
        break;
      case Method::panel:
        PanelJob<S>(v, r0, r1, r2)(src, w, bias, dst, rest);
    }
  });
}

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
