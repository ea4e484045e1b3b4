// Laying out a workspace: a cursor that hands out aligned pieces. Run over a
// null base it only counts, so that sizes and use are the same code.
#pragma once

#include <cstdint>

namespace torchconv {
namespace cpu {

class Scratch {
 public:
  explicit Scratch(void* base) : base_(static_cast<char*>(base)) {}

  template <typename T>
  T* take(int64_t count) {
    T* piece = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + used_);
    used_ += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return piece;
  }
  int64_t used() const {
    return used_;
  }

 private:
  char* base_;
  int64_t used_ = 0;
};

} // namespace cpu
} // namespace torchconv
