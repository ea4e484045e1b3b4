// Two kernels: the gradients of patches, then each element of gx gathers from
// the patches that showed it. In the first, lanes are elements of rows of the
// weight, which is read in order, each weight once for 8 columns, and a thread
// adds over the rows. Patches are made for so many channels, and samples, that
// they stay near the L2 cache's size; gx is written once, without atomics.
//
// Compiled for sm_80, sm_90a and PTX; it has not run on hardware yet.
#include <algorithm>

#include "cuda/conv_local.cuh"
#include "cuda/conv_local.h"
#include "cuda/conv_pairs.cuh"
#include "cuda/launch.cuh"
#include "cuda/limits.h"

namespace torchconv {
namespace cuda {
namespace {

constexpr int kStaged = 128; // rows of gy in shared memory at a time
constexpr int kGatherThreads = 128;

// For some channels of x and some samples, of which p has only these.
struct Params {
  LocalProblem p;
  const void* y;
  const void* w;
  void* x;
  void* patches; // [sample][position][element]
  int64_t length; // of a row of the weight
  int64_t first_channel, channels;
  int64_t elements; // channels * taps
  int64_t column_tiles, element_tiles, tiles;
};

__device__ inline int64_t patch_of(
    const ConvProblem& c,
    int64_t n,
    int64_t o0,
    int64_t o1,
    int64_t o2) {
  return ((n * c.out[0] + o0) * c.out[1] + o1) * c.out[2] + o2;
}

template <typename T>
__global__ void __launch_bounds__(128)
    patch_kernel(const __grid_constant__ Params a) {
  using A = Acc<T>;
  const ConvProblem& c = a.p.conv;
  // [group of the block][row][column]
  const Shared<A> grads(0, kStaged * kLocalColumns);
  // Of each column: where it lies in y, and its patch.
  const Shared<int64_t> places(
      kStaged * kLocalColumns * sizeof(A), 2 * kLocalColumns);
  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  const int64_t rows = c.out_group();
  for (int64_t tile = blockIdx.x; tile < a.tiles; tile += gridDim.x) {
    int64_t number = tile;
    const int64_t first = take(number, a.column_tiles) * kLocalColumns;
    const int64_t element0 = take(number, a.element_tiles) * threads;
    const LocalClass k = class_at(a.p, number);
    if (first >= k.columns) {
      continue;
    }
    const int columns = static_cast<int>(
        k.columns - first < kLocalColumns ? k.columns - first : kLocalColumns);
    __syncthreads(); // everybody is through with the last tile's places
    if (thread < columns) {
      const LocalColumn o = column_at(a.p, k, first + thread);
      places.set(thread, offset_in(c.y, o));
      places.set(
          kLocalColumns + thread,
          patch_of(c, o.n, o.o[0], o.o[1], o.o[2]) * a.elements);
    }
    // The groups that the block's elements belong to, at most kStaged of them.
    const int64_t base = a.first_channel * c.taps();
    const int64_t end =
        element0 + threads < a.elements ? element0 + threads : a.elements;
    int64_t group0 = base + element0, group1 = base + end - 1;
    take(group0, a.length);
    take(group1, a.length);
    const int groups = static_cast<int>(group1 - group0) + 1;
    const int most = kStaged / groups; // rows of each
    const bool mine = element0 + thread < end;
    int64_t group = base + (mine ? element0 + thread : element0);
    const int64_t element = take(group, a.length);
    const T* y = static_cast<const T*>(a.y) + group0 * rows * c.y.c;
    const T* w = static_cast<const T*>(a.w) +
        (number * c.out_channels + group * rows) * a.length + element;
    A sum[kLocalColumns] = {};
    for (int64_t row = 0; row < rows; row += most) {
      const int count = static_cast<int>(rows - row < most ? rows - row : most);
      __syncthreads(); // places are known, the last rows have been read
      for (int i = thread; i < groups * count * kLocalColumns; i += threads) {
        const int q = i % kLocalColumns, r = i / kLocalColumns;
        const int64_t channel = r / count * rows + row + r % count;
        grads.set(
            i,
            q < columns ? widened(y[places.get(q) + channel * c.y.c]) : A(0));
      }
      __syncthreads();
      if (mine) {
        const int from = static_cast<int>(group - group0) * count;
#pragma unroll 4
        for (int r = 0; r < count; ++r) {
          const A by = widened(w[(row + r) * a.length]);
          A grad[kLocalColumns];
          load(grads, (from + r) * kLocalColumns, grad);
#pragma unroll
          for (int q = 0; q < kLocalColumns; ++q) {
            sum[q] += by * grad[q];
          }
        }
      }
    }
    if (mine) {
      A* patches = static_cast<A*>(a.patches) + element0 + thread;
#pragma unroll
      for (int q = 0; q < kLocalColumns; ++q) {
        if (q < columns) {
          patches[places.get(kLocalColumns + q)] = sum[q];
        }
      }
    }
  }
}

// A thread for each element of gx, channels fastest: the patches of neighbouring
// positions, which neighbouring warps read, overlap in cache lines.
template <typename T>
__global__ void __launch_bounds__(kGatherThreads, 4)
    gather_kernel(const __grid_constant__ Params a) {
  using A = Acc<T>;
  const ConvProblem& c = a.p.conv;
  const int64_t total = c.batch * c.in_pixels() * a.channels;
  for (int64_t e = first_piece(); e < total; e += piece_step()) {
    int64_t n = e;
    const int64_t channel = take(n, a.channels);
    const int64_t i2 = take(n, c.in[2]);
    const int64_t i1 = take(n, c.in[1]);
    const int64_t i0 = take(n, c.in[0]);
    const A* patches = static_cast<const A*>(a.patches) + channel * c.taps();
    A sum = 0;
    each_pair(c, 0, i0, [&](int64_t t0, int64_t o0) {
      each_pair(c, 1, i1, [&](int64_t t1, int64_t o1) {
        each_pair(c, 2, i2, [&](int64_t t2, int64_t o2) {
          sum += patches
              [patch_of(c, n, o0, o1, o2) * a.elements +
               (t0 * c.kernel[1] + t1) * c.kernel[2] + t2];
        });
      });
    });
    static_cast<T*>(a.x)
        [n * c.x.n + (a.first_channel + channel) * c.x.c + i0 * c.x.s[0] +
         i1 * c.x.s[1] + i2 * c.x.s[2]] = narrowed<T>(sum);
  }
}

template <typename T>
void run_part(Params a, const Queue& queue) {
  const ConvProblem& c = a.p.conv;
  const int threads = element_threads(a.elements);
  a.column_tiles = (most_columns(a.p) + kLocalColumns - 1) / kLocalColumns;
  a.element_tiles = (a.elements + threads - 1) / threads;
  a.tiles = a.column_tiles * a.element_tiles * a.p.classes();
  const int bytes = static_cast<int>(
      kStaged * kLocalColumns * sizeof(Acc<T>) +
      2 * kLocalColumns * sizeof(int64_t));
  launch(
      "conv local input_grad",
      patch_kernel<T>,
      {a.tiles, threads, bytes},
      queue,
      a);
  const int64_t total = c.batch * c.in_pixels() * a.channels;
  launch(
      "conv local input_grad",
      gather_kernel<T>,
      {(total + kGatherThreads - 1) / kGatherThreads, kGatherThreads},
      queue,
      a);
}

// How many channels and samples have their patches made at a time: some
// channels of all samples, or one channel of some.
struct Part {
  int64_t channels, samples, bytes;
};

Part part_of(const ConvProblem& c) {
  const int64_t one = c.out_pixels() * c.taps() *
      std::max<int64_t>(dtype_size(c.dtype), 4); // a channel of a sample
  const int64_t fit =
      std::max<int64_t>(kPatchBytes / std::max<int64_t>(one, 1), 1);
  Part part;
  part.samples = std::min(fit, c.batch);
  part.channels = std::min(
      std::max<int64_t>(fit / std::max<int64_t>(part.samples, 1), 1),
      c.in_channels);
  part.bytes = part.samples * part.channels * one;
  return part;
}

} // namespace

int64_t conv_local_input_grad_workspace(const LocalProblem& p) {
  return part_of(p.conv).bytes;
}

void conv_local_input_grad(
    const LocalProblem& p,
    const void* gy,
    const void* w,
    void* gx,
    void* workspace,
    const Queue& queue) {
  const ConvProblem& c = p.conv;
  const Part part = part_of(c);
  with_conv_type(c.dtype, [&](auto type) {
    using T = decltype(type);
    for (int64_t n = 0; n < c.batch; n += part.samples) {
      for (int64_t ch = 0; ch < c.in_channels; ch += part.channels) {
        Params a = {};
        a.p = p;
        a.p.conv.batch = std::min(part.samples, c.batch - n);
        a.y = static_cast<const T*>(gy) + n * c.y.n;
        a.w = w;
        a.x = static_cast<T*>(gx) + n * c.x.n;
        a.patches = workspace;
        a.length = c.in_group() * c.taps();
        a.first_channel = ch;
        a.channels = std::min(part.channels, c.in_channels - ch);
        a.elements = a.channels * c.taps();
        run_part<T>(a, queue);
      }
    }
  });
}

} // namespace cuda
} // namespace torchconv
