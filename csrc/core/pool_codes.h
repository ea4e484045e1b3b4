// How a max pooling names the position its maximum came from.
#pragma once

#include <cstdint>

#include "core/pool_problem.h"

namespace torchconv {

// u8: the number of the tap inside the window, row-major over the kernel;
// i32, i64: the flat index in the input plane. A code that names no position
// of the plane (a tap in the padding, -1) is skipped by whoever reads it.
enum class CodeKind : int8_t { none, u8, i32, i64 };

constexpr int64_t kMaxTapCode = 256;

// The smallest kind that can name a position of the plane, and the smallest
// that can name a tap of the window, where there are few, or a position.
constexpr CodeKind flat_code_kind(const PoolProblem& p) {
  return pool_in_plane(p) < (int64_t{1} << 31) ? CodeKind::i32 : CodeKind::i64;
}
constexpr CodeKind tap_code_kind(const PoolProblem& p) {
  return pool_taps(p) <= kMaxTapCode ? CodeKind::u8 : flat_code_kind(p);
}

// Codes and the tensor they were made for. p.in is the plane the codes point
// into and p.out their own size. u8 codes read p's windows, which slide. The
// others may: if these have more than one tap, or if windows are adaptive (p's
// then say nothing), each code names a position in its output's window or none.
// p.y_stride_* are the strides of the tensor of p.out's size (grad, out, x of
// max_unpool) and c_stride_* those of the codes; p.x_stride_* belong to the
// tensor of p.in's size.
struct PoolCodes {
  PoolProblem p;
  CodeKind kind;
  bool adaptive = false;
  const void* codes;
  int64_t c_stride_n, c_stride_c, c_stride[3];
};

// Whether codes are known to lie in p's windows.
constexpr bool codes_of_windows(const PoolCodes& k) {
  return k.kind == CodeKind::u8 || pool_taps(k.p) > 1;
}

} // namespace torchconv
