// The two ceilings of this machine, measured by the simplest code that
// reaches them, on all threads of the pool: what a kernel's speed is a share
// of.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace torchconv {
namespace cpu {

// Multiplications and additions per second of independent chains of
// multiply-adds in registers, in the type that kernels of dtype compute in
// (bfloat16: pairwise dot products where the CPU has them). The best of
// samples that take about so many seconds together.
double fma_peak(DType dtype, double seconds);

// Bytes per second, read plus written, of copying one half of so many bytes to
// the other half, each thread its part: the better of a vector loop and
// memcpy. The best of samples that take about so many seconds together.
double copy_peak(int64_t bytes, double seconds);

} // namespace cpu
} // namespace torchconv
