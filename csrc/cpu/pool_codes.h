// How a max pooling names the position its maximum came from.
#pragma once

#include <cstdint>

namespace torchconv {
namespace cpu {

// u8: the number of the tap inside the window, row-major over the kernel;
// i32, i64: the flat index in the input plane. A code that names no position
// of the plane (a tap in the padding, -1) is skipped by whoever reads it.
enum class CodeKind : int8_t { none, u8, i32, i64 };

constexpr int64_t kMaxTapCode = 256;

// Units of work, each of `work` element visits, that make a thread worth it.
inline int64_t pool_grain(int64_t work) {
  constexpr int64_t kWorth = 32768;
  return work >= kWorth ? 1 : kWorth / (work > 0 ? work : 1);
}

} // namespace cpu
} // namespace torchconv
