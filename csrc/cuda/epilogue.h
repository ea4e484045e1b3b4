// The epilogue as a kernel of its own, after algorithms that do not apply it.
#pragma once

#include "core/dtype.h"
#include "core/epilogue.h"
#include "cuda/queue.h"

namespace torchconv {
namespace cuda {

// result: n elements without gaps.
void apply_epilogue(
    DType dtype,
    const Epilogue& e,
    void* result,
    int64_t n,
    const Queue& queue);

} // namespace cuda
} // namespace torchconv
