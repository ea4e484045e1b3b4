// forward and input_grad as one thing: every destination element gathers
// products of source elements and weights,
//
//   dst[n, lane, pos(m)] = bias[lane]
//       + sum_{red, j} src[n, red, s(m, j)] * w[lane, red, tap(j)]
//
// Per dimension, destination positions fall into runs in which they use the
// same taps, and in which s is affine: s = m a + j b + c.
//
//   forward: one run; a = stride, b = dilation, c = -low, the padding mode
//     says what s outside the source shows.
//   input_grad: o stride = i + low - t dilation, so positions i of the same
//     residue modulo stride (a phase) use the same taps, with a = 1 and
//     b = -dilation / gcd: no multiplication by zeros between the strides.
//     Where padding showed an element twice (reflect, replicate, circular) its
//     position gathers from several places: those border positions form runs
//     of their own that are not affine.
#pragma once

#include <vector>

#include "core/conv_problem.h"

namespace torchconv {

struct AxisRun {
  int64_t p0, step, count; // pos(m) = p0 + m step, 0 <= m < count
  int64_t t0, tstep, taps; // tap(j) = t0 + j tstep, 0 <= j < taps
  int64_t a, b, c; // s = m a + j b + c
  bool affine;
};

// A source coordinate that tap j of a run reads.
struct AxisPair {
  int64_t j, source;
};

struct GatherView {
  Pass pass;
  ConvProblem p;
  PaddingMode mode; // what source coordinates outside show
  int64_t red, lanes; // channels per group of the source, of the destination
  int64_t src_size[3];
  Strides src, dst;
  int64_t src_group, dst_group, w_group; // strides from group to group
  int64_t w_lane, w_red, w_tap[3];
  std::vector<AxisRun> runs[3];

  // Appends what position m of a run gathers from: every (j, source) whose
  // source lies inside.
  void pairs(int dim, const AxisRun& run, int64_t m, std::vector<AxisPair>& out)
      const;
};

GatherView gather_view(const ConvProblem& p, Pass pass);

} // namespace torchconv
