// The epilogue (core/epilogue.h) of elements that a kernel has just written, while
// they are in a near cache.
//
// A kernel calls it for a block of its result: once the block has all its sums,
// and before anybody writes there again. What it gives is bit by bit what a pass
// over the whole result gives, and kernels without an epilogue pay for one test
// of a block.
#pragma once

#include <cstdint>

#include "core/conv_algorithm.h"
#include "core/conv_gather.h"
#include "core/dtype.h"
#include "core/epilogue.h"

namespace torchconv {
namespace cpu {

class Finish {
 public:
  Finish() = default; // nothing to do

  // result: the address of the whole result, for the residual's sake.
  Finish(DType dtype, const Epilogue& e, const void* result);

  explicit operator bool() const {
    return rows_ != nullptr;
  }

  // n elements side by side.
  void row(void* to, int64_t n) const {
    if (rows_ != nullptr) {
      rows_(*this, to, 1, 0, n);
    }
  }

  // rows * n elements: to[i * row + j * step].
  template <typename S>
  void block(S* to, int64_t rows, int64_t row, int64_t n, int64_t step) const {
    if (rows_ == nullptr) {
      return;
    }
    if (step == 1 || n == 1) {
      rows_(*this, to, rows, row, n);
    } else if (row == 1) {
      rows_(*this, to, n, step, rows);
    } else {
      for (int64_t i = 0; i < rows; ++i) {
        rows_(*this, to + i * row, n, step, 1);
      }
    }
  }

  Epilogue epilogue;
  const void* result = nullptr;

 private:
  // rows of n elements side by side, `row` elements apart.
  using Rows =
      void (*)(const Finish&, void* to, int64_t rows, int64_t row, int64_t n);
  Rows rows_ = nullptr;
};

// The epilogue as a pass of its own; result: n elements without gaps.
void apply_epilogue(DType dtype, const Epilogue& e, void* result, int64_t n);

// That of a gather (core/conv_gather.h): jobs apply it to the blocks they write
// where those are made of neighbours; where phases of a stride lie between one
// another, it is a pass after all jobs.
class GatherFinish {
 public:
  GatherFinish(const GatherView& v, const ConvTensors& t);

  const Finish& blocks() const {
    return blocks_;
  }
  void rest() const;

 private:
  const GatherView& v_;
  const Epilogue& epilogue_;
  void* result_;
  Finish blocks_;
};

} // namespace cpu
} // namespace torchconv
