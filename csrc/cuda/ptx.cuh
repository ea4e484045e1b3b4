// Every instruction that CUDA C++ has no name for, by name. This is the only
// file with inline PTX; tests/cuda_on_cpu puts a file of the same name in its
// place, in which each function does on the host what is written here.
//
// Addresses in shared memory are those that Shared::address gives. Fragments
// are described for lane 0..31 of the warp with
//
//   g = lane / 4   (0..7)      t = lane % 4   (0..3)
//
// and "elements (r, c), (r, c + 1)" of a 32-bit register means the first in
// its low half. All lanes of a warp call together.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace torchconv {
namespace cuda {

// -- Asynchronous copies, global to shared memory ----------------------------

// Copies Bytes (4, 8 or 16; both ends aligned to them) or, if `inside` is
// false, writes zeros and does not read src. The data are there for the thread
// after cp_async_wait, for the block after a barrier that follows it.
template <int Bytes>
__device__ inline void cp_async(uint32_t dst, const void* src, bool inside) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16, "");
  const int size = inside ? Bytes : 0;
  if constexpr (Bytes == 16) { // past the L1 cache
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst),
                 "l"(__cvta_generic_to_global(src)),
                 "r"(size)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(dst),
                 "l"(__cvta_generic_to_global(src)),
                 "n"(Bytes),
                 "r"(size)
                 : "memory");
  }
}

// Makes a group of the thread's copies since the last commit (it may be
// empty).
__device__ inline void cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most the N youngest groups of the thread are under way.
template <int N>
__device__ inline void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// -- Stores ------------------------------------------------------------------

// Writes 16 bytes of global memory; `to` is aligned to them. By name, because nvcc
// makes four stores of an assignment whose words it knows apart.
__device__ inline void store16(void* to, uint4 value) {
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(
                   __cvta_generic_to_global(to)),
               "r"(value.x),
               "r"(value.y),
               "r"(value.z),
               "r"(value.w)
               : "memory");
}

// -- Matrices from shared memory ---------------------------------------------

// Loads N (1, 2 or 4) 8 x 8 matrices of 16-bit elements. Lane 8 m + r gives the
// address of row r of matrix m: 16 bytes, aligned to 16 (for N < 4, lanes from
// 8 N on give any valid address). Register m then holds of matrix m the
// elements (g, 2t), (g, 2t + 1).
template <int N>
__device__ inline void ldmatrix(uint32_t (&r)[N], uint32_t row) {
  static_assert(N == 1 || N == 2 || N == 4, "");
  if constexpr (N == 1) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
                 : "=r"(r[0])
                 : "r"(row)
                 : "memory");
  } else if constexpr (N == 2) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(row)
                 : "memory");
  } else {
    asm volatile(
        "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
        : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
        : "r"(row)
        : "memory");
  }
}

// The same matrices transposed: register m holds of matrix m the elements
// (2t, g), (2t + 1, g).
template <int N>
__device__ inline void ldmatrix_trans(uint32_t (&r)[N], uint32_t row) {
  static_assert(N == 1 || N == 2 || N == 4, "");
  if constexpr (N == 1) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
                 : "=r"(r[0])
                 : "r"(row)
                 : "memory");
  } else if constexpr (N == 2) {
    asm volatile(
        "ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
        : "=r"(r[0]), "=r"(r[1])
        : "r"(row)
        : "memory");
  } else {
    asm volatile(
        "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, "
        "[%4];"
        : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
        : "r"(row)
        : "memory");
  }
}

// -- Matrix products: d += a b -----------------------------------------------

// d (16 x 8, float32) += a (16 x 16) b (16 x 8), T = __half or __nv_bfloat16.
//   a[0]: (g, 2t), (g, 2t+1)        a[1]: (g+8, 2t), (g+8, 2t+1)
//   a[2]: (g, 2t+8), (g, 2t+9)      a[3]: (g+8, 2t+8), (g+8, 2t+9)
//   b[0]: (2t, g), (2t+1, g)        b[1]: (2t+8, g), (2t+9, g)
//   d[0]: (g, 2t)  d[1]: (g, 2t+1)  d[2]: (g+8, 2t)  d[3]: (g+8, 2t+1)
template <typename T>
__device__ inline void mma_m16n8k16(
    float (&d)[4],
    const uint32_t (&a)[4],
    const uint32_t (&b)[2]);

template <>
__device__ inline void mma_m16n8k16<__half>(
    float (&d)[4],
    const uint32_t (&a)[4],
    const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <>
__device__ inline void mma_m16n8k16<__nv_bfloat16>(
    float (&d)[4],
    const uint32_t (&a)[4],
    const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// d (16 x 8, float32) += a (16 x 8) b (8 x 8) in TF32: float32 whose low 13
// bits do not count; see to_tf32.
//   a[0]: (g, t)   a[1]: (g+8, t)   a[2]: (g, t+4)   a[3]: (g+8, t+4)
//   b[0]: (t, g)   b[1]: (t+4, g)
//   d: as above
__device__ inline void mma_m16n8k8_tf32(
    float (&d)[4],
    const uint32_t (&a)[4],
    const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Rounds to TF32 (10 bits of mantissa), to nearest, ties away from zero.
__device__ inline uint32_t to_tf32(float value) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
}

// d (8 x 8, float64) += a (8 x 4) b (4 x 8).
//   a: (g, t)   b: (t, g)   d[0]: (g, 2t)   d[1]: (g, 2t+1)
__device__ inline void mma_m8n8k4_f64(double (&d)[2], double a, double b) {
  asm volatile(
      "mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 "
      "{%0, %1}, {%2}, {%3}, {%0, %1};"
      : "+d"(d[0]), "+d"(d[1])
      : "d"(a), "d"(b));
}

} // namespace cuda
} // namespace torchconv
