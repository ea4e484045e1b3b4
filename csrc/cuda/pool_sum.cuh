// What average and Lp pooling have in common: powers, divisors, windows.
#pragma once

#include <cmath>

#include "core/pool_problem.h"
#include "cuda/element.cuh"
#include "cuda/pool_index.cuh"

namespace torchconv {
namespace cuda {

struct SumParams {
  PoolProblem p;
  PoolDivisor divisor;
  double norm; // of Lp
  const void* from;
  void* to;
  const void* x; // of the gradient of Lp
  const void* y;
  bool uniform; // every window has the same divisor
  bool channels_innermost;
};

// v to a power that is the same for all threads: without a call where it can
// be. A function of its own, because pow is large.
template <typename A>
__device__ __noinline__ A power(A v, A exponent) {
  if (exponent == A(1)) {
    return v;
  }
  if (exponent == A(2)) {
    return v * v;
  }
  if (exponent == A(0.5)) {
    return std::sqrt(v);
  }
  if (exponent == A(-1)) {
    return A(1) / v;
  }
  if (exponent == A(3)) {
    return v * v * v;
  }
  if (exponent == A(0)) {
    return A(1);
  }
  return std::pow(v, exponent);
}

// Input positions [begin, end) of a window along one dimension.
__device__ inline PoolRange inputs_of(
    const PoolProblem& p,
    bool sliding,
    int dim,
    int64_t o) {
  if (!sliding) {
    return {
        adaptive_begin(o, p.in[dim], p.out[dim]),
        adaptive_end(o, p.in[dim], p.out[dim])};
  }
  const int64_t start = o * p.stride[dim] - p.padding[dim];
  const int64_t end = start + p.kernel[dim];
  return {start > 0 ? start : 0, end < p.in[dim] ? end : p.in[dim]};
}

// Output positions [begin, end) whose windows hold an input position.
__device__ inline PoolRange holders_of(
    const PoolProblem& p,
    bool sliding,
    int dim,
    int64_t i) {
  return sliding ? pool_outputs_of(p, dim, i)
                 : adaptive_outputs_of(i, p.in[dim], p.out[dim]);
}

// What the sum of the window at output (d, h, w) is divided by.
__device__ inline int64_t divisor_at(
    const SumParams& a,
    int64_t d,
    int64_t h,
    int64_t w) {
  return a.divisor.divisor_override != 0 ? a.divisor.divisor_override
                                         : pool_count(a.p, a.divisor, 0, d) *
          pool_count(a.p, a.divisor, 1, h) * pool_count(a.p, a.divisor, 2, w);
}

// Whether divisor_at is the same everywhere.
inline bool uniform_divisor(const PoolProblem& p, const PoolDivisor& d) {
  if (d.divisor_override != 0) {
    return true;
  }
  for (int i = 0; i < 3; ++i) {
    const int64_t end = (p.out[i] - 1) * p.stride[i] + p.kernel[i];
    const bool whole = d.count_include_pad
        ? end <= p.in[i] + 2 * p.padding[i]
        : p.padding[i] == 0 && end <= p.in[i];
    if (d.sliding ? !whole : p.in[i] % p.out[i] != 0) {
      return false;
    }
  }
  return true;
}

} // namespace cuda
} // namespace torchconv
