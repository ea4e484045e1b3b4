// Convolution passes by register tiles: what direct and im2col share. Read
// once per instruction set.
#include "cpu/simd.h"

#include "cpu/gemm_tile.h"

#include "cpu/conv_pack.h"

#include "cpu/conv_strip.h"

#include "cpu/conv_rows.h"

#include "cpu/conv_panel.h"

#include "cpu/conv_weight_store.h"

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
    const GatherView& v,
    const AxisRun& r0,
    const AxisRun& r1,
    const AxisRun& r2) {
  if (!r0.affine || !r1.affine || !r2.affine) {
    return Method::panel;
  }
  return RowsJob<S>::cycles(v, r0, r1, r2) < StripJob<S>::cycles(v, r0, r1, r2)
      ? Method::rows
      : Method::strip;
}

double job_count(const GatherView& v) {
  return 1.0 * v.runs[0].size() * v.runs[1].size() * v.runs[2].size();
}

template <typename S>
double all_cycles(const GatherView& v) {
  double sum = 0;
  each_job(v, [&](const AxisRun& r0, const AxisRun& r1, const AxisRun& r2) {
    sum += std::min(
        RowsJob<S>::cycles(v, r0, r1, r2), StripJob<S>::cycles(v, r0, r1, r2));
  });
  return sum;
}

// The view that strips are made for: phases folded into the lanes where that
// is cheaper than a job for each.
template <typename S>
GatherView strip_view(const ConvProblem& p, Pass pass) {
  GatherView v = gather_view(p, pass);
  if (can_fold(p, pass)) {
    GatherView folded = folded_view(p);
    bool patches = true;
    for (int d = 0; d < 3; ++d) {
      patches = patches && (p.stride[d] == 1 || p.kernel[d] == p.stride[d]);
    }
    if (patches || all_cycles<S>(folded) < all_cycles<S>(v)) {
      return folded;
    }
  }
  return v;
}

// The same view with its only job cut where padding can be skipped. The cuts
// are strips that share the whole job's weights. Whether one sample's products
// are worth it does not depend on the batch.
template <typename S>
bool cut_padding(GatherView& v) {
  if (job_count(v) != 1) {
    return false;
  }
  const AxisRun run[3] = {v.runs[0][0], v.runs[1][0], v.runs[2][0]};
  if (!run[0].affine || !run[1].affine || !run[2].affine ||
      method<S>(v, run[0], run[1], run[2]) != Method::strip) {
    return false;
  }
  const StripJob<S> whole(v, run[0], run[1], run[2], 1);
  if (whole.private_panels) {
    return false;
  }
  skip_padding(v, 0, 0.03, 1);
  skip_padding(v, 1, 0.03, 1);
  skip_padding(v, 2, 0.08, 6);
  const double products = 1.0 * run[0].count * run[1].count * run[2].count *
      v.lanes * v.p.groups * whole.n;
  if (products < 5e5 * job_count(v)) {
    for (int d = 0; d < 3; ++d) {
      v.runs[d] = {run[d]};
    }
  }
  return job_count(v) > 1;
}

// The bias of each group, in the computing type, padded to whole vectors.
template <typename S>
int64_t padded_lanes(const GatherView& v) {
  constexpr int64_t L = kLanes<acc_t<S>>;
  return (v.lanes + L - 1) / L * L;
}

// The view whose one job has all taps of the phases of input_grad, if all of
// those are strips: they share its packed weights, since packing every second
// or third tap is slow. Only its taps count.
template <typename S>
bool join_phases(const GatherView& v, GatherView& whole) {
  if (v.pass != Pass::input_grad || job_count(v) < 2) {
    return false;
  }
  bool strips = true;
  each_job(v, [&](const AxisRun& r0, const AxisRun& r1, const AxisRun& r2) {
    strips = strips && method<S>(v, r0, r1, r2) == Method::strip;
  });
  for (int d = 0; d < 3 && strips; ++d) {
    AxisRun all = v.runs[d][0];
    for (const AxisRun& run : v.runs[d]) {
      all.count = std::max(all.count, run.count);
    }
    all.t0 = 0;
    all.tstep = 1;
    all.taps = v.p.kernel[d];
    whole.runs[d] = {all};
  }
  return strips;
}

