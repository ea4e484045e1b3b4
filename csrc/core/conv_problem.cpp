#include "core/conv_problem.h"

#include <cstring>
#include <utility>

namespace torchconv {
namespace {

const char* const kPassNames[] = {"forward", "input_grad", "weight_grad"};
const char* const kModeNames[] = {"zeros", "reflect", "replicate", "circular"};

template <typename E, int N>
bool parse(const char* const (&names)[N], const char* name, E* value) {
  for (int i = 0; i < N; ++i) {
    if (std::strcmp(names[i], name) == 0) {
      *value = static_cast<E>(i);
      return true;
    }
  }
  return false;
}

bool pointwise(const ConvProblem& p, int d) {
  return p.kernel[d] == 1 && p.stride[d] == 1 && p.low[d] == 0 &&
      p.high[d] == 0;
}

void swap_dims(ConvProblem& p, int a, int b) {
  for (int64_t* v :
       {p.in,
        p.out,
        p.kernel,
        p.stride,
        p.dilation,
        p.low,
        p.high,
        p.x.s,
        p.w.s,
        p.y.s}) {
    std::swap(v[a], v[b]);
  }
}

// Makes dimensions d and d + 1 one, in place d + 1.
void merge(ConvProblem& p, int d) {
  if (!pointwise(p, d) || !pointwise(p, d + 1) || p.in[d] == 1 ||
      p.x.s[d] != p.x.s[d + 1] * p.in[d + 1] ||
      p.y.s[d] != p.y.s[d + 1] * p.out[d + 1]) {
    return;
  }
  p.in[d + 1] *= p.in[d];
  p.out[d + 1] *= p.out[d];
  p.in[d] = p.out[d] = 1;
}

} // namespace

const char* pass_name(Pass pass) {
  return kPassNames[static_cast<int>(pass)];
}

bool parse_pass(const char* name, Pass* pass) {
  return parse(kPassNames, name, pass);
}

bool parse_padding_mode(const char* name, PaddingMode* mode) {
  return parse(kModeNames, name, mode);
}

double conv_flops(const ConvProblem& p) {
  return 2.0 * p.batch * p.out_channels * p.out_pixels() * p.in_group() *
      p.taps();
}

double conv_bytes(const ConvProblem& p) {
  const double x = 1.0 * p.batch * p.in_channels * p.in_pixels();
  const double w = 1.0 * p.out_channels * p.in_group() * p.taps();
  const double y = 1.0 * p.batch * p.out_channels * p.out_pixels();
  return (x + w + y) * dtype_size(p.dtype);
}

ConvProblem simplified(const ConvProblem& problem) {
  ConvProblem p = problem;
  const auto trivial = [&](int d) { return pointwise(p, d) && p.in[d] == 1; };
  if (trivial(2) && !trivial(1)) {
    swap_dims(p, 1, 2);
  } else if (trivial(2) && trivial(1) && !trivial(0)) {
    swap_dims(p, 0, 2);
  }
  merge(p, 1);
  if (trivial(1)) {
    swap_dims(p, 0, 1);
    merge(p, 1);
  } else {
    merge(p, 0);
  }
  return p;
}

} // namespace torchconv
