// The epilogue as a pass of its own, after algorithms that do not apply it.
#pragma once

#include "core/dtype.h"
#include "core/epilogue.h"

namespace torchconv {
namespace cpu {

// result: n elements without gaps.
void apply_epilogue(DType dtype, const Epilogue& e, void* result, int64_t n);

} // namespace cpu
} // namespace torchconv