// How the jobs of a gather by strips lie in the workspace.
template <typename S>
struct StripPlan {
  using A = acc_t<S>;
  GatherView v, whole_view;
  bool cut; // jobs are strips that share the weights of whole()
  int threads;

  StripPlan(const ConvProblem& p, Pass pass, int threads)
      : v(strip_view<S>(p, pass)),
        whole_view(v),
        cut(cut_padding<S>(v) || join_phases<S>(v, whole_view)),
        threads(threads) {}
  StripPlan(const StripPlan&) = delete;

  StripJob<S> whole() const {
    const GatherView& w = whole_view;
    StripJob<S> job(w, w.runs[0][0], w.runs[1][0], w.runs[2][0], threads);
    job.private_panels = false;
    return job;
  }
  int64_t job_bytes() const {
    int64_t most = 0;
    if (cut) {
      const StripJob<S> all = whole();
      each_job(v, [&](const AxisRun& r0, const AxisRun& r1, const AxisRun& r2) {
        most = std::max(
            most, StripJob<S>(v, r0, r1, r2, threads, &all).workspace(threads));
      });
      return most;
    }
    each_job(v, [&](const AxisRun& r0, const AxisRun& r1, const AxisRun& r2) {
      const Method m = method<S>(v, r0, r1, r2);
      most = std::max(
          most,
          m == Method::strip
              ? StripJob<S>(v, r0, r1, r2, threads).workspace(threads)
              : m == Method::rows
              ? RowsJob<S>(v, r0, r1, r2, threads).workspace(threads)
              : PanelJob<S>(v, r0, r1, r2).workspace(threads));
    });
    return most;
  }
};

// The bias of each group in the workspace, where there is one.
template <typename S>
acc_t<S>* take_bias(const GatherView& v, Scratch& scratch) {
  return scratch.take<acc_t<S>>(v.p.groups * padded_lanes<S>(v));
}

template <typename S>
const acc_t<S>* widened_bias(
    const GatherView& v,
    const ConvTensors& t,
    Scratch& scratch) {
  using A = acc_t<S>;
  A* bias = take_bias<S>(v, scratch);
  if (t.bias == nullptr) {
    return nullptr;
  }
  const int64_t lanes = padded_lanes<S>(v);
  const int64_t channels =
      v.pass == Pass::forward ? v.p.out_group() : v.p.in_group();
  for (int64_t g = 0; g < v.p.groups; ++g) {
    for (int64_t l = 0; l < lanes; ++l) {
      const int64_t c =
          v.folded.empty() || l >= v.lanes ? l : v.folded[l].channel;
      bias[g * lanes + l] = l < v.lanes
          ? static_cast<A>(static_cast<const S*>(t.bias)[g * channels + c])
          : A(0);
    }
  }
  return bias;
}

template <typename S>
struct GatherTensors {
  const S* src;
  S* dst;
  const S* w;
  GatherTensors(Pass pass, const ConvTensors& t)
      : src(static_cast<const S*>(pass == Pass::forward ? t.x : t.y)),
        dst(static_cast<S*>(pass == Pass::forward ? t.y : t.x)),
        w(static_cast<const S*>(t.w)) {}
};

// forward and input_grad by columns alone.
template <typename S>
int64_t panel_workspace(const ConvProblem& p, Pass pass, int threads) {
  const GatherView v = gather_view(p, pass);
  Scratch scratch(nullptr);
  take_bias<S>(v, scratch);
  int64_t most = 0;
  each_job(v, [&](const AxisRun& r0, const AxisRun& r1, const AxisRun& r2) {
    most = std::max(most, PanelJob<S>(v, r0, r1, r2).workspace(threads));
  });
  return scratch.used() + most;
}

