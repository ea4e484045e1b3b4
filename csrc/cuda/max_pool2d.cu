// 2-d max pooling: one thread per output, 64-bit indexing, no shared memory.
// NaN propagates; of equal values (+0 and -0) the first in the window wins.
//
// Compiled for sm_80, sm_90a and PTX; it has not run on hardware yet.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda/launch.cuh"
#include "cuda/max_pool2d.h"

namespace torchconv {
namespace cuda {
namespace {

constexpr int kThreads = 256;

struct Params {
  PoolProblem problem;
  const void* x;
  void* y;
  bool channels_innermost;
};

// What values are compared in; half types keep their bits and compare as float.
__device__ inline float comparable(float v) {
  return v;
}
__device__ inline double comparable(double v) {
  return v;
}
__device__ inline float comparable(__half v) {
  return __half2float(v);
}
__device__ inline float comparable(__nv_bfloat16 v) {
  return __bfloat162float(v);
}

template <typename T>
__device__ T minus_infinity();
template <>
__device__ inline float minus_infinity() {
  return __int_as_float(static_cast<int>(0xff800000u));
}
template <>
__device__ inline double minus_infinity() {
  return __longlong_as_double(static_cast<long long>(0xfff0000000000000ull));
}
template <>
__device__ inline __half minus_infinity() {
  return __ushort_as_half(0xfc00);
}
template <>
__device__ inline __nv_bfloat16 minus_infinity() {
  return __ushort_as_bfloat16(0xff80);
}

// Splits `size` off an index as its innermost digit.
__device__ inline int64_t take(int64_t& index, int64_t size) {
  const int64_t outer = index / size;
  const int64_t digit = index - outer * size;
  index = outer;
  return digit;
}

template <typename T>
__global__ void max_pool2d_kernel(const __grid_constant__ Params params) {
  const PoolProblem& p = params.problem;
  const int64_t total = p.batch * p.channels * pool_out_plane(p);
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (; i < total; i += step) {
    int64_t n = i;
    int64_t c = params.channels_innermost ? take(n, p.channels) : 0;
    const int64_t ow = take(n, p.out[2]);
    const int64_t oh = take(n, p.out[1]);
    if (!params.channels_innermost) {
      c = take(n, p.channels);
    }
    const T* x =
        static_cast<const T*>(params.x) + n * p.x_stride_n + c * p.x_stride_c;
    const PoolWindow rows = pool_window(p, 1, oh);
    const PoolWindow columns = pool_window(p, 2, ow);
    T best = minus_infinity<T>();
    for (int64_t r = rows.tap_begin; r < rows.tap_end; ++r) {
      const T* row = x + (rows.start + r * p.dilation[1]) * p.x_stride[1];
      for (int64_t s = columns.tap_begin; s < columns.tap_end; ++s) {
        const T v = row[(columns.start + s * p.dilation[2]) * p.x_stride[2]];
        const auto value = comparable(v);
        if (value > comparable(best) || value != value) {
          best = v;
        }
      }
    }
    T* y = static_cast<T*>(params.y) + n * p.y_stride_n + c * p.y_stride_c;
    y[oh * p.y_stride[1] + ow * p.y_stride[2]] = best;
  }
}

} // namespace

void max_pool2d(
    const PoolProblem& problem,
    const void* x,
    void* y,
    bool channels_innermost,
    int device,
    void* stream) {
  void (*kernel)(Params) = nullptr;
  switch (problem.dtype) {
    case DType::f32:
      kernel = max_pool2d_kernel<float>;
      break;
    case DType::f64:
      kernel = max_pool2d_kernel<double>;
      break;
    case DType::f16:
      kernel = max_pool2d_kernel<__half>;
      break;
    case DType::bf16:
      kernel = max_pool2d_kernel<__nv_bfloat16>;
      break;
    default:
      throw std::runtime_error(
          std::string("torchconv::max_pool has no CUDA kernel for dtype ") +
          dtype_name(problem.dtype));
  }
  const int64_t total =
      problem.batch * problem.channels * pool_out_plane(problem);
  launch(
      "max_pool2d",
      kernel,
      {ceil_div(total, kThreads), kThreads},
      {device, stream},
      Params{problem, x, y, channels_innermost});
}

} // namespace cuda
} // namespace torchconv
