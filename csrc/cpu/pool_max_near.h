// Max pooling of rows whose windows are near each other, in AVX-512.
#pragma once

#include "cpu/pool_max.h"

namespace torchconv {
namespace cpu {

// Sliding windows of two or three neighbours, one or two apart, over rows of
// stride 1 in x and in y; as the kernels of pool_max_vector.h. False where it is
// not made for them, or met a NaN: then what it wrote is of no use.
bool max_pool_near(const MaxPool& m, const void* x, void* y, void* codes);

} // namespace cpu
} // namespace torchconv
