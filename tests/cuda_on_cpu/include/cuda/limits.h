// In place of csrc/cuda/limits.h: so little that the tests' problems take
// several rounds.
#pragma once

#include <cstdint>

namespace torchconv {
namespace cuda {

constexpr int64_t kMaxBlocks = 3;
constexpr int64_t kColumnBytes = 64 << 10;
constexpr int64_t kPatchBytes = 16 << 10;

} // namespace cuda
} // namespace torchconv
