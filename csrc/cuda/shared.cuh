// A block's shared memory. Kernels use the dynamic kind only (Grid::
// shared_bytes), and read and write it only through these views: on a device
// they are pointers; tests/cuda_on_cpu puts a file of the same name in this
// one's place, whose views check bounds, reads of what nobody wrote, and
// conflicts between barriers.
#pragma once

#include <cstdint>

namespace torchconv {
namespace cuda {

// `size` elements of T from byte `offset` of the block's shared memory on.
template <typename T>
class Shared {
 public:
  __device__ Shared(int offset, int size) {
    extern __shared__ __align__(16) unsigned char shared_memory[];
    data_ = reinterpret_cast<T*>(shared_memory + offset);
    static_cast<void>(size);
  }

  __device__ T get(int i) const {
    return data_[i];
  }
  __device__ void set(int i, T value) const {
    data_[i] = value;
  }

  // A vector (int4, float2, ...) that starts at element i; aligned to its
  // size.
  template <typename V>
  __device__ V get_as(int i) const {
    return *reinterpret_cast<const V*>(data_ + i);
  }
  template <typename V>
  __device__ void set_as(int i, V value) const {
    *reinterpret_cast<V*>(data_ + i) = value;
  }

  // For the functions of ptx.cuh.
  __device__ uint32_t address(int i) const {
    return static_cast<uint32_t>(__cvta_generic_to_shared(data_ + i));
  }

 private:
  T* data_;
};

} // namespace cuda
} // namespace torchconv
