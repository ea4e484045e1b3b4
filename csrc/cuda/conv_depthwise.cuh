// What the depthwise kernels share: one input channel per group, so every
// output channel k has its own filter over channel k / multiplier of x.
#pragma once

#include "cuda/conv_gather.cuh"

namespace torchconv {
namespace cuda {

constexpr int kStrip = 8; // destination positions of a thread, along a row
constexpr int kTaps = 8; // taps of a row that a thread takes in one go

// A phase whose taps read upwards: b >= 0. input_grad's taps read downwards;
// there they are counted from the last.
struct Axis {
  int64_t p0, step, count;
  int64_t t0, tstep, taps;
  int64_t a, b, c;
};

__host__ __device__ inline Axis upwards(const Phase& h) {
  if (h.b >= 0 || h.taps == 0) {
    return {
        h.p0,
        h.step,
        h.count,
        h.t0,
        h.tstep,
        h.taps,
        h.a,
        h.b < 0 ? -h.b : h.b,
        h.c};
  }
  const int64_t last = h.taps - 1;
  return {
      h.p0,
      h.step,
      h.count,
      h.t0 + last * h.tstep,
      -h.tstep,
      h.taps,
      h.a,
      -h.b,
      h.c + last * h.b};
}

// How far apart positions and taps read along the last dimension, and how far
// apart the positions of a strip are: where positions read side by side (a =
// 1), positions b apart read what their neighbours' taps read, so a thread
// loads each source element once for all of them.
struct StripStep {
  int64_t a, b;

  __host__ __device__ bool sliding() const {
    return a == 1;
  }
  __host__ __device__ int64_t spacing() const {
    return a == 1 ? b : 1;
  }
  // Strips that cover so many positions, and the first position of one.
  __host__ __device__ int64_t strips(int64_t count) const {
    const int64_t wide = kStrip * spacing();
    return (count + wide - 1) / wide * spacing();
  }
  __host__ __device__ int64_t first(int64_t strip) const {
    const int64_t s = spacing();
    return strip / s * kStrip * s + strip % s;
  }
};

__host__ __device__ inline StripStep strip_step(const Gather& g) {
  const ConvProblem& p = g.p;
  if (g.forward) {
    return {p.stride[2], p.dilation[2]};
  }
  return {1, p.dilation[2] / greatest_divisor(p.stride[2], p.dilation[2])};
}

// Channels: of the destination, and the m-th source of one.
struct DepthwiseChannels {
  int64_t count; // of the destination
  int64_t sources; // of one destination channel
  int64_t multiplier;
  bool forward;

  __device__ int64_t source(int64_t channel, int64_t m) const {
    return forward ? channel / multiplier : channel * multiplier + m;
  }
  __device__ int64_t filter(int64_t channel, int64_t m) const {
    return forward ? channel : channel * multiplier + m;
  }
};

inline DepthwiseChannels depthwise_channels(const Gather& g) {
  const int64_t multiplier = g.p.out_group();
  return g.forward
      ? DepthwiseChannels{g.p.out_channels, 1, multiplier, true}
      : DepthwiseChannels{g.p.in_channels, multiplier, multiplier, false};
}

// Two channels side by side, in the place of one number.
template <typename A>
struct alignas(2 * sizeof(A)) Pair {
  A v[2];

  __device__ Pair& operator+=(const Pair& other) {
    v[0] += other.v[0];
    v[1] += other.v[1];
    return *this;
  }
  __device__ friend Pair operator*(const Pair& a, const Pair& b) {
    return {{a.v[0] * b.v[0], a.v[1] * b.v[1]}};
  }
};

// sum[i] += by[s] x(i, s) for count <= kTaps taps, where value(j) is the source
// at j b for sliding strips (x(i, s) = value(i + s)), else at(i, s).
template <typename A, typename By, typename Value, typename At>
__device__ inline void strip_taps(
    A (&sum)[kStrip],
    int count,
    bool sliding,
    const By& by,
    const Value& value,
    const At& at) {
  if (sliding) {
    A window[kStrip + kTaps - 1];
#pragma unroll
    for (int j = 0; j < kStrip + kTaps - 1; ++j) {
      if (j < kStrip - 1 + count) {
        window[j] = value(j);
      }
    }
#pragma unroll
    for (int s = 0; s < kTaps; ++s) {
      if (s < count) {
        const A w = by(s);
#pragma unroll
        for (int i = 0; i < kStrip; ++i) {
          sum[i] += w * window[i + s];
        }
      }
    }
    return;
  }
  for (int s = 0; s < count; ++s) {
    const A w = by(s);
#pragma unroll
    for (int i = 0; i < kStrip; ++i) {
      sum[i] += w * at(i, s);
    }
  }
}

} // namespace cuda
} // namespace torchconv
