// What the kernels that read and write codes share.
#pragma once

#include <cstdint>

#include "core/pool_codes.h"

namespace torchconv {
namespace cpu {

// Units of work, each of `work` element visits, that make a thread worth it.
inline int64_t pool_grain(int64_t work) {
  constexpr int64_t kWorth = 32768;
  return work >= kWorth ? 1 : kWorth / (work > 0 ? work : 1);
}

} // namespace cpu
} // namespace torchconv
