// The arithmetic of one dimension of a gather (conv_gather.h) in closed form,
// for kernels that compute it where they run.
#pragma once

#include "core/conv_problem.h"

namespace torchconv {

// Positions pos(m) = p0 + m step, 0 <= m < count, of the destination, which use
// the taps t0 + j tstep, 0 <= j < taps, and read source coordinate
// m a + j b + c for tap j.
struct Phase {
  int64_t p0, step, count;
  int64_t t0, tstep, taps;
  int64_t a, b, c;
};

constexpr int64_t greatest_divisor(int64_t a, int64_t b) {
  while (b != 0) {
    const int64_t r = a % b;
    a = b;
    b = r;
  }
  return a;
}

// value mod modulus, in [0, modulus).
constexpr int64_t residue(int64_t value, int64_t modulus) {
  const int64_t r = value % modulus;
  return r < 0 ? r + modulus : r;
}

// forward along d: one phase.
constexpr Phase forward_phase(const ConvProblem& p, int d) {
  return {
      0, 1, p.out[d], 0, 1, p.kernel[d], p.stride[d], p.dilation[d], -p.low[d]};
}

// Phase number f of the stride[d] phases of input_grad along d over positions
// [first, last): o stride = i + low - t dilation, so the positions i that use
// tap t are those with i + low = t dilation (mod stride). With g = gcd(stride,
// dilation), phase f = u + v stride / g has the residue u dilation + v; it uses
// the taps u, u + stride / g, ... if v = 0, else none.
constexpr Phase input_grad_phase(
    const ConvProblem& p,
    int d,
    int64_t f,
    int64_t first,
    int64_t last) {
  const int64_t s = p.stride[d], dil = p.dilation[d];
  const int64_t g = greatest_divisor(s, dil);
  const int64_t u = f % (s / g), v = f / (s / g);
  const int64_t p0 = first + residue(u * dil + v - p.low[d] - first, s);
  Phase phase = {p0, s, 0, u, s / g, 0, 1, -dil / g, 0};
  phase.count = p0 < last ? (last - p0 + s - 1) / s : 0;
  if (v == 0 && u < p.kernel[d]) {
    phase.taps = (p.kernel[d] - u + s / g - 1) / (s / g);
    phase.c = (p0 + p.low[d] - u * dil) / s; // divides exactly
  }
  return phase;
}

// Where the positions along d lie that only one coordinate of the padded input
// shows: [first, last). Those outside, if any, are shown by the padding too.
struct Interior {
  int64_t first, last;
};

constexpr Interior interior(const ConvProblem& p, int d) {
  const int64_t size = p.in[d], low = p.low[d], high = p.high[d];
  Interior r = {0, size};
  switch (p.mode) {
    case PaddingMode::reflect: // the padding shows 1 .. low from the left
      r.first = low > 0 ? low + 1 : 0;
      r.last = high > 0 ? size - 1 - high : size;
      break;
    case PaddingMode::replicate:
      r.first = low > 0 ? 1 : 0;
      r.last = high > 0 ? size - 1 : size;
      break;
    case PaddingMode::circular:
      r.first = high;
      r.last = size - low;
      break;
    default:
      break;
  }
  if (r.first >= r.last) { // the two borders meet
    r.first = size;
    r.last = size;
  }
  return r;
}

// The inverse of source_index: how many coordinates of the padded input show
// position i, and the e-th of them.
struct Shown {
  int64_t first_low, count_low; // q = first_low + e, from the low padding
  int64_t first_high, count_high; // from the high padding
};

constexpr Shown shown(const ConvProblem& p, int d, int64_t i) {
  const int64_t size = p.in[d], low = p.low[d], high = p.high[d];
  switch (p.mode) {
    case PaddingMode::reflect:
      return {
          -i,
          i > 0 && i <= low,
          2 * (size - 1) - i,
          i < size - 1 && i >= size - 1 - high};
    case PaddingMode::replicate:
      return {-low, i == 0 ? low : 0, size, i == size - 1 ? high : 0};
    case PaddingMode::circular:
      return {i - size, i >= size - low, i + size, i < high};
    default:
      return {0, 0, 0, 0};
  }
}

constexpr int64_t shown_count(const Shown& s) {
  return 1 + s.count_low + s.count_high;
}

// The e-th coordinate: i itself, then the low padding's, then the high's.
constexpr int64_t shown_at(const Shown& s, int64_t i, int64_t e) {
  return e == 0          ? i
      : e <= s.count_low ? s.first_low + e - 1
                         : s.first_high + e - 1 - s.count_low;
}

} // namespace torchconv
