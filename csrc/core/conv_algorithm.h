// A convolution algorithm is a row: four answers about a problem. The planner
// walks the rows of a device (planner.h).
#pragma once

#include "core/conv_problem.h"
#include "core/epilogue.h"

namespace torchconv {

namespace cuda {
struct Queue; // cuda/queue.h
}

// Base addresses; which one is written follows from the pass. bias may be
// null; it has the problem's dtype, is contiguous, and is added by forward
// (out_channels long) and input_grad (in_channels long). queue: where the
// kernels of a GPU run; null on the CPU. packed: what the algorithm's packing
// made of w, or null. epilogue: of forward and input_grad in floating dtypes.
struct ConvTensors {
  void* x;
  void* w;
  void* y;
  const void* bias;
  const cuda::Queue* queue = nullptr;
  const void* packed = nullptr;
  Epilogue epilogue = {};
};

// Weights in the order that an algorithm's tiles read them, for callers that keep
// weights from call to call. Neither depends on the number of threads, and
// results are bitwise those of weights that are packed in passing.
struct ConvPacking {
  // 0 where the algorithm reads the weights of p as they are.
  int64_t (*bytes)(const ConvProblem& p, Pass pass);

  // packed is 64-byte aligned.
  void (*pack)(const ConvProblem& p, Pass pass, const void* w, void* packed);
};

struct ConvAlgorithm {
  const char* name;

  // Null if the algorithm can do it, else the reason in words, static storage.
  const char* (*refusal)(const ConvProblem& p, Pass pass);

  // Bytes of scratch memory, for so many threads (of the CPU).
  int64_t (*workspace)(const ConvProblem& p, Pass pass, int threads);

  // Estimated nanoseconds, on one core or on the GPU: only their order between
  // algorithms matters.
  double (*cost)(const ConvProblem& p, Pass pass);

  // Writes every element of the pass's output, through the epilogue. workspace is
  // 64-byte aligned.
  void (*run)(
      const ConvProblem& p,
      Pass pass,
      const ConvTensors& t,
      void* workspace);

  // Whether results are sums of products of the tensors' own elements, hence
  // without any error for small whole numbers. Others are left alone by
  // "auto-exact".
  bool exact = true;

  const ConvPacking* packing = nullptr;
};

} // namespace torchconv
