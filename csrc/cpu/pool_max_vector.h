// The vector kernels of max pooling, for the floating types. Codes of a plane
// of 2^31 elements or more, and windows without taps, are not for them.
#pragma once

#include "cpu/pool_max.h"

namespace torchconv {
namespace cpu {

// Sliding windows, one or two apart, over rows of stride 1 in x and in y.
void max_pool_rows(const MaxPool& m, const void* x, void* y, void* codes);

// Any windows over such rows.
void max_pool_columns(const MaxPool& m, const void* x, void* y, void* codes);

// Any windows, channels of stride 1 in x and in y.
void max_pool_channels(const MaxPool& m, const void* x, void* y, void* codes);

} // namespace cpu
} // namespace torchconv
