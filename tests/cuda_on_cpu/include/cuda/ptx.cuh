// In place of csrc/cuda/ptx.cuh, where each function and fragment is
// described; here is what each does, on the host.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "simulator.h"

namespace torchconv {
namespace cuda {

// -- Asynchronous copies ----------------------------------------------------------

template <int Bytes>
inline void cp_async(std::uint32_t dst, const void* src, bool inside) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16, "");
  ::cuda_on_cpu::async_copy(dst, Bytes, src, inside);
}
inline void cp_async_commit() {
  ::cuda_on_cpu::async_commit();
}
template <int N>
inline void cp_async_wait() {
  ::cuda_on_cpu::async_wait(N);
}

// -- Stores ------------------------------------------------------------------

// Writes 16 bytes of global memory; `to` is aligned to them. By name, because nvcc
// makes four stores of an assignment whose words it knows apart.
inline void store16(void* to, uint4 value) {
  *static_cast<uint4*>(to) = value;
}

// -- Matrices from shared memory -----------------------------------------------------

namespace on_cpu {

using ::cuda_on_cpu::kWarp;

struct Matrices {
  std::uint32_t* registers;
  std::uint32_t row;
};

template <int N, bool kTransposed>
void load_matrices(void* const* lanes) {
  for (int m = 0; m < N; ++m) {
    std::uint16_t matrix[8][8];
    for (int r = 0; r < 8; ++r) {
      const auto* lane = static_cast<Matrices*>(lanes[8 * m + r]);
      ::cuda_on_cpu::shared_read(lane->row, 16, matrix[r], 8 * m + r);
    }
    for (int i = 0; i < kWarp; ++i) {
      const int g = i / 4, t = i % 4;
      const std::uint32_t low =
          kTransposed ? matrix[2 * t][g] : matrix[g][2 * t];
      const std::uint32_t high =
          kTransposed ? matrix[2 * t + 1][g] : matrix[g][2 * t + 1];
      static_cast<Matrices*>(lanes[i])->registers[m] = low | high << 16;
    }
  }
}

} // namespace on_cpu

template <int N>
inline void ldmatrix(std::uint32_t (&r)[N], std::uint32_t row) {
  static_assert(N == 1 || N == 2 || N == 4, "");
  on_cpu::Matrices mine{r, row};
  ::cuda_on_cpu::warp_together(
      ::cuda_on_cpu::kFullWarp,
      "ldmatrix",
      &mine,
      on_cpu::load_matrices<N, false>);
}

template <int N>
inline void ldmatrix_trans(std::uint32_t (&r)[N], std::uint32_t row) {
  static_assert(N == 1 || N == 2 || N == 4, "");
  on_cpu::Matrices mine{r, row};
  ::cuda_on_cpu::warp_together(
      ::cuda_on_cpu::kFullWarp,
      "ldmatrix.trans",
      &mine,
      on_cpu::load_matrices<N, true>);
}

// -- Matrix products ----------------------------------------------------------------------

namespace on_cpu {

// The fragments of one lane.
template <typename D>
struct Product {
  D* d;
  const void* a;
  const void* b;
};

template <typename D>
const Product<D>& fragment(void* const* lanes, int g, int t) {
  return *static_cast<const Product<D>*>(lanes[4 * g + t]);
}

inline std::uint32_t word(const void* registers, int i) {
  return static_cast<const std::uint32_t*>(registers)[i];
}

template <typename T>
float element(const void* registers, int i, int half) {
  const std::uint32_t w = word(registers, i);
  T value;
  value.bits = static_cast<unsigned short>(half != 0 ? w >> 16 : w);
  return static_cast<float>(value);
}

inline float tf32(const void* registers, int i) {
  return __uint_as_float(word(registers, i) & 0xffffe000u);
}

template <typename T>
void mma_16x8x16(void* const* lanes) {
  float a[16][16], b[16][8];
  for (int g = 0; g < 8; ++g) {
    for (int t = 0; t < 4; ++t) {
      const Product<float>& f = fragment<float>(lanes, g, t);
      for (int half = 0; half < 2; ++half) {
        a[g][2 * t + half] = element<T>(f.a, 0, half);
        a[g + 8][2 * t + half] = element<T>(f.a, 1, half);
        a[g][2 * t + 8 + half] = element<T>(f.a, 2, half);
        a[g + 8][2 * t + 8 + half] = element<T>(f.a, 3, half);
        b[2 * t + half][g] = element<T>(f.b, 0, half);
        b[2 * t + 8 + half][g] = element<T>(f.b, 1, half);
      }
    }
  }
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      float& d = fragment<float>(lanes, i % 8, j / 2).d[i / 8 * 2 + j % 2];
      for (int k = 0; k < 16; ++k) {
        d += a[i][k] * b[k][j];
      }
    }
  }
}