template <typename S>
void panel_run(
    const ConvProblem& p,
    Pass pass,
    const ConvTensors& tensors,
    void* workspace) {
  const GatherView v = gather_view(p, pass);
  const GatherTensors<S> t(pass, tensors);
  Scratch scratch(workspace);
  const acc_t<S>* bias = widened_bias<S>(v, tensors, scratch);
  void* rest = scratch.take<char>(0);
  const GatherFinish finish(v, tensors);
  each_job(v, [&](const AxisRun& r0, const AxisRun& r1, const AxisRun& r2) {
    PanelJob<S>(v, r0, r1, r2)(t.src, t.w, bias, t.dst, finish.blocks(), rest);
  });
  finish.rest();
}

// The same by strips where they serve.
template <typename S>
int64_t strip_workspace(const ConvProblem& p, Pass pass, int threads) {
  const StripPlan<S> plan(p, pass, threads);
  Scratch scratch(nullptr);
  take_bias<S>(plan.v, scratch);
  if (plan.cut) {
    plan.whole().take_shared(scratch);
  }
  return scratch.used() + plan.job_bytes();
}

template <typename S>
void strip_run(
    const ConvProblem& p,
    Pass pass,
    const ConvTensors& tensors,
    void* workspace) {
  const int threads = pool_threads();
  const StripPlan<S> plan(p, pass, threads);
  const GatherView& v = plan.v;
  const GatherTensors<S> t(pass, tensors);
  Scratch scratch(workspace);
  const acc_t<S>* bias = widened_bias<S>(v, tensors, scratch);
  auto packed = static_cast<const acc_t<S>*>(tensors.packed);
  const GatherFinish finish(v, tensors);
  if (plan.cut) {
    const StripJob<S> whole = plan.whole();
    const auto shared = whole.take_shared(scratch);
    void* rest = scratch.take<char>(0);
    if (packed == nullptr) {
      whole.pack(t.w, shared);
      packed = shared.panels;
    }
    each_job(v, [&](const AxisRun& r0, const AxisRun& r1, const AxisRun& r2) {
      StripJob<S>(v, r0, r1, r2, threads, &whole)(
          t.src, t.w, bias, t.dst, finish.blocks(), rest, packed);
    });
    finish.rest();
    return;
  }
  const int64_t lanes = padded_lanes<S>(v);
  void* rest = scratch.take<char>(0);
  each_job(v, [&](const AxisRun& r0, const AxisRun& r1, const AxisRun& r2) {
    switch (method<S>(v, r0, r1, r2)) {
      case Method::strip:
        StripJob<S>(v, r0, r1, r2, threads)(
            t.src, t.w, bias, t.dst, finish.blocks(), rest, packed);
        break;
      case Method::rows:
        RowsJob<S>(v, r0, r1, r2, threads)(
            t.src, t.w, bias, lanes, t.dst, finish.blocks(), rest);
        break;
      case Method::panel:
        PanelJob<S>(v, r0, r1, r2)(
            t.src, t.w, bias, t.dst, finish.blocks(), rest);
    }
  });
  finish.rest();
}

// The strip whose packed weights serve all jobs of a plan, if there is one.
template <typename S, typename F>
void with_packed_strip(const StripPlan<S>& plan, F f) {
  const GatherView& v = plan.v;
  if (plan.cut) {
    f(plan.whole());
  } else if (job_count(v) == 1) {
    each_job(v, [&](const AxisRun& r0, const AxisRun& r1, const AxisRun& r2) {
      if (method<S>(v, r0, r1, r2) == Method::strip) {
        f(StripJob<S>(v, r0, r1, r2, 1));
      }
    });
  }
}

template <typename S>
int64_t strip_packed_bytes(const ConvProblem& p, Pass pass) {
  int64_t bytes = 0;
  if (pass != Pass::weight_grad) {
    const StripPlan<S> plan(p, pass, 1);
    with_packed_strip<S>(plan, [&](const StripJob<S>& job) {
      bytes = job.packed() * static_cast<int64_t>(sizeof(acc_t<S>));
    });
  }
  return bytes;
}

template <typename S>
void strip_pack(const ConvProblem& p, Pass pass, const S* w, void* packed) {
  const StripPlan<S> plan(p, pass, 1);
  with_packed_strip<S>(plan, [&](const StripJob<S>& job) {
    std::vector<int64_t> offsets(job.n);
    job.pack(w, {offsets.data(), static_cast<acc_t<S>*>(packed)});
  });
}

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
