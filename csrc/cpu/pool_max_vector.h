// The vector kernels of max pooling, for the floating types. Codes of a plane
// of 2^31 elements or more, and windows without taps, are not for them.
#pragma once

#include "cpu/pool_max.h"

namespace torchconv {
namespace cpu {

// Sliding windows, one or two apart, over rows of stride 1 in x and in y.
void max_pool_rows(const MaxPool& m, const void* x, void* y, void* codes);

// Windows of neighbours along such rows, several vectors wide.
void max_pool_wide(const MaxPool& m, const void* x, void* y, void* codes);

// Any windows over such rows: planes turned to channels, a few at a time.
void max_pool_planes(const MaxPool& m, const void* x, void* y, void* codes);

// Any windows over such rows, one plane at a time.
void max_pool_columns(const MaxPool& m, const void* x, void* y, void* codes);

// Any windows, channels of stride 1 in x and in y.
void max_pool_channels(const MaxPool& m, const void* x, void* y, void* codes);

} // namespace cpu
} // namespace torchconv
