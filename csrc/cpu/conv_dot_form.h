// What the kernels of conv_dot.h pair.
#pragma once

#include "core/conv_problem.h"

namespace torchconv {
namespace cpu {

// Neighbouring channels; or, where channels are few, a run of elements that
// follow one another in the source and in a strip: the taps along the width of
// one channel, or of all channels where those are innermost.
struct DotForm {
  bool run, inner;
  int64_t red, pairs; // channels, and pairs of them
  int64_t outer, length; // runs, and elements of one

  DotForm(const ConvProblem& p, Pass pass) {
    const bool fwd = pass == Pass::forward;
    red = fwd ? p.in_group() : p.out_group();
    inner = (fwd ? p.x : p.y).c == 1 && red > 1;
    pairs = (red + 1) / 2;
    outer = p.kernel[0] * p.kernel[1] * (inner ? 1 : red);
    length = p.kernel[2] * (inner ? red : 1);
    const int64_t run_steps = outer * ((length + 1) / 2);
    // Of as many steps, runs are copied and channels are turned.
    run = fwd && p.dilation[2] == 1 && p.stride[2] <= p.kernel[2] &&
        p.kernel[2] > 1 && run_steps < p.taps() * pairs + (inner ? 0 : red % 2);
  }
  // Steps of the whole reduction that multiply two elements, and one.
  int64_t pair_steps(int64_t taps) const {
    return run ? outer * (length / 2) : taps * pairs;
  }
  int64_t single_steps() const {
    return run ? outer * (length % 2) : 0;
  }
};

// Whether several small groups share a vector (conv_dot_grouped.h): pairs must
// not cross groups, and what they read must fit a vector.
inline bool shares_vectors(const ConvProblem& p, Pass pass) {
  const int64_t red = pass == Pass::forward ? p.in_group() : p.out_group();
  const int64_t lanes = pass == Pass::forward ? p.out_group() : p.in_group();
  return pass != Pass::weight_grad && p.groups > 1 && red % 2 == 0 &&
      lanes > 0 && lanes <= 8 && 16 / lanes * red <= 32;
}

} // namespace cpu
} // namespace torchconv
