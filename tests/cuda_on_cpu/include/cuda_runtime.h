// What the kernels use of CUDA C++ and of the runtime, for the host compiler.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "simulator.h"

#define __host__
#define __device__
#define __global__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
// Shared memory is reached through cuda/shared.cuh alone: __shared__ has no
// meaning here.

#define threadIdx (::cuda_on_cpu::here.thread)
#define blockIdx (::cuda_on_cpu::here.block)
#define blockDim (::cuda_on_cpu::here.block_size)
#define gridDim (::cuda_on_cpu::here.grid_size)
constexpr int warpSize = ::cuda_on_cpu::kWarp;

// -- vectors ------------------------------------------------------------------

#define CUDA_ON_CPU_VECTOR(T, name, align2, align4)   \
  struct name##2 {                                    \
    T x, y;                                           \
  }                                                   \
  __attribute__((aligned(align2)));                   \
  struct name##3 {                                    \
    T x, y, z;                                        \
  };                                                  \
  struct name##4 {                                    \
    T x, y, z, w;                                     \
  }                                                   \
  __attribute__((aligned(align4)));                   \
  inline name##2 make_##name##2(T x, T y) {           \
    return {x, y};                                    \
  }                                                   \
  inline name##3 make_##name##3(T x, T y, T z) {      \
    return {x, y, z};                                 \
  }                                                   \
  inline name##4 make_##name##4(T x, T y, T z, T w) { \
    return {x, y, z, w};                              \
  }
CUDA_ON_CPU_VECTOR(float, float, 8, 16)
CUDA_ON_CPU_VECTOR(double, double, 16, 16)
CUDA_ON_CPU_VECTOR(int, int, 8, 16)
CUDA_ON_CPU_VECTOR(unsigned, uint, 8, 16)
CUDA_ON_CPU_VECTOR(short, short, 4, 8)
CUDA_ON_CPU_VECTOR(unsigned short, ushort, 4, 8)
CUDA_ON_CPU_VECTOR(signed char, char, 2, 4)
CUDA_ON_CPU_VECTOR(unsigned char, uchar, 2, 4)
CUDA_ON_CPU_VECTOR(long long, longlong, 16, 16)
CUDA_ON_CPU_VECTOR(unsigned long long, ulonglong, 16, 16)
#undef CUDA_ON_CPU_VECTOR

// -- barriers and warps ---------------------------------------------------------

inline void __syncthreads() {
  ::cuda_on_cpu::block_barrier();
}
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  ::cuda_on_cpu::warp_barrier(mask);
}
inline void __threadfence() {}
inline void __threadfence_block() {}

namespace cuda_on_cpu {

// A value that every lane gives, and one that it takes from another.
template <typename T>
struct Exchange {
  T given, taken;
  int from;
};

template <typename T>
T exchange(unsigned mask, const char* what, T value, int from) {
  Exchange<T> mine{value, value, from};
  warp_together(mask, what, &mine, [](void* const* lanes) {
    for (int i = 0; i < kWarp; ++i) {
      auto* lane = static_cast<Exchange<T>*>(lanes[i]);
      if (lane != nullptr) {
        const auto* other = static_cast<Exchange<T>*>(lanes[lane->from]);
        if (other == nullptr) {
          fail("a shuffle reads a lane that takes no part");
        }
        lane->taken = other->given;
      }
    }
  });
  return mine.taken;
}

struct Vote {
  bool given;
  unsigned ballot;
};

inline unsigned ballot(unsigned mask, const char* what, bool value) {
  Vote mine{value, 0};
  warp_together(mask, what, &mine, [](void* const* lanes) {
    unsigned all = 0;
    for (int i = 0; i < kWarp; ++i) {
      const auto* lane = static_cast<Vote*>(lanes[i]);
      all |= lane != nullptr && lane->given ? 1u << i : 0u;
    }
    for (int i = 0; i < kWarp; ++i) {
      if (lanes[i] != nullptr) {
        static_cast<Vote*>(lanes[i])->ballot = all;
      }
    }
  });
  return mine.ballot;
}

} // namespace cuda_on_cpu

template <typename T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32) {
  const int base = ::cuda_on_cpu::lane() / width * width;
  return ::cuda_on_cpu::exchange(
      mask, "__shfl_sync", value, base + from % width);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  const int lane = ::cuda_on_cpu::lane();
  const int from = lane ^ bits;
  return ::cuda_on_cpu::exchange(
      mask,
      "__shfl_xor_sync",
      value,
      from / width > lane / width ? lane : from);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
  const int lane = ::cuda_on_cpu::lane();
  const int from = lane + static_cast<int>(by);
  return ::cuda_on_cpu::exchange(
      mask,
      "__shfl_down_sync",
      value,
      from / width == lane / width ? from : lane);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
  const int lane = ::cuda_on_cpu::lane();
  const int from = lane - static_cast<int>(by);
  return ::cuda_on_cpu::exchange(
      mask,
      "__shfl_up_sync",
      value,
      from >= lane / width * width ? from : lane);
}
inline unsigned __ballot_sync(unsigned mask, int value) {
  return ::cuda_on_cpu::ballot(mask, "__ballot_sync", value != 0);
}
inline int __any_sync(unsigned mask, int value) {
  return ::cuda_on_cpu::ballot(mask, "__any_sync", value != 0) != 0;
}
inline int __all_sync(unsigned mask, int value) {
  return ::cuda_on_cpu::ballot(mask, "__all_sync", value == 0) == 0;
}

