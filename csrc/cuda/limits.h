// What large problems exceed, so that kernels go over them in several rounds.
// tests/cuda_on_cpu puts a file of the same name in this one's place, with
// numbers that small problems exceed.
#pragma once

#include <cstdint>

namespace torchconv {
namespace cuda {

// Blocks of a launch: what gridDim.x can say.
constexpr int64_t kMaxBlocks = 0x7fffffff;

// Workspace of algorithms that can do with less. Written-out columns of im2col, unless one panel is larger.
constexpr int64_t kColumnBytes = 64 << 20;

// Gradients of patches (conv_local_input_grad.cu), which should stay in an L2
// cache of 40 MB beside the weights that pass through it.
constexpr int64_t kPatchBytes = 16 << 20;

} // namespace cuda
} // namespace torchconv
