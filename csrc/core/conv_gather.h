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
//
// Folded, all phases of input_grad are one run: with q = i + low = m stride +
// phase, every phase reads gy at m - j through tap phase + j stride, so the
// phases are lanes beside the channels (a sub-pixel convolution), and where
// kernel == stride the weights of one source channel already lie in the order
// of the lanes: input_grad of a patchify layer is one matrix product.
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

// A lane of a folded view: a channel of the destination and a phase.
struct FoldedLane {
  int64_t channel, phase[3];
  int64_t w, dst; // offsets, to those of phase 0 of channel 0
};

struct GatherView {
  Pass pass;
  ConvProblem p;
  PaddingMode mode; // what source coordinates outside show
  int64_t red; // channels per group of the source
  int64_t lanes; // of the destination per group: channels, or channel x phase
  int64_t fold[3]; // phases that are lanes; 1: none
  std::vector<FoldedLane> folded; // all lanes; empty if nothing is folded
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

// Whether the phases of input_grad can be folded, and the folded view.
bool can_fold(const ConvProblem& p, Pass pass);
GatherView folded_view(const ConvProblem& p);

// Cuts the one run of a dimension where the taps that see the source, and not
// only its zero padding, change: a part has fewer taps. Worth it only where
// that saves at least the share `least` of the products and no part is shorter
// than `shortest`; else the run stays whole.
void skip_padding(GatherView& v, int dim, double least, int64_t shortest);

} // namespace torchconv
