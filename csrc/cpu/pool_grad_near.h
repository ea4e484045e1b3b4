// The gradient of max pooling of rows whose windows are near each other, in
// AVX-512.
#pragma once

#include "cpu/pool_index_vector.h"

namespace torchconv {
namespace cpu {

// u8 codes; rows of stride 1 in grad, codes and gx; windows of two or three
// neighbours, one or two apart along them. False, and nothing is done, where it
// is not made for them.
bool pool_grad_near(const PoolGrad& g, const void* grad, void* gx);

} // namespace cpu
} // namespace torchconv
