#include "core/conv_gather.h"

#include <algorithm>
#include <numeric>

namespace torchconv {
namespace {

int64_t residue(int64_t value, int64_t modulus) {
  const int64_t r = value % modulus;
  return r < 0 ? r + modulus : r;
}

// Positions below `first` or from `last` on are shown by the padding too.
void border(const ConvProblem& p, int d, int64_t* first, int64_t* last) {
  const int64_t size = p.in[d], low = p.low[d], high = p.high[d];
  switch (p.mode) {
    case PaddingMode::reflect: // padding shows 1 .. low from the left
      *first = low > 0 ? low + 1 : 0;
      *last = high > 0 ? size - 1 - high : size;
      break;
    case PaddingMode::replicate:
      *first = low > 0 ? 1 : 0;
      *last = high > 0 ? size - 1 : size;
      break;
    case PaddingMode::circular:
      *first = high;
      *last = size - low;
      break;
    default:
      *first = 0;
      *last = size;
  }
  if (*first >= *last) { // the two borders meet
    *first = size;
    *last = size;
  }
}

// The phases of input_grad along d over positions [first, last).
void add_phases(
    const ConvProblem& p,
    int d,
    int64_t first,
    int64_t last,
    std::vector<AxisRun>& runs) {
  const int64_t s = p.stride[d], dil = p.dilation[d];
  const int64_t g = std::gcd(s, dil);
  for (int64_t phase = 0; phase < s; ++phase) {
    const int64_t p0 = first + residue(phase - p.low[d] - first, s);
    if (p0 >= last) {
      continue;
    }
    AxisRun run{
        p0, s, (last - p0 + s - 1) / s, 0, s / g, 0, 1, -dil / g, 0, true};
    // Taps t with t * dil = phase (mod s): t0, t0 + s/g, ...
    int64_t t0 = 0;
    while (t0 < s / g && residue(t0 * dil - phase, s) != 0) {
      ++t0;
    }
    if (t0 < s / g && t0 < p.kernel[d]) {
      run.t0 = t0;
      run.taps = (p.kernel[d] - t0 + s / g - 1) / (s / g);
      run.c = (p0 + p.low[d] - t0 * dil) / s; // divides exactly
    }
    runs.push_back(run);
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
      v.runs[d] = {AxisRun{
          0,
          1,
          p.out[d],
          0,
          1,
          p.kernel[d],
          p.stride[d],
          p.dilation[d],
          -p.low[d],
          true}};
      continue;
    }
    int64_t first, last;
    border(p, d, &first, &last);
    const auto add_border = [&](int64_t begin, int64_t end) {
      if (begin < end) {
        v.runs[d].push_back(
            AxisRun{begin, 1, end - begin, 0, 1, p.kernel[d], 0, 0, 0, false});
      }
    };
    add_border(0, first);
    add_phases(p, d, first, last, v.runs[d]);
    add_border(last, p.in[d]);
  }
  return v;
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
