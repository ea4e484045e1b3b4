// unfold and fold. unfold: a thread for each channel and window position, which
// writes all its taps, so that a warp writes rows of columns side by side. fold:
// a thread for each element of the image.
//
// Compiled for sm_80, sm_90a and PTX; it has not run on hardware yet.
#include "cuda/fold.h"

#include "cuda/element.cuh"
#include "cuda/launch.cuh"
#include "cuda/pool_index.cuh"

namespace torchconv {
namespace cuda {
namespace {

struct Params {
  FoldProblem f;
  const void* from;
  void* to;
};

// Elements that are only moved, or added part by part.
template <typename T>
struct Complex {
  T re, im;
};
struct Boolean {
  uint8_t value;
};

template <typename T>
struct Sum {
  compute_t<T> sum = 0;
  __device__ void add(T v) {
    sum += widened(v);
  }
  __device__ T result() const {
    return narrowed<T>(sum);
  }
};
template <typename T>
struct Sum<Complex<T>> {
  Complex<T> sum = {0, 0};
  __device__ void add(const Complex<T>& v) {
    sum.re += v.re;
    sum.im += v.im;
  }
  __device__ Complex<T> result() const {
    return sum;
  }
};
template <>
struct Sum<Boolean> {
  Boolean sum = {0};
  __device__ void add(Boolean v) {
    sum.value |= v.value;
  }
  __device__ Boolean result() const {
    return sum;
  }
};

template <typename T>
__global__ void unfold_kernel(const __grid_constant__ Params a) {
  const PoolProblem& p = a.f.p;
  const int64_t positions = pool_out_plane(p), taps = pool_taps(p);
  const int64_t total = p.batch * p.channels * positions;
  for (int64_t i = first_piece(); i < total; i += piece_step()) {
    const PoolPlace o = pool_place(i, p.channels, p.out, false);
    const int64_t plane = o.n * p.channels + o.c;
    T* to = static_cast<T*>(a.to) + plane * taps * positions +
        (i - plane * positions);
    int64_t start[3];
    for (int d = 0; d < 3; ++d) {
      start[d] = o.at[d] * p.stride[d] - p.padding[d];
    }
    const T* from = static_cast<const T*>(a.from) +
        x_offset(p, o.n, o.c, start[0], start[1], start[2]);
    for (int64_t d = 0; d < p.kernel[0]; ++d) {
      const int64_t id = start[0] + d * p.dilation[0];
      for (int64_t h = 0; h < p.kernel[1]; ++h) {
        const int64_t ih = start[1] + h * p.dilation[1];
        const bool row = id >= 0 && id < p.in[0] && ih >= 0 && ih < p.in[1];
        for (int64_t w = 0; w < p.kernel[2]; ++w) {
          const int64_t iw = start[2] + w * p.dilation[2];
          T v{};
          if (row && iw >= 0 && iw < p.in[2]) {
            v = from
                [d * p.dilation[0] * p.x_stride[0] +
                 h * p.dilation[1] * p.x_stride[1] +
                 w * p.dilation[2] * p.x_stride[2]];
          }
          *to = v;
          to += positions;
        }
      }
    }
  }
}

// The window whose tap t lies on position `at` (padding counted), or -1.
__device__ inline int64_t window_at(
    const PoolProblem& p,
    int dim,
    int64_t at,
    int64_t t) {
  const int64_t start = at - t * p.dilation[dim];
  if (start < 0) {
    return -1;
  }
  const int64_t o = start / p.stride[dim];
  return o * p.stride[dim] == start && o < p.out[dim] ? o : -1;
}

template <typename T>
__global__ void fold_kernel(const __grid_constant__ Params a) {
  const PoolProblem& p = a.f.p;
  const int64_t total = p.batch * p.channels * pool_in_plane(p);
  for (int64_t i = first_piece(); i < total; i += piece_step()) {
    const PoolPlace x = pool_place(i, p.channels, p.in, false);
    const T* from = static_cast<const T*>(a.from) + x.n * a.f.columns_n +
        x.c * pool_taps(p) * a.f.columns_row;
    Sum<T> sum;
    for (int64_t d = 0; d < p.kernel[0]; ++d) {
      const int64_t od = window_at(p, 0, x.at[0] + p.padding[0], d);
      for (int64_t h = 0; h < p.kernel[1] && od >= 0; ++h) {
        const int64_t oh = window_at(p, 1, x.at[1] + p.padding[1], h);
        for (int64_t w = 0; w < p.kernel[2] && oh >= 0; ++w) {
          const int64_t ow = window_at(p, 2, x.at[2] + p.padding[2], w);
          if (ow >= 0) {
            const int64_t tap = (d * p.kernel[1] + h) * p.kernel[2] + w;
            const int64_t position = (od * p.out[1] + oh) * p.out[2] + ow;
            sum.add(
                from[tap * a.f.columns_row + position * a.f.columns_position]);
          }
        }
      }
    }
    static_cast<T*>(a.to)[i] = sum.result();
  }
}

template <typename T>
void start_unfold(const Params& a, const Queue& queue) {
  const PoolProblem& p = a.f.p;
  launch(
      "unfold",
      unfold_kernel<T>,
      {pool_blocks(p.batch * p.channels * pool_out_plane(p)), kPoolThreads},
      queue,
      a);
}

template <typename T>
void start_fold(const Params& a, const Queue& queue) {
  const PoolProblem& p = a.f.p;
  launch(
      "fold",
      fold_kernel<T>,
      {pool_blocks(p.batch * p.channels * pool_in_plane(p)), kPoolThreads},
      queue,
      a);
}

} // namespace

void unfold(
    const FoldProblem& f,
    FoldType type,
    const void* x,
    void* columns,
    const Queue& queue) {
  const Params a{f, x, columns};
  switch (type) {
    case FoldType::f32:
      return start_unfold<uint32_t>(a, queue);
    case FoldType::f64:
    case FoldType::c64:
      return start_unfold<uint64_t>(a, queue);
    case FoldType::f16:
    case FoldType::bf16:
      return start_unfold<uint16_t>(a, queue);
    case FoldType::c128:
      return start_unfold<Complex<double>>(a, queue);
    case FoldType::boolean:
      return start_unfold<uint8_t>(a, queue);
  }
}

void fold(
    const FoldProblem& f,
    FoldType type,
    const void* columns,
    void* image,
    const Queue& queue) {
  const Params a{f, columns, image};
  switch (type) {
    case FoldType::f32:
      return start_fold<float>(a, queue);
    case FoldType::f64:
      return start_fold<double>(a, queue);
    case FoldType::f16:
      return start_fold<__half>(a, queue);
    case FoldType::bf16:
      return start_fold<__nv_bfloat16>(a, queue);
    case FoldType::c64:
      return start_fold<Complex<float>>(a, queue);
    case FoldType::c128:
      return start_fold<Complex<double>>(a, queue);
    case FoldType::boolean:
      return start_fold<Boolean>(a, queue);
  }
}

} // namespace cuda
} // namespace torchconv
