// Sums over separable windows: what average, adaptive average and Lp pooling
// have in common, and their gradients too. Forward, destination position o
// along a dimension sums the source positions [begin[o], end[o]). The gradient
// is the same thing turned around: input position i sums the outputs whose
// windows hold i, which are consecutive as well.
#pragma once

#include <cstdint>
#include <vector>

#include "core/pool_problem.h"

namespace torchconv {
namespace cpu {

// How the windows lie along the width; what the fast kernels go by.
enum class WindowPattern : int8_t {
  whole, // every position sums all there is
  slide, // position o sums [o * step - pad, + kernel), zero outside
  spread, // source o goes to [o * step - pad, + kernel), nothing outside
  ragged, // only begin and end say
};

struct WindowSum {
  int64_t batch, channels;
  int64_t src[3], dst[3];
  int64_t src_n, src_c, src_s[3]; // strides in elements
  int64_t dst_n, dst_c, dst_s[3];
  const int64_t* begin[3]; // by destination position
  const int64_t* end[3];
  // What sums are divided by: the divisor times, where not null, a count for
  // each dimension, by output position (gradients: by source position).
  int64_t divisor;
  const int64_t* count[3];
  WindowPattern pattern;
  int64_t kernel, step, pad;
  int64_t inner = 1; // elements of one column: more than 1 after join_channels
  std::vector<int64_t> tables; // holds begin, end and count

  WindowSum() = default;
  WindowSum(const WindowSum&) = delete;
  WindowSum(WindowSum&&) = default;
  WindowSum& operator=(WindowSum&&) = default;

  // The same, with the tables of this one, which has to live longer.
  WindowSum view() const;
};

// Average pooling, forward: x to y. divisor_override: 0 is none.
WindowSum average_windows(
    const PoolProblem& p,
    bool count_include_pad,
    int64_t divisor_override);
WindowSum adaptive_windows(const PoolProblem& p);

// From the forward sum: the gradient's, from gy (laid out as y) to gx.
WindowSum transposed(const WindowSum& forward);

// Makes rows longer where nothing tells two dimensions apart, as in global
// pooling of dense planes.
void merge_rows(WindowSum& w);

// Channels innermost, but too few for a vector: makes them part of the row, if
// the strides allow.
bool join_channels(WindowSum& w);

inline int64_t most_sources(const WindowSum& w, int dim) {
  int64_t most = 0;
  for (int64_t i = 0; i < w.dst[dim]; ++i) {
    const int64_t n = w.end[dim][i] - w.begin[dim][i];
    most = n > most ? n : most;
  }
  return most;
}

// Whether source and destination have their channels innermost.
inline bool channels_innermost(const WindowSum& w) {
  return w.src_c == 1 && w.dst_c == 1 && w.channels > 1;
}

} // namespace cpu
} // namespace torchconv
