// Two kernels. Where a class has few positions (a locally connected layer has
// one), `dot`: patches of up to 8 columns are written to shared memory, warps
// read rows of the weight side by side, each once for 8 columns, and lanes add up
// their parts at the end. The floor is the bytes of the weight. Where a class has
// many positions, or rows are shorter than a warp, `own`: a thread owns some rows
// of some columns, and reads what it needs.
//
// Which of them does not depend on the batch, nor does the order of a sum.
//
// Compiled for sm_80, sm_90a and PTX; it has not run on hardware yet.
#include "cuda/conv_local.cuh"
#include "cuda/conv_local.h"
#include "cuda/launch.cuh"

namespace torchconv {
namespace cuda {
namespace {

struct Params {
  LocalProblem p;
  const void* x;
  const void* w;
  const void* bias;
  void* y;
  int64_t length; // of a row of the weight
  int64_t column_tiles, row_tiles, tiles;
  bool columns_first; // own: neighbouring threads have neighbouring columns
};

template <typename T>
__device__ void finish(
    const Params& a,
    int64_t number,
    int64_t channel,
    int64_t offset,
    Acc<T> sum) {
  const ConvProblem& c = a.p.conv;
  if (a.bias != nullptr) {
    sum += widened(
        static_cast<const T*>(a.bias)[number * c.out_channels + channel]);
  }
  static_cast<T*>(a.y)[offset + channel * c.y.c] = narrowed<T>(sum);
}

// -- dot ---------------------------------------------------------------------

constexpr int kDotThreads = 256;
constexpr int kWarps = kDotThreads / 32;
constexpr int kStaged = 512; // elements of a patch in shared memory at a time
constexpr int kPatchSize = kLocalColumns * kStaged;

// Adds each of v over the lanes of a warp; lane i is left with the sum of
// v[i / (32 / N)]. As lanes take over halves of the values, N values cost N +
// log2(32 / N) - 1 exchanges.
template <int N, typename A>
__device__ A add_over_lanes(A (&v)[N]) {
  const int lane = threadIdx.x % 32;
  int count = N;
#pragma unroll
  for (int by = 16; by > 0; by /= 2) {
    if (count > 1) {
      count /= 2;
      const bool upper = (lane & by) != 0;
#pragma unroll
      for (int i = 0; i < N / 2; ++i) {
        if (i < count) {
          const A kept = upper ? v[i + count] : v[i];
          const A sent = upper ? v[i] : v[i + count];
          v[i] = kept + __shfl_xor_sync(0xffffffffu, sent, by);
        }
      }
    } else {
      v[0] += __shfl_xor_sync(0xffffffffu, v[0], by);
    }
  }
  return v[0];
}

// R rows in each warp.
template <typename T, int R>
__global__ void __launch_bounds__(kDotThreads, R == 1 ? 2 : 1)
    dot_kernel(const __grid_constant__ Params a) {
  using A = Acc<T>;
  const ConvProblem& c = a.p.conv;
  const Shared<A> patch(0, kPatchSize);
  const LocalPlaces places(kPatchSize * sizeof(A));
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % 32, warp = thread / 32;
  const int64_t rows = c.out_group();
  for (int64_t tile = blockIdx.x; tile < a.tiles; tile += gridDim.x) {
    int64_t number = tile;
    const int64_t first = take(number, a.column_tiles) * kLocalColumns;
    const int64_t row0 = take(number, a.row_tiles) * (kWarps * R) + warp * R;
    const int64_t group = take(number, c.groups);
    const LocalClass k = class_at(a.p, number);
    if (first >= k.columns) {
      continue;
    }
    const int columns = static_cast<int>(
        k.columns - first < kLocalColumns ? k.columns - first : kLocalColumns);
    __syncthreads(); // everybody is through with the last tile's places
    if (thread < columns) {
      const LocalColumn column = column_at(a.p, k, first + thread);
      places.set(thread, corner_of(c, column), offset_in(c.y, column));
    }
    const T* x = static_cast<const T*>(a.x);
    const T* w = static_cast<const T*>(a.w) +
        (number * c.out_channels + group * rows + row0) * a.length;
    A sum[R * kLocalColumns] = {};
    for (int64_t at = 0; at < a.length; at += kStaged) {
      const int count =
          static_cast<int>(a.length - at < kStaged ? a.length - at : kStaged);
      __syncthreads(); // places are known, the last part has been read
      for (int i = thread; i < count; i += kDotThreads) {
        const LocalTap tap = tap_of(c, group * a.length + at + i);
#pragma unroll
        for (int q = 0; q < kLocalColumns; ++q) {
          patch.set(
              q * kStaged + i,
              q < columns ? shown_by(c, x, places.corner(q), tap) : A(0));
        }
      }
      __syncthreads();
#pragma unroll 2
      for (int i = lane; i < count; i += 32) {
        A by[R];
#pragma unroll
        for (int r = 0; r < R; ++r) {
          by[r] = row0 + r < rows ? widened(w[r * a.length + at + i]) : A(0);
        }
#pragma unroll
        for (int q = 0; q < kLocalColumns; ++q) {
          const A value = patch.get(q * kStaged + i);
#pragma unroll
          for (int r = 0; r < R; ++r) {
            sum[r * kLocalColumns + q] += by[r] * value;
          }
        }
      }
    }
    constexpr int kEach = 32 / (R * kLocalColumns);
    const A total = add_over_lanes(sum);
    const int64_t row = row0 + lane / kEach / kLocalColumns;
    const int q = lane / kEach % kLocalColumns;
    if (lane % kEach == 0 && row < rows && q < columns) {
      finish<T>(a, number, group * rows + row, places.y(q), total);
    }
  }
}

template <typename T, int R>
void run_dot(Params a, const Queue& queue) {
  const ConvProblem& c = a.p.conv;
  a.column_tiles = (most_columns(a.p) + kLocalColumns - 1) / kLocalColumns;
  a.row_tiles = (c.out_group() + kWarps * R - 1) / (kWarps * R);
  a.tiles = a.column_tiles * a.row_tiles * c.groups * a.p.classes();
  const int bytes =
      static_cast<int>(kPatchSize * sizeof(Acc<T>)) + LocalPlaces::kBytes;
  launch(
      "conv local dot",
      dot_kernel<T, R>,
      {a.tiles, kDotThreads, bytes},
      queue,
      a);
}

// -- own ---------------------------------------------------------------------

constexpr int kOwnThreads = 128;
constexpr int kOwnColumns = 4;
constexpr int64_t kManyPositions = 32;

// A thread owns R rows of kOwnColumns columns, which lie column_tiles apart.
template <typename T, int R>
__global__ void __launch_bounds__(kOwnThreads)
    own_kernel(const __grid_constant__ Params a) {
  using A = Acc<T>;
  const ConvProblem& c = a.p.conv;
  const int64_t rows = c.out_group(), channels = c.in_group();
  const int64_t taps = c.taps();
  for (int64_t e = first_piece(); e < a.tiles; e += piece_step()) {
    int64_t number = e;
    int64_t first = a.columns_first ? take(number, a.column_tiles) : 0;
    const int64_t row0 = take(number, a.row_tiles) * R;
    const int64_t group = take(number, c.groups);
    if (!a.columns_first) {
      first = number;
      number = take(first, a.p.classes());
    }
    const LocalClass k = class_at(a.p, number);
    if (first >= k.columns) {
      continue;
    }
    LocalColumn column[kOwnColumns];
    bool inside[kOwnColumns];
#pragma unroll
    for (int j = 0; j < kOwnColumns; ++j) {
      const int64_t at = first + j * a.column_tiles;
      inside[j] = at < k.columns;
      column[j] = column_at(a.p, k, inside[j] ? at : first);
    }
    const T* x = static_cast<const T*>(a.x) + group * channels * c.x.c;
    const T* w = static_cast<const T*>(a.w) +
        (number * c.out_channels + group * rows + row0) * a.length;
    A sum[R][kOwnColumns] = {};
    for (int64_t tap = 0; tap < taps; ++tap) {
      int64_t t[3] = {tap, 0, 0};
      t[2] = take(t[0], c.kernel[2]);
      t[1] = take(t[0], c.kernel[1]);
      int64_t offset[kOwnColumns];
#pragma unroll
      for (int j = 0; j < kOwnColumns; ++j) {
        offset[j] = inside[j] ? column[j].n * c.x.n : -1;
#pragma unroll
        for (int d = 0; d < 3; ++d) {
          const int64_t part = source_offset(
              column[j].o[d] * c.stride[d] + t[d] * c.dilation[d] - c.low[d],
              c.in[d],
              c.x.s[d],
              c.mode);
          offset[j] = offset[j] < 0 || part < 0 ? -1 : offset[j] + part;
        }
      }
      for (int64_t ch = 0; ch < channels; ++ch) {
        A by[R];
#pragma unroll
        for (int r = 0; r < R; ++r) {
          by[r] = row0 + r < rows ? widened(w[r * a.length + ch * taps + tap])
                                  : A(0);
        }
#pragma unroll
        for (int j = 0; j < kOwnColumns; ++j) {
          if (offset[j] >= 0) {
            const A value = widened(x[offset[j] + ch * c.x.c]);
#pragma unroll
            for (int r = 0; r < R; ++r) {
              sum[r][j] += by[r] * value;
            }
          }
        }
      }
    }
#pragma unroll
    for (int j = 0; j < kOwnColumns; ++j) {
      if (!inside[j]) {
        continue;
      }
      const int64_t offset = offset_in(c.y, column[j]);
#pragma unroll
      for (int r = 0; r < R; ++r) {
        if (row0 + r < rows) {
          finish<T>(a, number, group * rows + row0 + r, offset, sum[r][j]);
        }
      }
    }
  }
}

template <typename T, int R>
void run_own(Params a, const Queue& queue) {
  const ConvProblem& c = a.p.conv;
  a.column_tiles = (most_columns(a.p) + kOwnColumns - 1) / kOwnColumns;
  a.row_tiles = (c.out_group() + R - 1) / R;
  a.tiles = a.column_tiles * a.row_tiles * c.groups * a.p.classes();
  launch(
      "conv local own",
      own_kernel<T, R>,
      {(a.tiles + kOwnThreads - 1) / kOwnThreads, kOwnThreads},
      queue,
      a);
}

} // namespace

void conv_local_forward(
    const LocalProblem& p,
    const void* x,
    const void* w,
    const void* bias,
    void* y,
    const Queue& queue) {
  const ConvProblem& c = p.conv;
  Params a = {p, x, w, bias, y, c.in_group() * c.taps(), 0, 0, 0, false};
  const int64_t rows = c.out_group();
  a.columns_first = most_columns(p) >= kManyPositions * c.batch;
  with_conv_type(c.dtype, [&](auto type) {
    using T = decltype(type);
    if (a.columns_first && rows > 2) {
      run_own<T, 8>(a, queue);
    } else if (a.columns_first || a.length < 32) {
      run_own<T, 1>(a, queue);
    } else if (rows > kWarps) {
      run_dot<T, 4>(a, queue);
    } else {
      run_dot<T, 1>(a, queue);
    }
  });
}

} // namespace cuda
} // namespace torchconv
