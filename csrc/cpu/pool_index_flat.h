// Scatter, gather and unpool where codes are positions and every plane is one
// run of elements, some step apart: contiguous tensors, channels_last ones.
#pragma once

#include <algorithm>

#include "cpu/pool_index.h"

namespace torchconv {
namespace cpu {

// Where the elements of a plane lie, by their row-major number. When they are
// one step apart throughout, no division is needed to find one.
struct Plane {
  int64_t size[3], stride[3], step = 0;
  bool dense = true;
  Plane(const int64_t in[3], const int64_t strides[3]) {
    std::copy(in, in + 3, size);
    std::copy(strides, strides + 3, stride);
    int64_t inner = 1; // elements inside the dimensions seen so far
    for (int i = 2; i >= 0; --i) {
      if (size[i] == 1) {
        continue;
      }
      if (inner == 1) {
        step = stride[i];
      }
      dense &= stride[i] == step * inner;
      inner *= size[i];
    }
  }
  int64_t offset(int64_t i) const {
    return dense ? i * step
                 : i / (size[1] * size[2]) * stride[0] +
            i / size[2] % size[1] * stride[1] + i % size[2] * stride[2];
  }
};

// Whether the problem is for the functions below.
inline bool flat_codes(const PoolCodes& k) {
  return k.kind != CodeKind::u8 && Plane(k.p.in, k.p.x_stride).dense &&
      Plane(k.p.out, k.p.y_stride).dense && Plane(k.p.out, k.c_stride).dense;
}

void flat_scatter(const PoolCodes& k, const void* grad, void* gx);
void flat_gather(const PoolCodes& k, const void* x, void* out);
// False if an index is bad, and then out is not finished.
bool flat_unpool(const PoolCodes& k, const void* x, void* out);

} // namespace cpu
} // namespace torchconv
