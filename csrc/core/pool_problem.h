// A pooling over sliding windows as one plain struct, and the arithmetic on
// it, written once for every kind of pooling and every device.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace torchconv {

// x is (batch, channels, in[0], in[1], in[2]) and y the same with `out`; a
// 1-d or 2-d problem has leading ones. Strides are in elements and arbitrary.
struct PoolProblem {
  int64_t batch, channels;
  int64_t in[3], out[3];
  int64_t kernel[3], stride[3], padding[3], dilation[3];
  int64_t x_stride_n, x_stride_c, x_stride[3];
  int64_t y_stride_n, y_stride_c, y_stride[3];
  DType dtype;
};

constexpr int64_t ceil_div(int64_t a, int64_t b) { // b > 0, any a
  return a > 0 ? (a + b - 1) / b : -((-a) / b);
}

// Taps, input positions and output positions of a problem.
constexpr int64_t pool_taps(const PoolProblem& p) {
  return p.kernel[0] * p.kernel[1] * p.kernel[2];
}
constexpr int64_t pool_in_plane(const PoolProblem& p) {
  return p.in[0] * p.in[1] * p.in[2];
}
constexpr int64_t pool_out_plane(const PoolProblem& p) {
  return p.out[0] * p.out[1] * p.out[2];
}

// Output positions along one dimension. ceil_mode rounds up, except that the
// last window has to start inside the input or the padding before it. Zero or
// negative if the window does not fit once.
constexpr int64_t pool_output_size(
    int64_t in,
    int64_t kernel,
    int64_t stride,
    int64_t padding,
    int64_t dilation,
    bool ceil_mode) {
  const int64_t room = in + 2 * padding - dilation * (kernel - 1) - 1;
  const int64_t steps =
      ceil_mode ? ceil_div(room, stride) : ceil_div(room - stride + 1, stride);
  return ceil_mode && steps * stride >= in + padding ? steps : steps + 1;
}

// The window of output position o along one dimension: tap t, for
// 0 <= t < kernel, reads input position start + t * dilation. The taps in
// [tap_begin, tap_end) are inside the input, the others in the padding.
struct PoolWindow {
  int64_t start;
  int64_t tap_begin, tap_end;
};

// Steps of `dilation` that reach `distance` or beyond.
constexpr int64_t pool_steps(int64_t distance, int64_t dilation) {
  return dilation == 1 ? distance : ceil_div(distance, dilation);
}

constexpr PoolWindow pool_window(const PoolProblem& p, int dim, int64_t o) {
  const int64_t start = o * p.stride[dim] - p.padding[dim];
  const int64_t begin = start < 0 ? pool_steps(-start, p.dilation[dim]) : 0;
  const int64_t last = start + (p.kernel[dim] - 1) * p.dilation[dim];
  const int64_t end = last < p.in[dim]
      ? p.kernel[dim]
      : pool_steps(p.in[dim] - start, p.dilation[dim]);
  return {start, begin, end < begin ? begin : end};
}

// The output positions [begin, end) along one dimension whose windows span
// input position i; with a dilation it may lie between their taps.
struct PoolRange {
  int64_t begin, end;
};

constexpr PoolRange pool_outputs_of(const PoolProblem& p, int dim, int64_t i) {
  const int64_t at = i + p.padding[dim];
  const int64_t span = (p.kernel[dim] - 1) * p.dilation[dim];
  const int64_t begin = at > span ? ceil_div(at - span, p.stride[dim]) : 0;
  const int64_t end = at / p.stride[dim] + 1;
  return {begin, end < p.out[dim] ? end : p.out[dim]};
}

// Adaptive pooling: output position o of `out` reads the input positions
// [begin, end), floor(o * in / out) to ceil((o + 1) * in / out).
constexpr int64_t adaptive_begin(int64_t o, int64_t in, int64_t out) {
  return (o / out) * in + ((o % out) * in) / out;
}
constexpr int64_t adaptive_end(int64_t o, int64_t in, int64_t out) {
  return ceil_div((o + 1) * in, out);
}

// The output positions whose adaptive windows hold input position i: as if
// inputs and outputs had changed places.
constexpr PoolRange adaptive_outputs_of(int64_t i, int64_t in, int64_t out) {
  return {adaptive_begin(i, out, in), adaptive_end(i, out, in)};
}

// What an average divides by. Sliding windows: divisor_override if it is not 0,
// else their taps, with or without those in the padding. Windows that are not
// sliding are adaptive; the divisor is their size.
struct PoolDivisor {
  bool sliding, count_include_pad;
  int64_t divisor_override;
};

// The divisor's factor of one dimension at output position o; the
// divisor_override is not in it. A window never counts what is beyond the
// padding.
constexpr int64_t pool_count(
    const PoolProblem& p,
    const PoolDivisor& d,
    int dim,
    int64_t o) {
  if (d.divisor_override != 0) {
    return 1;
  }
  if (!d.sliding) {
    return adaptive_end(o, p.in[dim], p.out[dim]) -
        adaptive_begin(o, p.in[dim], p.out[dim]);
  }
  const int64_t start = o * p.stride[dim] - p.padding[dim];
  const int64_t stop = start + p.kernel[dim];
  const int64_t edge = p.in[dim] + (d.count_include_pad ? p.padding[dim] : 0);
  const int64_t begin = d.count_include_pad || start > 0 ? start : 0;
  const int64_t count = (stop < edge ? stop : edge) - begin;
  return d.count_include_pad || count > 1 ? count : 1;
}

} // namespace torchconv
