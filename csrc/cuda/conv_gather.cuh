// forward and input_grad as one thing (core/conv_gather.h) for kernels:
//
//   dst[n, lane, pos(m)] = epilogue(bias[lane]
//       + sum_{red, j} src[n, red, s(m, j)] * w[lane, red, tap(j)])
//
// in phases (core/conv_phase.h) per dimension.
#pragma once

#include "core/conv_algorithm.h"
#include "core/conv_phase.h"
#include "cuda/number.cuh"

namespace torchconv {
namespace cuda {

struct Gather {
  ConvProblem p;
  bool forward;
  PaddingMode mode; // what source coordinates outside show
  int64_t red, lanes; // per group
  int64_t src_size[3];
  Strides src, dst;
  int64_t w_lane, w_red, w_group;
  Interior range[3]; // of destination positions
  int64_t phases[3]; // per dimension
  int64_t count[3]; // positions of the largest phase
  const void* src_data;
  const void* w_data;
  void* dst_data;
  const void* bias;
  Epilogue epilogue;

  __host__ __device__ int64_t pixels() const {
    return count[0] * count[1] * count[2];
  }
  __host__ __device__ int64_t all_phases() const {
    return phases[0] * phases[1] * phases[2];
  }
  // Taps of the phase that has most of them.
  __host__ __device__ int64_t taps(int d) const {
    return (p.kernel[d] + tap_step(d) - 1) / tap_step(d);
  }
  __host__ __device__ int64_t tap_step(int d) const {
    return forward ? 1
                   : p.stride[d] / greatest_divisor(p.stride[d], p.dilation[d]);
  }

  __device__ Phase phase(int d, int64_t f) const {
    return forward ? forward_phase(p, d)
                   : input_grad_phase(p, d, f, range[d].first, range[d].last);
  }
};

inline Gather gather(const ConvProblem& p, Pass pass, const ConvTensors& t) {
  Gather g = {};
  g.p = p;
  g.forward = pass == Pass::forward;
  g.mode = g.forward ? p.mode : PaddingMode::zeros;
  g.red = g.forward ? p.in_group() : p.out_group();
  g.lanes = g.forward ? p.out_group() : p.in_group();
  g.src = g.forward ? p.x : p.y;
  g.dst = g.forward ? p.y : p.x;
  g.w_lane = g.forward ? p.w.n : p.w.c;
  g.w_red = g.forward ? p.w.c : p.w.n;
  g.w_group = p.out_group() * p.w.n;
  for (int d = 0; d < 3; ++d) {
    g.src_size[d] = g.forward ? p.in[d] : p.out[d];
    if (g.forward) {
      g.range[d] = {0, p.out[d]};
      g.phases[d] = 1;
      g.count[d] = p.out[d];
    } else {
      g.range[d] = interior(p, d);
      g.phases[d] = p.stride[d];
      g.count[d] =
          (g.range[d].last - g.range[d].first + p.stride[d] - 1) / p.stride[d];
    }
  }
  g.src_data = g.forward ? t.x : t.y;
  g.dst_data = g.forward ? t.y : t.x;
  g.w_data = t.w;
  g.bias = t.bias;
  g.epilogue = t.epilogue;
  return g;
}

// The offset of source coordinate s along a dimension, or -1 where it shows a
// zero; also where s lies beyond the padding, as the last positions of a tile
// that is larger than the problem may ask.
__device__ inline int64_t source_offset(
    int64_t s,
    int64_t size,
    int64_t stride,
    PaddingMode mode) {
  const int64_t i = source_index(s, size, mode);
  return i < 0 ? -1 : i * stride;
}

} // namespace cuda
} // namespace torchconv
