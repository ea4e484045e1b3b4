// Average and adaptive average pooling and their gradients, on the CPU.
#pragma once

#include "cpu/pool_avg_windows.h"

namespace torchconv {
namespace cpu {

// y = sums over windows of x, divided: float32, float64, float16, bfloat16 and
// int64 (whose division rounds towards zero). `w` is used up.
void average_forward(WindowSum& w, DType dtype, const void* x, void* y);

// gx from gy; `w` is the transposed sum and used up.
void average_input_grad(WindowSum& w, DType dtype, const void* gy, void* gx);

} // namespace cpu
} // namespace torchconv
