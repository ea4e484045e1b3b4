// Compiled for sm_80, sm_90a and PTX; it has not run on hardware yet.
#include "cuda/conv_splits.cuh"

#include <algorithm>

#include "cuda/conv_cost.h"
#include "cuda/launch.cuh"

namespace torchconv {
namespace cuda {
namespace {

constexpr int kThreads = 256;

struct Params {
  ConvProblem p;
  WeightGradSplits splits;
};

template <typename T>
__global__ void add_splits_kernel(const __grid_constant__ Params params) {
  const ConvProblem& p = params.p;
  WeightGradSplits result = params.splits;
  result.count = 1;
  result.before = 0;
  const int64_t columns = p.in_group() * p.taps();
  const int64_t total = p.out_channels * columns;
  const Acc<T>* parts = static_cast<const Acc<T>*>(params.splits.parts);
  for (int64_t e = first_piece(); e < total; e += piece_step()) {
    Acc<T> sum = 0;
    for (int64_t s = 0; s < params.splits.before + params.splits.count; ++s) {
      sum += parts[s * total + e];
    }
    if (params.splits.last) {
      int64_t k = e;
      const int64_t column = take(k, columns);
      result.store<T>(p, 0, k, column, sum);
    } else {
      static_cast<Acc<T>*>(params.splits.parts)[e] = sum;
    }
  }
}

} // namespace

int64_t weight_grad_splits(int64_t blocks, int64_t total, int64_t least) {
  const int64_t wanted =
      (2 * kProcessors + blocks - 1) / std::max<int64_t>(blocks, 1);
  const int64_t most = std::max<int64_t>(total / least, 1);
  return std::min<int64_t>({wanted, most, 256});
}

int64_t splits_workspace(const ConvProblem& p, int64_t splits) {
  const int64_t size = std::max<int64_t>(dtype_size(p.dtype), 4);
  return splits > 1 ? splits * p.out_channels * p.in_group() * p.taps() * size
                    : 0;
}

void add_splits(
    const ConvProblem& p,
    const WeightGradSplits& splits,
    const Queue& queue) {
  if (!splits.at_once()) {
    add_parts(p, splits, queue);
  }
}

void add_parts(
    const ConvProblem& p,
    const WeightGradSplits& splits,
    const Queue& queue) {
  const int64_t total = p.out_channels * p.in_group() * p.taps();
  with_conv_type(p.dtype, [&](auto type) {
    launch(
        "conv weight_grad sums",
        add_splits_kernel<decltype(type)>,
        {(total + kThreads - 1) / kThreads, kThreads},
        queue,
        Params{p, splits});
  });
}

} // namespace cuda
} // namespace torchconv
