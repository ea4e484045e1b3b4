// In place of csrc/cuda/shared.cuh: views that check every access.
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>

#include "simulator.h"

namespace torchconv {
namespace cuda {

template <typename T>
class Shared {
  static_assert(std::is_trivially_copyable<T>::value, "");

 public:
  Shared(int offset, int size) : offset_(offset), size_(size) {
    if (offset % static_cast<int>(alignof(T)) != 0 || size < 0) {
      ::cuda_on_cpu::fail(
          "a view of " + std::to_string(size) + " elements at byte " +
          std::to_string(offset) + " of shared memory");
    }
  }

  T get(int i) const {
    return get_as<T>(i);
  }
  void set(int i, T value) const {
    set_as<T>(i, value);
  }

  template <typename V>
  V get_as(int i) const {
    check(i, sizeof(V), "read");
    V value;
    ::cuda_on_cpu::shared_read(at(i), sizeof(V), &value);
    return value;
  }
  template <typename V>
  void set_as(int i, V value) const {
    check(i, sizeof(V), "write");
    ::cuda_on_cpu::shared_write(at(i), sizeof(V), &value);
  }

  // An offset in the block's shared memory.
  std::uint32_t address(int i) const {
    check(i, sizeof(T), "address");
    return static_cast<std::uint32_t>(at(i));
  }

 private:
  std::int64_t at(int i) const {
    return offset_ + static_cast<std::int64_t>(i) * sizeof(T);
  }
  void check(int i, std::size_t bytes, const char* what) const {
    const auto element = static_cast<std::int64_t>(sizeof(T));
    const std::int64_t end = i * element + static_cast<std::int64_t>(bytes);
    if (i < 0 || end > size_ * element) {
      ::cuda_on_cpu::fail(
          std::string(what) + " of element " + std::to_string(i) + " (" +
          std::to_string(bytes) + " bytes) of a shared array of " +
          std::to_string(size_));
    }
  }

  int offset_, size_;
};

} // namespace cuda
} // namespace torchconv
