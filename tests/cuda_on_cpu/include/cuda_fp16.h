// __half for the host compiler: storage and conversions.
#pragma once

#include "core/dtype.h"
#include "cuda_runtime.h"

#define CUDA_ON_CPU_HALF(name, storage) \
  struct name {                         \
    unsigned short bits;                \
    name() = default;                   \
    explicit name(float v) {            \
      const storage s(v);               \
      bits = s.bits;                    \
    }                                   \
    explicit operator float() const {   \
      storage s;                        \
      s.bits = bits;                    \
      return static_cast<float>(s);     \
    }                                   \
  } __attribute__((aligned(2)));        \
  struct name##2_pair {                 \
    name x, y;                          \
  }                                     \
  __attribute__((aligned(4)));

CUDA_ON_CPU_HALF(__half, torchconv::half)
using half = __half;
using __half2 = __half2_pair;
using half2 = __half2;

inline float __half2float(__half v) {
  return static_cast<float>(v);
}
inline __half __float2half(float v) {
  return __half(v);
}
inline __half __float2half_rn(float v) {
  return __half(v);
}
inline __half __ushort_as_half(unsigned short bits) {
  __half v;
  v.bits = bits;
  return v;
}
inline unsigned short __half_as_ushort(__half v) {
  return v.bits;
}
inline __half2 __halves2half2(__half a, __half b) {
  return {a, b};
}
inline __half2 __floats2half2_rn(float a, float b) {
  return {__half(a), __half(b)};
}
inline __half2 __float22half2_rn(float2 v) {
  return {__half(v.x), __half(v.y)};
}
inline float2 __half22float2(__half2 v) {
  return {static_cast<float>(v.x), static_cast<float>(v.y)};
}
inline float __low2float(__half2 v) {
  return static_cast<float>(v.x);
}
inline float __high2float(__half2 v) {
  return static_cast<float>(v.y);
}
