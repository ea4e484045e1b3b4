// Matrix products of implicit_gemm and im2col: a block computes rows x columns
// of a result, d[m, n] = sum_k a[m, k] b[n, k], in steps of kStep chunks along
// k. Both operands lie in shared memory as panels, [row][chunk], a chunk being
// 16 bytes of consecutive k. That one format suits every unit:
//
//   * __half, __nv_bfloat16: m16n8k16 on tensor cores, fragments by ldmatrix;
//   * float as TF32: m16n8k8, by the same ldmatrix (an "8 x 8 matrix of 16 bits"
//     is 8 rows of 16 bytes, that is of 4 floats);
//   * double: m8n8k4 on tensor cores;
//   * float: multiply-adds of the cores, 4 k at a time.
//
// In a panel the chunks of a row are exchanged by the row's number, so that
// the 8 rows that one access reads or writes lie in different banks.
#pragma once

#include "cuda/number.cuh"
#include "cuda/ptx.cuh"
#include "cuda/shared.cuh"

namespace torchconv {
namespace cuda {

constexpr int kStep = 4; // chunks of k between two barriers

template <typename E>
constexpr int kChunk = 16 / sizeof(E); // elements of a chunk

template <typename E>
constexpr int kRow = kStep * kChunk<E>; // elements of a panel's row

template <typename E>
struct alignas(16) Chunk {
  E e[kChunk<E>];
};

// The element at which a chunk of a panel starts.
template <typename E>
__device__ inline int panel_at(int row, int chunk) {
  return (row * kStep + (chunk ^ ((row >> 1) & (kStep - 1)))) * kChunk<E>;
}

// What an element's product is computed by.
struct TensorHalf {}; // half types
struct TensorTf32 {}; // float, factors rounded to TF32
struct TensorF64 {};
struct Fma {}; // float

// A tile of BM x BN, shared out to warps of WM x WN.
template <int BM, int BN, int WM, int WN>
struct TileShape {
  static constexpr int rows = BM, columns = BN;
  static constexpr int warp_rows = WM, warp_columns = WN;
  static constexpr int warps_n = BN / WN;
  static constexpr int threads = BM / WM * warps_n * 32;
};

// -- what one warp accumulates -----------------------------------------------

// m16n8 tiles: half types and TF32.
template <typename Unit, typename E, int WM, int WN>
struct WarpTile {
  static constexpr int MT = WM / 16, NT = WN / 8;
  static_assert(NT % 2 == 0, "b is loaded for two tiles at a time");
  float sum[MT][NT][4] = {};

  __device__ void step(
      const Shared<E>& a,
      int a0,
      const Shared<E>& b,
      int b0,
      int row0,
      int column0) {
    const int lane = threadIdx.x % 32;
    // Rows 8 apart exchange their chunks alike, and chunks 2 apart differ in a
    // bit: every address is one of these two plus a constant.
    const int own_a = panel_at<E>(row0 + lane % 16, lane / 16);
    const int own_b =
        panel_at<E>(column0 + lane / 16 * 8 + lane % 8, lane / 8 % 2);
#pragma unroll
    for (int k = 0; k < kStep / 2; ++k) {
      const int from_a = a0 + (own_a ^ (k * 2 * kChunk<E>));
      const int from_b = b0 + (own_b ^ (k * 2 * kChunk<E>));
      uint32_t af[MT][4], bf[NT][2];
#pragma unroll
      for (int i = 0; i < MT; ++i) {
        ldmatrix(af[i], a.address(from_a + i * 16 * kRow<E>));
      }
#pragma unroll
      for (int j = 0; j < NT; j += 2) {
        uint32_t four[4];
        ldmatrix(four, b.address(from_b + j * 8 * kRow<E>));
        bf[j][0] = four[0];
        bf[j][1] = four[1];
        bf[j + 1][0] = four[2];
        bf[j + 1][1] = four[3];
      }
      if constexpr (sizeof(E) == 4) {
#pragma unroll
        for (int i = 0; i < MT; ++i) {
#pragma unroll
          for (int r = 0; r < 4; ++r) {
            af[i][r] = to_tf32(__uint_as_float(af[i][r]));
          }
        }
#pragma unroll
        for (int j = 0; j < NT; ++j) {
          bf[j][0] = to_tf32(__uint_as_float(bf[j][0]));
          bf[j][1] = to_tf32(__uint_as_float(bf[j][1]));
        }
      }
#pragma unroll
      for (int i = 0; i < MT; ++i) {
#pragma unroll
        for (int j = 0; j < NT; ++j) {
          if constexpr (sizeof(E) == 4) {
            mma_m16n8k8_tf32(sum[i][j], af[i], bf[j]);
          } else {
            mma_m16n8k16<E>(sum[i][j], af[i], bf[j]);
          }
        }
      }
    }
  }

