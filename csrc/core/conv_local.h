// Convolution whose kernel depends on the output position: the position o uses
// the kernel of number o mod tile. Positions with the same kernel are a class.
// A tile as large as the output is a locally connected layer, where every
// weight is used once per sample.
#pragma once

#include "core/conv_problem.h"

namespace torchconv {

// The weight is dense, (tile[0], tile[1], tile[2], out_channels, in_channels /
// groups, *kernel), and so is the bias, (*tile, out_channels); the strides
// conv.w are not read.
struct LocalProblem {
  ConvProblem conv;
  int64_t tile[3];

  constexpr int64_t classes() const {
    return tile[0] * tile[1] * tile[2];
  }
};

// The positions of one class: residue + j * tile in every dimension, count of
// them. Its columns are these positions in all samples, positions fastest.
struct LocalClass {
  int64_t residue[3], count[3];
  int64_t columns;
};

// The number of a class is that of its residue in the tile. take(number, size)
// splits the innermost digit off a number.
template <typename Take>
constexpr LocalClass local_class(
    const LocalProblem& p,
    int64_t number,
    const Take& take) {
  LocalClass k = {};
  k.columns = p.conv.batch;
  for (int d = 2; d >= 0; --d) {
    k.residue[d] = take(number, p.tile[d]);
    int64_t rest = p.conv.out[d] - k.residue[d] + p.tile[d] - 1;
    rest = rest > 0 ? rest : 0;
    take(rest, p.tile[d]);
    k.count[d] = rest;
    k.columns *= rest;
  }
  return k;
}

} // namespace torchconv
