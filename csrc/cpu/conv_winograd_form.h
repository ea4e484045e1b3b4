// Which groups winograd computes side by side.
#pragma once

#include "core/conv_problem.h"

namespace torchconv {
namespace cpu {

// Groups of a problem that share the lanes of a vector; 1 where they do not.
// Shuffles by a variable exist from vectors of 8 lanes on.
inline int64_t groups_side_by_side(const ConvProblem& p, int64_t lanes) {
  const int64_t channels = p.in_group();
  if (lanes < 8 || channels != p.out_group() || channels < 2 ||
      channels >= lanes || lanes % channels != 0 ||
      p.groups % (lanes / channels) != 0) {
    return 1;
  }
  return lanes / channels;
}

// The problem whose groups are `side` of this one's.
inline ConvProblem side_by_side(const ConvProblem& p, int64_t side) {
  ConvProblem q = p;
  q.groups /= side;
  return q;
}

} // namespace cpu
} // namespace torchconv