  // Calls f(row, column, sum) for every element the thread holds.
  template <typename F>
  __device__ void each(const F& f) const {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < MT; ++i) {
#pragma unroll
      for (int j = 0; j < NT; ++j) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          f(i * 16 + g + r / 2 * 8, j * 8 + t * 2 + r % 2, sum[i][j][r]);
        }
      }
    }
  }
};

// m8n8 tiles of double.
template <int WM, int WN>
struct WarpTile<TensorF64, double, WM, WN> {
  static constexpr int MT = WM / 8, NT = WN / 8;
  double sum[MT][NT][2] = {};

  __device__ void step(
      const Shared<double>& a,
      int a0,
      const Shared<double>& b,
      int b0,
      int row0,
      int column0) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int k = 0; k < kStep / 2; ++k) {
      double af[MT], bf[NT];
#pragma unroll
      for (int i = 0; i < MT; ++i) {
        const int at = panel_at<double>(row0 + i * 8 + g, k * 2 + t / 2);
        af[i] = a.get(a0 + at + t % 2);
      }
#pragma unroll
      for (int j = 0; j < NT; ++j) {
        const int at = panel_at<double>(column0 + j * 8 + g, k * 2 + t / 2);
        bf[j] = b.get(b0 + at + t % 2);
      }
#pragma unroll
      for (int i = 0; i < MT; ++i) {
#pragma unroll
        for (int j = 0; j < NT; ++j) {
          mma_m8n8k4_f64(sum[i][j], af[i], bf[j]);
        }
      }
    }
  }

  template <typename F>
  __device__ void each(const F& f) const {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < MT; ++i) {
#pragma unroll
      for (int j = 0; j < NT; ++j) {
        f(i * 8 + g, j * 8 + t * 2, sum[i][j][0]);
        f(i * 8 + g, j * 8 + t * 2 + 1, sum[i][j][1]);
      }
    }
  }
};

// Multiply-adds of float: lanes as 4 x 8, each with every fourth row and every
// eighth column.
template <int WM, int WN>
struct WarpTile<Fma, float, WM, WN> {
  static constexpr int MT = WM / 4, NT = WN / 8;
  float sum[MT][NT] = {};

  __device__ void step(
      const Shared<float>& a,
      int a0,
      const Shared<float>& b,
      int b0,
      int row0,
      int column0) {
    const int row = row0 + threadIdx.x % 32 / 8;
    const int column = column0 + threadIdx.x % 8;
#pragma unroll
    for (int k = 0; k < kStep; ++k) {
      float4 af[MT];
#pragma unroll
      for (int i = 0; i < MT; ++i) {
        af[i] = a.get_as<float4>(a0 + panel_at<float>(row + i * 4, k));
      }
#pragma unroll
      for (int j = 0; j < NT; ++j) {
        const float4 bf =
            b.get_as<float4>(b0 + panel_at<float>(column + j * 8, k));
#pragma unroll
        for (int i = 0; i < MT; ++i) {
          sum[i][j] = fmaf(af[i].x, bf.x, sum[i][j]);
          sum[i][j] = fmaf(af[i].y, bf.y, sum[i][j]);
          sum[i][j] = fmaf(af[i].z, bf.z, sum[i][j]);
          sum[i][j] = fmaf(af[i].w, bf.w, sum[i][j]);
        }
      }
    }
  }

