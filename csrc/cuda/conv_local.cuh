// Positions that share a kernel (a class, core/conv_local.h) and what they read,
// for the kernels of csrc/cuda/conv_local_*.cu.
//
// A column is one position of a class in one sample. An element is one weight
// of a row: (channel, tap 0, tap 1, tap 2), flat; over all channels of x, not
// one group's, so that a block's elements may belong to several groups.
#pragma once

#include "core/conv_local.h"
#include "cuda/conv_gather.cuh"
#include "cuda/number.cuh"
#include "cuda/shared.cuh"

namespace torchconv {
namespace cuda {

// Columns that share what a thread has loaded of the weights (or of gw).
constexpr int kLocalColumns = 8;

__device__ inline LocalClass class_at(const LocalProblem& p, int64_t number) {
  return local_class(p, number, [](int64_t& index, int64_t size) {
    return take(index, size);
  });
}

// A position of a class in a sample.
struct LocalColumn {
  int64_t n, o[3];
};

__device__ inline LocalColumn column_at(
    const LocalProblem& p,
    const LocalClass& k,
    int64_t column) {
  LocalColumn c;
  for (int d = 2; d >= 0; --d) {
    c.o[d] = k.residue[d] + take(column, k.count[d]) * p.tile[d];
  }
  c.n = column;
  return c;
}

__device__ inline int64_t offset_in(const Strides& s, const LocalColumn& c) {
  return c.n * s.n + c.o[0] * s.s[0] + c.o[1] * s.s[1] + c.o[2] * s.s[2];
}

// Where a column's first tap looks: the coordinates, and the element there. The
// element may lie outside of the tensor and its offset beyond 64 bits, hence
// unsigned: the sum with a tap's is right again where the tap looks inside.
struct LocalCorner {
  int64_t q[3];
  int64_t sample;
  uint64_t offset;
};

// What an element of a row adds to that.
struct LocalTap {
  int64_t q[3];
  int64_t channel;
  uint64_t offset;
};

__device__ inline uint64_t linear(
    const ConvProblem& p,
    const int64_t (&q)[3],
    int64_t first) {
  uint64_t offset = static_cast<uint64_t>(first);
  for (int d = 0; d < 3; ++d) {
    offset += static_cast<uint64_t>(q[d]) * static_cast<uint64_t>(p.x.s[d]);
  }
  return offset;
}

__device__ inline LocalCorner corner_of(
    const ConvProblem& p,
    const LocalColumn& c) {
  LocalCorner corner;
  for (int d = 0; d < 3; ++d) {
    corner.q[d] = c.o[d] * p.stride[d] - p.low[d];
  }
  corner.sample = c.n * p.x.n;
  corner.offset = linear(p, corner.q, corner.sample);
  return corner;
}

__device__ inline LocalTap tap_of(const ConvProblem& p, int64_t element) {
  LocalTap tap;
  for (int d = 2; d >= 0; --d) {
    tap.q[d] = take(element, p.kernel[d]) * p.dilation[d];
  }
  tap.channel = element * p.x.c;
  tap.offset = linear(p, tap.q, tap.channel);
  return tap;
}

// The element of x that a tap of a column shows. Away from the padding that is
// three comparisons and an addition.
template <typename T>
__device__ inline Acc<T> shown_by(
    const ConvProblem& p,
    const T* x,
    const LocalCorner& corner,
    const LocalTap& tap) {
  bool inside = true;
  for (int d = 0; d < 3; ++d) {
    inside = inside &&
        static_cast<uint64_t>(corner.q[d] + tap.q[d]) <
            static_cast<uint64_t>(p.in[d]);
  }
  if (inside) {
    return widened(x[corner.offset + tap.offset]);
  }
  if (p.mode == PaddingMode::zeros) {
    return 0;
  }
  int64_t offset = corner.sample + tap.channel;
  for (int d = 0; d < 3; ++d) {
    const int64_t part =
        source_offset(corner.q[d] + tap.q[d], p.in[d], p.x.s[d], p.mode);
    if (part < 0) {
      return 0;
    }
    offset += part;
  }
  return widened(x[offset]);
}

// The corners of a block's columns in shared memory, each with an offset in y.
class LocalPlaces {
 public:
  static constexpr int kFields = 6;
  static constexpr int kBytes = kFields * kLocalColumns * 8;

  __device__ explicit LocalPlaces(int offset)
      : data_(offset, kFields * kLocalColumns) {}

  __device__ void set(int i, const LocalCorner& corner, int64_t y) const {
    const int64_t fields[kFields] = {
        corner.q[0],
        corner.q[1],
        corner.q[2],
        corner.sample,
        static_cast<int64_t>(corner.offset),
        y};
#pragma unroll
    for (int f = 0; f < kFields; ++f) {
      data_.set(f * kLocalColumns + i, fields[f]);
    }
  }
  __device__ LocalCorner corner(int i) const {
    return {
        {field(0, i), field(1, i), field(2, i)},
        field(3, i),
        static_cast<uint64_t>(field(4, i))};
  }
  __device__ int64_t y(int i) const {
    return field(5, i);
  }

 private:
  __device__ int64_t field(int f, int i) const {
    return data_.get(f * kLocalColumns + i);
  }
  Shared<int64_t> data_;
};

// N values of shared memory from element i on, by 16-byte reads.
template <int N, typename A>
__device__ inline void load(const Shared<A>& from, int i, A (&to)[N]) {
  constexpr int kEach = 16 / sizeof(A);
  static_assert(N % kEach == 0, "whole vectors");
#pragma unroll
  for (int j = 0; j < N; j += kEach) {
    const int4 raw = from.template get_as<int4>(i + j);
    std::memcpy(to + j, &raw, 16);
  }
}

// Threads of a block whose lanes are elements: no more warps than elements fill.
inline int element_threads(int64_t elements) {
  return elements <= 32 ? 32 : elements <= 64 ? 64 : 128;
}

// How many groups that many elements in a row belong to, at most.
inline int64_t groups_among(const ConvProblem& p, int64_t elements) {
  const int64_t most = (elements - 2) / (p.in_group() * p.taps()) + 2;
  return most < p.groups ? most : p.groups;
}

// The columns of the largest class, which is that of residue 0.
inline int64_t most_columns(const LocalProblem& p) {
  int64_t columns = p.conv.batch;
  for (int d = 0; d < 3; ++d) {
    columns *= (p.conv.out[d] + p.tile[d] - 1) / p.tile[d];
  }
  return columns;
}

} // namespace cuda
} // namespace torchconv
