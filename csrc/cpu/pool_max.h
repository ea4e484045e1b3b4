// Max pooling of every kind: sliding, dilated, adaptive, fractional. The
// kernels see windows only as tables, one for each dimension.
//
// The maximum is torch's: of equal maxima the first in row-major order of the
// window is taken, and a NaN beats everything, the last one of several.
#pragma once

#include <vector>

#include "core/pool_problem.h"
#include "cpu/pool_codes.h"

namespace torchconv {
namespace cpu {

// The windows along one dimension. Output position o reads the input positions
// window[o].begin + j * step for 0 <= j < window[o].count, all inside the
// input; its code is the sum of label + j * label_step over the dimensions.
struct PoolAxis {
  struct Window {
    int64_t begin, count, label;
  };
  std::vector<Window> windows;
  int64_t step = 1, label_step = 1;
};

struct MaxPool {
  PoolProblem p;
  PoolAxis axis[3];
  CodeKind codes;
  bool sliding; // p describes the windows too
  bool empty_windows; // some window has no tap inside the input
};

// The tables of sliding windows and of adaptive ones; `p` has sizes, strides
// (of x and of y; the codes lie as y does) and dtype.
MaxPool sliding_max_pool(const PoolProblem& p, CodeKind codes);
MaxPool adaptive_max_pool(const PoolProblem& p, CodeKind codes);

// codes: null for CodeKind::none. A window without taps gives the lowest value
// and a code that names no input position.
void max_pool(MaxPool m, const void* x, void* y, void* codes);

// Fractional max pooling: windows of p.kernel whose starts are drawn for each
// plane from samples[(n * channels + c) * nd + i], of the same type as x.
// Sample 0 belongs to the last dimension if nd is 2 and to the first if nd is
// 3, as torch has it.
void fractional_max_pool(
    const PoolProblem& p,
    int nd,
    const void* samples,
    const void* x,
    void* y,
    int64_t* indices);

} // namespace cpu
} // namespace torchconv