  template <typename F>
  __device__ void each(const F& f) const {
    const int row = threadIdx.x % 32 / 8, column = threadIdx.x % 8;
#pragma unroll
    for (int i = 0; i < MT; ++i) {
#pragma unroll
      for (int j = 0; j < NT; ++j) {
        f(row + i * 4, column + j * 8, sum[i][j]);
      }
    }
  }
};

// -- a block -----------------------------------------------------------------

constexpr int kStages = 3; // panels of each operand under way

template <typename E, typename S>
struct BlockTile {
  static constexpr int a_size = S::rows * kStep * kChunk<E>;
  static constexpr int b_size = S::columns * kStep * kChunk<E>;
  static constexpr int panel_bytes =
      kStages * (a_size + b_size) * static_cast<int>(sizeof(E));
  // A slice of the result on its way out, [row][kSlice + 1].
  static constexpr int kSlice = 32;
  static constexpr int slice_bytes =
      S::rows * (kSlice + 1) * static_cast<int>(sizeof(Acc<E>));
  static constexpr int bytes =
      panel_bytes > slice_bytes ? panel_bytes : slice_bytes;

  // The product over `steps` steps. `load` (k, a stage's panels) starts what
  // brings step k to shared memory: cp.async, or loads to registers that `keep`
  // (the same panels) writes after the products of the step before. After the
  // last barrier of a step nobody reads the panels that the next load fills.
  template <typename Warp, typename Load, typename Keep>
  __device__ static void multiply(
      Warp& warp,
      int64_t steps,
      const Load& load,
      const Keep& keep) {
    const Shared<E> a(0, kStages * a_size);
    const Shared<E> b(kStages * a_size * sizeof(E), kStages * b_size);
    const int number = threadIdx.x / 32;
    const int row0 = number / S::warps_n * S::warp_rows;
    const int column0 = number % S::warps_n * S::warp_columns;
#pragma unroll
    for (int s = 0; s < kStages - 1; ++s) {
      if (s < steps) {
        load(a, s * a_size, b, s * b_size);
        keep(a, s * a_size, b, s * b_size);
      }
      cp_async_commit();
    }
    int stage = 0;
    for (int64_t k = 0; k < steps; ++k) {
      cp_async_wait<kStages - 2>();
      __syncthreads();
      const int next = stage == 0 ? kStages - 1 : stage - 1;
      const bool more = k + kStages - 1 < steps;
      if (more) {
        load(a, next * a_size, b, next * b_size);
      }
      cp_async_commit();
      warp.step(a, stage * a_size, b, stage * b_size, row0, column0);
      if (more) {
        keep(a, next * a_size, b, next * b_size);
      }
      stage = stage == kStages - 1 ? 0 : stage + 1;
    }
    cp_async_wait<0>();
    __syncthreads();
  }

  // Hands every element of the tile to store(row, column, sum), a slice of
  // columns at a time, so that neighbouring threads have neighbouring rows, or
  // columns.
  template <typename Warp, typename Store>
  __device__ static void write(
      const Warp& warp,
      bool along_rows,
      const Store& store) {
    constexpr int kPitch = kSlice + 1;
    const Shared<Acc<E>> slice(0, S::rows * kPitch);
    const int number = threadIdx.x / 32;
    const int row0 = number / S::warps_n * S::warp_rows;
    const int column0 = number % S::warps_n * S::warp_columns;
    for (int first = 0; first < S::columns; first += kSlice) {
      warp.each([&](int row, int column, Acc<E> sum) {
        const int c = column0 + column - first;
        if (c >= 0 && c < kSlice) {
          slice.set((row0 + row) * kPitch + c, sum);
        }
      });
      __syncthreads();
      for (int e = threadIdx.x; e < S::rows * kSlice; e += S::threads) {
        const int row = along_rows ? e % S::rows : e / kSlice;
        const int column = along_rows ? e / S::rows : e % kSlice;
        store(row, first + column, slice.get(row * kPitch + column));
      }
      __syncthreads();
    }
  }
};

} // namespace cuda
} // namespace torchconv