// -- arithmetic ------------------------------------------------------------------

template <typename T>
T __ldg(const T* at) {
  return *at;
}
template <typename T>
T __ldcs(const T* at) {
  return *at;
}
template <typename T>
void __stcs(T* at, T value) {
  *at = value;
}

namespace cuda_on_cpu {

template <typename To, typename From>
To bits_of(From value) {
  static_assert(sizeof(To) == sizeof(From), "");
  To to;
  std::memcpy(&to, &value, sizeof(to));
  return to;
}

} // namespace cuda_on_cpu

inline float __int_as_float(int v) {
  return ::cuda_on_cpu::bits_of<float>(v);
}
inline int __float_as_int(float v) {
  return ::cuda_on_cpu::bits_of<int>(v);
}
inline float __uint_as_float(unsigned v) {
  return ::cuda_on_cpu::bits_of<float>(v);
}
inline unsigned __float_as_uint(float v) {
  return ::cuda_on_cpu::bits_of<unsigned>(v);
}
inline double __longlong_as_double(long long v) {
  return ::cuda_on_cpu::bits_of<double>(v);
}
inline long long __double_as_longlong(double v) {
  return ::cuda_on_cpu::bits_of<long long>(v);
}

inline int min(int a, int b) {
  return a < b ? a : b;
}
inline unsigned min(unsigned a, unsigned b) {
  return a < b ? a : b;
}
inline long min(long a, long b) {
  return a < b ? a : b;
}
inline long long min(long long a, long long b) {
  return a < b ? a : b;
}
inline int max(int a, int b) {
  return a > b ? a : b;
}
inline unsigned max(unsigned a, unsigned b) {
  return a > b ? a : b;
}
inline long max(long a, long b) {
  return a > b ? a : b;
}
inline long long max(long long a, long long b) {
  return a > b ? a : b;
}
inline int __popc(unsigned v) {
  return __builtin_popcount(v);
}
inline int __ffs(int v) {
  return __builtin_ffs(v);
}
inline int __clz(int v) {
  return v == 0 ? 32 : __builtin_clz(static_cast<unsigned>(v));
}
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((static_cast<unsigned long long>(a) * b) >> 32);
}
inline unsigned long long __umul64hi(
    unsigned long long a,
    unsigned long long b) {
  return static_cast<unsigned long long>(
      (static_cast<unsigned __int128>(a) * b) >> 64);
}
inline float rsqrtf(float v) {
  return 1.0f / std::sqrt(v);
}

// Threads change over only where they ask to, so these are what they look like.
template <typename T>
T atomicAdd(T* at, T value) {
  const T old = *at;
  *at = static_cast<T>(old + value);
  return old;
}
template <typename T>
T atomicMax(T* at, T value) {
  const T old = *at;
  *at = old > value ? old : value;
  return old;
}
template <typename T>
T atomicMin(T* at, T value) {
  const T old = *at;
  *at = old < value ? old : value;
  return old;
}
template <typename T>
T atomicCAS(T* at, T compare, T value) {
  const T old = *at;
  *at = old == compare ? value : old;
  return old;
}
template <typename T>
T atomicExch(T* at, T value) {
  const T old = *at;
  *at = value;
  return old;
}

// -- the runtime: one device, whose memory is the host's --------------------------

enum cudaError_t { cudaSuccess = 0, cudaErrorLaunchFailure = 719 };
enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
  cudaFuncAttributePreferredSharedMemoryCarveout = 9,
};
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};
using cudaStream_t = void*;

inline const char* cudaGetErrorString(cudaError_t) {
  return ::cuda_on_cpu::last_error().c_str();
}
inline cudaError_t cudaGetLastError() {
  return cudaSuccess;
}
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int) {
  return cudaSuccess;
}
// A small chip, so that small problems meet every case of a launch.
inline cudaError_t cudaDeviceGetAttribute(
    int* value,
    cudaDeviceAttr attribute,
    int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = 4;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = 9;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = 0;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = ::cuda_on_cpu::kMaxShared;
      break;
  }
  return cudaSuccess;
}
template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel*, cudaFuncAttribute, int) {
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(
    void* to,
    int value,
    size_t bytes,
    cudaStream_t = nullptr) {
  std::memset(to, value, bytes);
  return cudaSuccess;
}

// Kernels take one argument, their parameters (cuda/launch.cuh).
template <typename Params>
cudaError_t cudaLaunchKernel(
    void (*kernel)(Params),
    dim3 grid,
    dim3 block,
    void** arguments,
    size_t shared_bytes,
    cudaStream_t) {
  struct Call {
    void (*kernel)(Params);
    const Params* params;
  };
  const Call call{kernel, static_cast<const Params*>(arguments[0])};
  const auto body = [](const void* c) {
    const Call& it = *static_cast<const Call*>(c);
    it.kernel(*it.params);
  };
  return ::cuda_on_cpu::launch(grid, block, shared_bytes, body, &call)
      ? cudaSuccess
      : cudaErrorLaunchFailure;
}
