#include "core/conv_gather.h"

#include <algorithm>

#include "core/conv_phase.h"

namespace torchconv {
namespace {

// The phases of input_grad along d over positions [first, last).
void add_phases(
    const ConvProblem& p,
    int d,
    const Interior& range,
    std::vector<AxisRun>& runs) {
  for (int64_t f = 0; f < p.stride[d]; ++f) {
    const Phase h = input_grad_phase(p, d, f, range.first, range.last);
    if (h.count > 0) {
      runs.push_back(
          {h.p0, h.step, h.count, h.t0, h.tstep, h.taps, h.a, h.b, h.c, true});
    }
  }
}

} // namespace

GatherView gather_view(const ConvProblem& p, Pass pass) {
  GatherView v;
  v.pass = pass;
  v.p = p;
  const bool fwd = pass == Pass::forward;
  v.mode = fwd ? p.mode : PaddingMode::zeros;
  v.red = fwd ? p.in_group() : p.out_group();
  v.lanes = fwd ? p.out_group() : p.in_group();
  v.fold[0] = v.fold[1] = v.fold[2] = 1;
  v.src = fwd ? p.x : p.y;
  v.dst = fwd ? p.y : p.x;
  v.src_group = v.red * v.src.c;
  v.dst_group = v.lanes * v.dst.c;
  v.w_group = p.out_group() * p.w.n;
  v.w_lane = fwd ? p.w.n : p.w.c;
  v.w_red = fwd ? p.w.c : p.w.n;
  for (int d = 0; d < 3; ++d) {
    v.src_size[d] = fwd ? p.in[d] : p.out[d];
    v.w_tap[d] = p.w.s[d];
    if (fwd) {
      const Phase h = forward_phase(p, d);
      v.runs[d] = {
          {h.p0, h.step, h.count, h.t0, h.tstep, h.taps, h.a, h.b, h.c, true}};
      continue;
    }
    const Interior range = interior(p, d);
    const auto add_border = [&](int64_t begin, int64_t end) {
      if (begin < end) {
        v.runs[d].push_back(
            AxisRun{begin, 1, end - begin, 0, 1, p.kernel[d], 0, 0, 0, false});
      }
    };
    add_border(0, range.first);
    add_phases(p, d, range, v.runs[d]);
    add_border(range.last, p.in[d]);
  }
  return v;
}

bool can_fold(const ConvProblem& p, Pass pass) {
  bool any = false;
  for (int d = 0; d < 3; ++d) {
    const bool pad = p.low[d] > 0 || p.high[d] > 0;
    if ((pad && p.mode != PaddingMode::zeros) ||
        (p.stride[d] > 1 &&
         (p.dilation[d] != 1 || p.kernel[d] < p.stride[d]))) {
      return false;
    }
    any = any || p.stride[d] > 1;
  }
  return any && pass == Pass::input_grad;
}

GatherView folded_view(const ConvProblem& p) {
  GatherView v = gather_view(p, Pass::input_grad);
  for (int d = 0; d < 3; ++d) {
    const int64_t s = p.stride[d];
    if (s == 1) {
      continue;
    }
    v.fold[d] = s;
    v.runs[d].clear();
    const int64_t first = p.low[d] / s, last = (p.in[d] + p.low[d] + s - 1) / s;
    v.runs[d].push_back(
        AxisRun{
            first * s - p.low[d],
            s,
            last - first,
            0,
            s,
            (p.kernel[d] + s - 1) / s,
            1,
            -1,
            first,
            true});
  }
  // The order in which the weights lie: phases inside, or channels where they
  // are innermost.
  const int64_t channels = v.lanes, phases = v.fold[0] * v.fold[1] * v.fold[2];
  const bool inside = v.w_lane != 1 || channels == 1;
  v.lanes = channels * phases;
  for (int64_t i = 0; i < v.lanes; ++i) {
    const int64_t phase = inside ? i % phases : i / channels;
    FoldedLane lane = {inside ? i / phases : i % channels, {}, 0, 0};
    lane.phase[2] = phase % v.fold[2];
    lane.phase[1] = phase / v.fold[2] % v.fold[1];
    lane.phase[0] = phase / v.fold[2] / v.fold[1];
    lane.w = lane.channel * v.w_lane;
    lane.dst = lane.channel * v.dst.c;
    for (int d = 0; d < 3; ++d) {
      lane.w += lane.phase[d] * v.w_tap[d];
      lane.dst += lane.phase[d] * v.dst.s[d];
    }
    v.folded.push_back(lane);
  }
  return v;
}

void skip_padding(GatherView& v, int dim, double least, int64_t shortest) {
  if (v.runs[dim].size() != 1 || v.mode != PaddingMode::zeros) {
    return;
  }
  const AxisRun run = v.runs[dim][0];
  if (!run.affine || run.a < 1) {
    return;
  }
  // Tap j sees the source from position floor_up(-(j b + c) / a) on.
  const auto from = [&](int64_t j, int64_t edge) {
    const int64_t room = edge - j * run.b - run.c;
    const int64_t m = room <= 0 ? 0 : (room + run.a - 1) / run.a;
    return std::min(m, run.count);
  };
  std::vector<int64_t> cuts = {0, run.count};
  for (int64_t j = 0; j < run.taps; ++j) {
    cuts.push_back(from(j, 0));
    cuts.push_back(from(j, v.src_size[dim]));
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  std::vector<AxisRun> parts;
  int64_t products = 0, least_count = run.count;
  for (size_t i = 0; i + 1 < cuts.size(); ++i) {
    const int64_t m = cuts[i];
    AxisRun part = run;
    part.p0 += m * run.step;
    part.count = cuts[i + 1] - m;
    int64_t first = run.taps, last = 0;
    for (int64_t j = 0; j < run.taps; ++j) {
      if (m >= from(j, 0) && m < from(j, v.src_size[dim])) {
        first = std::min(first, j);
        last = j + 1;
      }
    }
    part.taps = std::max<int64_t>(0, last - first);
    if (part.taps > 0) {
      part.t0 += first * run.tstep;
      part.c += m * run.a + first * run.b;
    }
    products += part.count * part.taps;
    least_count = std::min(least_count, part.count);
    parts.push_back(part);
  }
  if (least_count >= shortest &&
      products <= (1 - least) * run.count * run.taps) {
    v.runs[dim] = parts;
  }
}

void GatherView::pairs(
    int d,
    const AxisRun& run,
    int64_t m,
    std::vector<AxisPair>& out) const {
  if (run.affine) {
    for (int64_t j = 0; j < run.taps; ++j) {
      const int64_t s =
          source_index(m * run.a + j * run.b + run.c, src_size[d], mode);
      if (s >= 0) {
        out.push_back({j, s});
      }
    }
    return;
  }
  // input_grad at a border: all coordinates q of the padded input that show
  // this position, and from each the outputs that looked there.
  const int64_t i = run.p0 + m * run.step;
  for (int64_t q = -p.low[d]; q < p.in[d] + p.high[d]; ++q) {
    if (source_index(q, p.in[d], p.mode) != i) {
      continue;
    }
    for (int64_t j = 0; j < run.taps; ++j) {
      const int64_t o = q + p.low[d] - (run.t0 + j * run.tstep) * p.dilation[d];
      if (o >= 0 && o % p.stride[d] == 0 && o / p.stride[d] < p.out[d]) {
        out.push_back({j, o / p.stride[d]});
      }
    }
  }
}

} // namespace torchconv
