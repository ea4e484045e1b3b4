// Element types the kernels know, and what they compute in. Nothing here
// knows torch, SIMD or CUDA.
#pragma once

#include <cstdint>
#include <cstring>

namespace torchconv {

enum class DType : int8_t { f32, f64, f16, bf16, i64, i32, i16, i8, u8 };

inline const char* dtype_name(DType t) {
  switch (t) {
    case DType::f32:
      return "float32";
    case DType::f64:
      return "float64";
    case DType::f16:
      return "float16";
    case DType::bf16:
      return "bfloat16";
    case DType::i32:
      return "int32";
    case DType::i16:
      return "int16";
    case DType::i8:
      return "int8";
    case DType::u8:
      return "uint8";
    default:
      return "int64";
  }
}

inline int64_t dtype_size(DType t) {
  switch (t) {
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::f16:
    case DType::bf16:
    case DType::i16:
      return 2;
    case DType::i8:
    case DType::u8:
      return 1;
    default:
      return 8;
  }
}

// Storage types: two bytes and the conversions; arithmetic is in float.
struct bfloat16 {
  uint16_t bits;
  bfloat16() = default;
  bfloat16(float f) {
    uint32_t u;
    std::memcpy(&u, &f, 4);
    // Round to nearest even; a NaN keeps a mantissa bit so that it stays one.
    bits = (u & 0x7fffffffu) > 0x7f800000u
        ? static_cast<uint16_t>((u >> 16) | 0x40u)
        : static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  operator float() const {
    uint32_t u = static_cast<uint32_t>(bits) << 16;
    float f;
    std::memcpy(&f, &u, 4);
    return f;
  }
};

struct half {
  uint16_t bits;
  half() = default;
  half(float f) {
    uint32_t u;
    std::memcpy(&u, &f, 4);
    const uint32_t sign = (u >> 16) & 0x8000u;
    const uint32_t mag = u & 0x7fffffffu;
    if (mag >= 0x47800000u) { // overflows to infinity, or is inf / NaN
      bits =
          static_cast<uint16_t>(sign | (mag > 0x7f800000u ? 0x7e00u : 0x7c00u));
    } else if (mag < 0x38800000u) { // subnormal: let float addition round
      float m;
      std::memcpy(&m, &mag, 4);
      m += 0.5f; // the unit in the last place of 0.5f is 2^-24
      uint32_t r;
      std::memcpy(&r, &m, 4);
      bits = static_cast<uint16_t>(sign | (r - 0x3f000000u));
    } else {
      const uint32_t odd = (mag >> 13) & 1u;
      bits = static_cast<uint16_t>(
          sign | ((mag - 0x38000000u + 0xfffu + odd) >> 13));
    }
  }
  operator float() const {
    const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
    const uint32_t mag = bits & 0x7fffu;
    uint32_t u;
    if (mag >= 0x7c00u) {
      u = sign | 0x7f800000u | ((mag & 0x3ffu) << 13);
    } else {
      // Shift into place as a float of exponent -112 too small, then scale:
      // exact, and subnormals come out right.
      u = mag << 13;
      float m;
      std::memcpy(&m, &u, 4);
      m *= 5.192296858534828e33f; // 2^112
      std::memcpy(&u, &m, 4);
      u |= sign;
    }
    float f;
    std::memcpy(&f, &u, 4);
    return f;
  }
};

// The type a kernel computes in: the half types accumulate in float32.
template <typename T>
struct acc_type {
  using type = T;
};
template <>
struct acc_type<half> {
  using type = float;
};
template <>
struct acc_type<bfloat16> {
  using type = float;
};
template <typename T>
using acc_t = typename acc_type<T>::type;

} // namespace torchconv
