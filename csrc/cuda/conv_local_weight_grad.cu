// A thread owns one element (channel and tap) of R rows of gw and adds over the
// columns of their class: lanes are neighbouring elements, so gw is written in
// order, once, which is the floor where a class has few columns. Where it has
// many and gw is small, blocks share out the columns (conv_splits.cuh).
//
// Compiled for sm_80, sm_90a and PTX; it has not run on hardware yet.
#include "cuda/conv_local.cuh"
#include "cuda/conv_local.h"
#include "cuda/conv_splits.cuh"
#include "cuda/launch.cuh"

namespace torchconv {
namespace cuda {
namespace {

struct Params {
  LocalProblem p;
  const void* x;
  const void* y;
  WeightGradSplits splits; // of the columns of the largest class
  ConvProblem rows; // the problem as splits see it: rows are output channels
  int64_t length; // of a row of the weight
  int64_t elements; // of all channels of x
  int groups; // of a block's elements, at most
  int64_t row_tiles, element_tiles, tiles;
};

template <typename T, int R>
__global__ void __launch_bounds__(128)
    weight_grad_kernel(const __grid_constant__ Params a) {
  using A = Acc<T>;
  const ConvProblem& c = a.p.conv;
  // [column][group of the block][row]
  const int size = kLocalColumns * a.groups * R;
  const LocalPlaces places(0);
  const Shared<A> grads(LocalPlaces::kBytes, size);
  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  const int64_t rows = c.out_group();
  for (int64_t tile = blockIdx.x; tile < a.tiles; tile += gridDim.x) {
    int64_t number = tile;
    const int64_t row0 = take(number, a.row_tiles) * R;
    const int64_t element0 = take(number, a.element_tiles) * threads;
    const int64_t split = take(number, a.splits.count);
    const LocalClass k = class_at(a.p, number);
    const bool mine = element0 + thread < a.elements;
    int64_t group0 = element0;
    take(group0, a.length);
    int64_t group = mine ? element0 + thread : element0;
    const LocalTap tap = tap_of(c, group);
    const int64_t element = take(group, a.length);
    const T* x = static_cast<const T*>(a.x);
    const T* y = static_cast<const T*>(a.y);
    A sum[R] = {};
    const int64_t planned = a.splits.begin(split + 1);
    const int64_t last = planned < k.columns ? planned : k.columns;
    for (int64_t first = a.splits.begin(split); first < last;
         first += kLocalColumns) {
      const int columns = static_cast<int>(
          last - first < kLocalColumns ? last - first : kLocalColumns);
      __syncthreads(); // everybody is through with the last columns
      if (thread < columns) {
        const LocalColumn o = column_at(a.p, k, first + thread);
        places.set(thread, corner_of(c, o), offset_in(c.y, o));
      }
      __syncthreads();
      for (int i = thread; i < columns * a.groups * R; i += threads) {
        const int q = i / (a.groups * R), r = i % R;
        const int64_t g = group0 + i / R % a.groups;
        const int64_t row = row0 + r;
        grads.set(
            i,
            g < c.groups && row < rows
                ? widened(y[places.y(q) + (g * rows + row) * c.y.c])
                : A(0));
      }
      A value[kLocalColumns];
#pragma unroll
      for (int q = 0; q < kLocalColumns; ++q) {
        value[q] =
            mine && q < columns ? shown_by(c, x, places.corner(q), tap) : A(0);
      }
      __syncthreads();
      const int from = static_cast<int>(group - group0) * R;
#pragma unroll
      for (int q = 0; q < kLocalColumns; ++q) {
        if (q < columns) {
          const int at = q * a.groups * R + from;
          if constexpr (R == 1) {
            sum[0] += grads.get(at) * value[q];
          } else {
            A grad[R];
            load(grads, at, grad);
#pragma unroll
            for (int r = 0; r < R; ++r) {
              sum[r] += grad[r] * value[q];
            }
          }
        }
      }
    }
    if (!mine) {
      continue;
    }
#pragma unroll
    for (int r = 0; r < R; ++r) {
      if (row0 + r < rows) {
        const int64_t row = number * c.out_channels + group * rows + row0 + r;
        if (a.splits.at_once()) {
          static_cast<T*>(a.splits.w)[row * a.length + element] =
              narrowed<T>(sum[r]);
        } else {
          a.splits.store<T>(a.rows, split, row, element, sum[r]);
        }
      }
    }
  }
}

// Everything but the pointers.
Params plan(const LocalProblem& p) {
  const ConvProblem& c = p.conv;
  Params a = {};
  a.p = p;
  a.length = c.in_group() * c.taps();
  a.elements = c.groups * a.length;
  a.rows = c;
  a.rows.out_channels = p.classes() * c.out_channels;
  a.rows.w = {a.length, c.taps(), {c.kernel[1] * c.kernel[2], c.kernel[2], 1}};
  const int threads = element_threads(a.elements);
  const int64_t each = c.out_group() > 2 ? 8 : 1;
  a.groups = static_cast<int>(groups_among(c, threads));
  a.row_tiles = (c.out_group() + each - 1) / each;
  a.element_tiles = (a.elements + threads - 1) / threads;
  const int64_t tiles = a.row_tiles * a.element_tiles * p.classes();
  a.splits.total = most_columns(p);
  a.splits.count = weight_grad_splits(tiles, a.splits.total, 8 * kLocalColumns);
  a.tiles = tiles * a.splits.count;
  return a;
}

template <typename T, int R>
void run(const Params& a, const Queue& queue) {
  const int bytes = LocalPlaces::kBytes +
      static_cast<int>(kLocalColumns * a.groups * R * sizeof(Acc<T>));
  launch(
      "conv local weight_grad",
      weight_grad_kernel<T, R>,
      {a.tiles, element_threads(a.elements), bytes},
      queue,
      a);
}

} // namespace

int64_t conv_local_weight_grad_workspace(const LocalProblem& p) {
  const Params a = plan(p);
  return splits_workspace(a.rows, a.splits.count);
}

void conv_local_weight_grad(
    const LocalProblem& p,
    const void* gy,
    const void* x,
    void* gw,
    void* workspace,
    const Queue& queue) {
  Params a = plan(p);
  a.x = x;
  a.y = gy;
  a.splits.parts = workspace;
  a.splits.w = gw;
  with_conv_type(p.conv.dtype, [&](auto type) {
    using T = decltype(type);
    if (p.conv.out_group() > 2) {
      run<T, 8>(a, queue);
    } else {
      run<T, 1>(a, queue);
    }
  });
  add_splits(a.rows, a.splits, queue);
}

} // namespace cuda
} // namespace torchconv
