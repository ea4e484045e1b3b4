// What an input position gathers from in input_grad, found one by one: for
// positions that padding shows several times, and for kernels that depend on
// the output position.
#pragma once

#include "core/conv_phase.h"

namespace torchconv {
namespace cuda {

// Calls f(tap, output position) for every pair along d that position i
// gathers from.
template <typename F>
__device__ void each_pair(const ConvProblem& p, int d, int64_t i, const F& f) {
  const Shown s = shown(p, d, i);
  for (int64_t e = 0; e < shown_count(s); ++e) {
    const int64_t q = shown_at(s, i, e) + p.low[d];
    for (int64_t t = 0; t < p.kernel[d]; ++t) {
      const int64_t o = q - t * p.dilation[d];
      if (o >= 0 && o % p.stride[d] == 0 && o / p.stride[d] < p.out[d]) {
        f(t, o / p.stride[d]);
      }
    }
  }
}

} // namespace cuda
} // namespace torchconv
