// The gradient of max pooling in vectors, for floating types and codes that are
// known to lie in windows: every input gathers from the windows that hold it,
// so that each element is written once and sums run in the order of the outputs.
#pragma once

#include <algorithm>
#include <vector>

#include "cpu/pool_index.h"

namespace torchconv {
namespace cpu {

struct PoolGrad {
  PoolCodes k;
  int64_t tap_unit[3]; // what one tap along a dimension adds to a code
};

// u8 codes; rows of stride 1 in grad, codes and gx; windows one or two apart along them,
// of fewer than 256 taps.
void pool_grad_rows(const PoolGrad& g, const void* grad, void* gx);

// Channels of stride 1 in grad, codes and gx; false, and nothing is done, where
// a scatter by positions is faster.
bool pool_grad_channels(const PoolGrad& g, const void* grad, void* gx);

// The windows along one dimension that hold an input position, in order: as
// output `out` and, in a code of taps, `label`.
class PoolSources {
 public:
  struct Source {
    int64_t out, label;
  };

  PoolSources(const PoolGrad& g, int dim) : first_(g.k.p.in[dim] + 1) {
    const PoolProblem& p = g.k.p;
    for (int64_t i = 0; i < p.in[dim]; ++i) {
      first_[i] = static_cast<int64_t>(sources_.size());
      if (g.k.adaptive) {
        const PoolRange r = adaptive_outputs_of(i, p.in[dim], p.out[dim]);
        for (int64_t o = r.begin; o < r.end; ++o) {
          sources_.push_back({o, 0});
        }
        continue;
      }
      // Later taps belong to earlier outputs.
      for (int64_t t = p.kernel[dim] - 1; t >= 0; --t) {
        const int64_t at = i + p.padding[dim] - t * p.dilation[dim];
        const int64_t o = at / p.stride[dim];
        if (at >= 0 && at % p.stride[dim] == 0 && o < p.out[dim]) {
          sources_.push_back({o, t * g.tap_unit[dim]});
        }
      }
    }
    first_[p.in[dim]] = static_cast<int64_t>(sources_.size());
  }

  const Source* begin(int64_t i) const {
    return sources_.data() + first_[i];
  }
  const Source* end(int64_t i) const {
    return sources_.data() + first_[i + 1];
  }
  // How many windows hold one position, at most.
  int64_t most() const {
    int64_t n = 0;
    for (size_t i = 1; i < first_.size(); ++i) {
      n = std::max(n, first_[i] - first_[i - 1]);
    }
    return n;
  }

 private:
  std::vector<Source> sources_;
  std::vector<int64_t> first_;
};

} // namespace cpu
} // namespace torchconv
