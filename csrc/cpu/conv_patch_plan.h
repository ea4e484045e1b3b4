// Which layers are products of windows and filters that lie in memory as runs:
// windows that do not overlap and see no padding (patch embeddings, kernels
// that cover the input, 1 x 1 layers of pooled features, heads of few channels).
#pragma once

#include <algorithm>

#include "core/conv_problem.h"

namespace torchconv {
namespace cpu {

constexpr int64_t kMostWindows = 64; // of a sample
// Tiles with channels in the lanes waste lanes on few filters, and read many
// rows of pixels side by side.
constexpr int64_t kFewFilters = 6, kFewLongFilters = 12;

struct PatchForm {
  bool takes = false;
  bool inner; // channels are innermost in a filter, and then in a window too
  bool covers; // one window a sample
  bool in_place; // windows are runs of x already
  int64_t n; // elements of a filter
};

// Whether four dimensions, innermost last, lie without gaps.
inline bool gapless(const int64_t (&size)[4], const int64_t (&stride)[4]) {
  int64_t product = 1;
  for (int d = 3; d >= 0; --d) {
    if (size[d] > 1 && stride[d] != product) {
      return false;
    }
    product *= size[d];
  }
  return true;
}

// vector: elements that one vector of the kernel takes. Sums run in that many
// lanes, which is worth it for long filters only. Nothing here depends on the
// batch, since the order of the sums does not.
inline PatchForm patch_form(const ConvProblem& p, Pass pass, int64_t vector) {
  PatchForm f;
  if (conv_flops(p) == 0) {
    return f;
  }
  f.covers = p.out_pixels() == 1;
  bool whole = true; // windows are all of x
  for (int d = 0; d < 3; ++d) {
    const int64_t k = p.kernel[d];
    if (p.low[d] != 0 || (p.dilation[d] != 1 && k > 1) ||
        (k > p.stride[d] && p.out[d] > 1) ||
        (p.out[d] - 1) * p.stride[d] + k > p.in[d]) {
      return f;
    }
    whole = whole && k == p.in[d];
  }
  const int64_t c = p.in_group();
  f.n = c * p.taps();
  const auto run = [&](const Strides& s, bool inner) {
    return inner ? gapless(
                       {p.kernel[0], p.kernel[1], p.kernel[2], c},
                       {s.s[0], s.s[1], s.s[2], s.c})
                 : gapless(
                       {c, p.kernel[0], p.kernel[1], p.kernel[2]},
                       {s.c, s.s[0], s.s[1], s.s[2]});
  };
  f.inner = !run(p.w, false);
  if (f.inner && !run(p.w, true)) {
    return f;
  }
  f.in_place = run(p.x, f.inner);
  if (pass != Pass::forward) {
    f.takes = f.covers && f.in_place && whole;
  } else {
    // Each filter is read once for all windows of a sample; where there are many
    // (196 of ViT, 784 of ConvNeXt) packing it for tiles is soon paid back.
    const bool few = f.in_place &&
        p.out_group() <= (f.n < 16 * vector ? kFewFilters : kFewLongFilters);
    f.takes = f.covers || few
        ? f.n >= 4 * vector
        : p.taps() > 1 && p.out_pixels() <= kMostWindows && f.n >= 16 * vector;
  }
  return f;
}

// Nanoseconds on one core: rate in multiply-adds per nanosecond, bytes of an
// element. A filter is read once, from memory or from the last-level cache.
inline double patch_cost(const ConvProblem& p, double rate) {
  const double weights = 1.0 * p.out_channels * p.in_group() * p.taps();
  const double x = 1.0 * p.batch * p.in_channels * p.in_pixels();
  return conv_flops(p) / 2 / rate + 0.03 * dtype_size(p.dtype) * weights +
      0.1 * x + 300.0 * p.groups;
}

} // namespace cpu
} // namespace torchconv
