// Lp pooling and its gradient, on the CPU: y = (K * mean of x^p)^(1/p) over
// windows of K taps; a window that the input cuts short has a mean over fewer.
#pragma once

#include "cpu/pool_avg_windows.h"

namespace torchconv {
namespace cpu {

// float32, float64, float16, bfloat16. `taps` is K; `w` is used up.
void lp_forward(
    WindowSum& w,
    DType dtype,
    double norm_type,
    int64_t taps,
    const void* x,
    void* y);

// gx = x^(p-1) * sum of K / count * gy * y^(1-p), where y is not zero. `w` is
// the transposed sum, from tensors laid out as gy and y to ones as x and gx.
void lp_input_grad(
    WindowSum& w,
    DType dtype,
    double norm_type,
    int64_t taps,
    const void* gy,
    const void* x,
    const void* y,
    void* gx);

} // namespace cpu
} // namespace torchconv
