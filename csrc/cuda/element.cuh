// Elements of tensors in kernels: the type they compute in, 16 bytes of them at
// a time, and the choice of a kernel by dtype.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

#include "core/dtype.h"
#include "cuda/ptx.cuh"

namespace torchconv {
namespace cuda {

// float for the half types, the type itself for the others.
template <typename T>
struct Compute {
  using type = T;
};
template <>
struct Compute<__half> {
  using type = float;
};
template <>
struct Compute<__nv_bfloat16> {
  using type = float;
};
template <typename T>
using compute_t = typename Compute<T>::type;

template <typename T>
__host__ __device__ inline T widened(T v) {
  return v;
}
__host__ __device__ inline float widened(__half v) {
  return __half2float(v);
}
__host__ __device__ inline float widened(__nv_bfloat16 v) {
  return __bfloat162float(v);
}

template <typename T>
__host__ __device__ inline T narrowed(compute_t<T> v) {
  return v;
}
template <>
__host__ __device__ inline __half narrowed<__half>(float v) {
  return __float2half_rn(v);
}
template <>
__host__ __device__ inline __nv_bfloat16 narrowed<__nv_bfloat16>(float v) {
  return __float2bfloat16_rn(v);
}

// What no element is smaller than.
template <typename A>
__device__ constexpr A lowest() {
  return std::numeric_limits<A>::has_infinity
      ? -std::numeric_limits<A>::infinity()
      : std::numeric_limits<A>::lowest();
}

// Elements of a 16-byte access.
template <typename T>
constexpr int kVector = static_cast<int>(16 / sizeof(T));

// Loads and stores of N elements side by side: one access if they are 16 bytes
// (then aligned to them), else one for each.
template <int N, typename T>
__device__ inline void load(const T* from, compute_t<T> (&to)[N]) {
  if constexpr (N * sizeof(T) == 16) {
    const int4 raw = *reinterpret_cast<const int4*>(from);
    T elements[N];
    std::memcpy(elements, &raw, 16);
    for (int i = 0; i < N; ++i) {
      to[i] = widened(elements[i]);
    }
  } else {
    for (int i = 0; i < N; ++i) {
      to[i] = widened(from[i]);
    }
  }
}

template <int N, typename T>
__device__ inline void store(T* to, const compute_t<T> (&from)[N]) {
  if constexpr (N * sizeof(T) == 16) {
    alignas(16) T elements[N];
    for (int i = 0; i < N; ++i) {
      elements[i] = narrowed<T>(from[i]);
    }
    uint4 raw;
    std::memcpy(&raw, elements, 16);
    store16(to, raw);
  } else {
    for (int i = 0; i < N; ++i) {
      to[i] = narrowed<T>(from[i]);
    }
  }
}

inline bool aligned16(const void* p) {
  return reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
}

// A type as a value, for the functions below.
template <typename T>
struct Element {
  using type = T;
};

[[noreturn]] inline void no_kernel(const char* op, DType dtype) {
  throw std::runtime_error(
      std::string("torchconv::") + op + " has no CUDA kernel for dtype " +
      dtype_name(dtype));
}

// f(Element<T>()) for the element type of a floating dtype.
template <typename F>
auto with_floating(DType dtype, const char* op, const F& f) {
  switch (dtype) {
    case DType::f32:
      return f(Element<float>());
    case DType::f64:
      return f(Element<double>());
    case DType::f16:
      return f(Element<__half>());
    case DType::bf16:
      return f(Element<__nv_bfloat16>());
    default:
      no_kernel(op, dtype);
  }
}

// For integers.
template <typename F>
auto with_integer(DType dtype, const char* op, const F& f) {
  switch (dtype) {
    case DType::i64:
      return f(Element<int64_t>());
    case DType::i32:
      return f(Element<int32_t>());
    case DType::i16:
      return f(Element<int16_t>());
    case DType::i8:
      return f(Element<int8_t>());
    case DType::u8:
      return f(Element<uint8_t>());
    default:
      no_kernel(op, dtype);
  }
}

// For elements that are only moved: unsigned integers of their size.
template <typename F>
auto with_bits(int64_t size, const F& f) {
  switch (size) {
    case 1:
      return f(Element<uint8_t>());
    case 2:
      return f(Element<uint16_t>());
    case 4:
      return f(Element<uint32_t>());
    default:
      return f(Element<uint64_t>());
  }
}

inline bool is_floating(DType t) {
  return t == DType::f32 || t == DType::f64 || t == DType::f16 ||
      t == DType::bf16;
}

} // namespace cuda
} // namespace torchconv
