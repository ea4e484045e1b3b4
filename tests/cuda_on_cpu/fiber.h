// Threads of execution that change over where they ask to.
#pragma once

#include <cstddef>

namespace cuda_on_cpu {

// A stack of its own and where it stopped.
class Fiber {
 public:
  Fiber() = default;
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
  ~Fiber();

  // From the main stack: goes on with the fiber, which calls entry() when it
  // starts; returns when it calls `leave`. entry() never returns.
  void enter();
  // From the fiber: back to the main stack.
  void leave();
  // The next `enter` starts from entry() again.
  void reset(void (*entry)());

 private:
  void* stack_ = nullptr; // its lowest address; a guard page is below
  void* position_ = nullptr; // saved stack pointer
  void* main_position_ = nullptr;
  void* main_stack_ = nullptr; // for the address sanitizer
  size_t main_size_ = 0;
  void (*entry_)() = nullptr;
  static void start();
};

} // namespace cuda_on_cpu