inline void mma_16x8x8_tf32(void* const* lanes) {
  float a[16][8], b[8][8];
  for (int g = 0; g < 8; ++g) {
    for (int t = 0; t < 4; ++t) {
      const Product<float>& f = fragment<float>(lanes, g, t);
      a[g][t] = tf32(f.a, 0);
      a[g + 8][t] = tf32(f.a, 1);
      a[g][t + 4] = tf32(f.a, 2);
      a[g + 8][t + 4] = tf32(f.a, 3);
      b[t][g] = tf32(f.b, 0);
      b[t + 4][g] = tf32(f.b, 1);
    }
  }
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      float& d = fragment<float>(lanes, i % 8, j / 2).d[i / 8 * 2 + j % 2];
      for (int k = 0; k < 8; ++k) {
        d += a[i][k] * b[k][j];
      }
    }
  }
}

inline void mma_8x8x4_f64(void* const* lanes) {
  for (int i = 0; i < 8; ++i) {
    for (int j = 0; j < 8; ++j) {
      double& d = fragment<double>(lanes, i, j / 2).d[j % 2];
      for (int k = 0; k < 4; ++k) {
        d = std::fma(
            *static_cast<const double*>(fragment<double>(lanes, i, k).a),
            *static_cast<const double*>(fragment<double>(lanes, j, k).b),
            d);
      }
    }
  }
}

} // namespace on_cpu

template <typename T>
inline void mma_m16n8k16(
    float (&d)[4],
    const std::uint32_t (&a)[4],
    const std::uint32_t (&b)[2]) {
  static_assert(
      std::is_same<T, __half>::value || std::is_same<T, __nv_bfloat16>::value,
      "");
  on_cpu::Product<float> mine{d, a, b};
  ::cuda_on_cpu::warp_together(
      ::cuda_on_cpu::kFullWarp, "mma_m16n8k16", &mine, on_cpu::mma_16x8x16<T>);
}

inline void mma_m16n8k8_tf32(
    float (&d)[4],
    const std::uint32_t (&a)[4],
    const std::uint32_t (&b)[2]) {
  on_cpu::Product<float> mine{d, a, b};
  ::cuda_on_cpu::warp_together(
      ::cuda_on_cpu::kFullWarp,
      "mma_m16n8k8_tf32",
      &mine,
      on_cpu::mma_16x8x8_tf32);
}

inline std::uint32_t to_tf32(float value) {
  const std::uint32_t bits = __float_as_uint(value);
  const bool finite = (bits & 0x7f800000u) != 0x7f800000u;
  return (finite ? bits + 0x1000u : bits) & 0xffffe000u;
}

inline void mma_m8n8k4_f64(double (&d)[2], double a, double b) {
  on_cpu::Product<double> mine{d, &a, &b};
  ::cuda_on_cpu::warp_together(
      ::cuda_on_cpu::kFullWarp, "mma_m8n8k4_f64", &mine, on_cpu::mma_8x8x4_f64);
}

} // namespace cuda
} // namespace torchconv
