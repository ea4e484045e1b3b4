// weight_grad sums over all pixels of all samples: long sums, few results.
// Where the results do not fill the GPU, several blocks share out each sum:
// part `split` goes to a workspace, [split][out_channels][in_group x taps] in
// the type of accumulation, and a second kernel adds the parts in order. So the
// result is the same in every run.
#pragma once

#include "core/conv_problem.h"
#include "cuda/number.cuh"
#include "cuda/queue.h"

namespace torchconv {
namespace cuda {

struct WeightGradSplits {
  int64_t count;
  int64_t total; // pixels, or what else is shared out
  void* parts; // the workspace; not used if w is written at once
  void* w; // the result
  int64_t before = 0; // parts that hold sums already, before those to come
  bool last = true; // else the sum of all parts becomes the first of them

  __host__ __device__ bool at_once() const {
    return count == 1 && before == 0 && last;
  }

  // Where a part begins; that of part `count` is the end.
  __host__ __device__ int64_t begin(int64_t split) const {
    const int64_t each = (total + count - 1) / count;
    return split * each < total ? split * each : total;
  }

  // A sum: output channel k, column (channel, tap 0, tap 1, tap 2), flat.
  template <typename T>
  __device__ void store(
      const ConvProblem& p,
      int64_t split,
      int64_t k,
      int64_t column,
      Acc<T> sum) const {
    if (!at_once()) {
      const int64_t columns = p.in_group() * p.taps();
      static_cast<Acc<T>*>(
          parts)[((before + split) * p.out_channels + k) * columns + column] =
          sum;
      return;
    }
    const int64_t t2 = take(column, p.kernel[2]);
    const int64_t t1 = take(column, p.kernel[1]);
    const int64_t t0 = take(column, p.kernel[0]);
    static_cast<T*>(w)
        [k * p.w.n + column * p.w.c + t0 * p.w.s[0] + t1 * p.w.s[1] +
         t2 * p.w.s[2]] = narrowed<T>(sum);
  }
};

// How many parts to make of sums over `total`, if each part is computed by so
// many blocks: none has fewer than `least`.
int64_t weight_grad_splits(int64_t blocks, int64_t total, int64_t least);

int64_t splits_workspace(const ConvProblem& p, int64_t splits);

// The second kernel.
void add_parts(
    const ConvProblem& p,
    const WeightGradSplits& splits,
    const Queue& queue);

// The same, where there is something to add.
void add_splits(
    const ConvProblem& p,
    const WeightGradSplits& splits,
    const Queue& queue);

} // namespace cuda
} // namespace torchconv
