#include "fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define CUDA_ON_CPU_ASAN 1
#else
#define CUDA_ON_CPU_ASAN 0
#endif

#if !defined(__x86_64__) && !defined(__aarch64__)
#error "the change of stacks is written for x86-64 and AArch64"
#endif

// Saves the registers that a call preserves on the stack, leaves the stack
// pointer in *from, and takes both from `to`.
extern "C" void cuda_on_cpu_switch(void** from, void* to);
#if defined(__x86_64__)
asm(R"(
.text
.hidden cuda_on_cpu_switch
.globl cuda_on_cpu_switch
.type cuda_on_cpu_switch, @function
cuda_on_cpu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cuda_on_cpu_switch, .-cuda_on_cpu_switch
)");
constexpr int kSavedWords = 6;
#else
asm(R"(
.text
.hidden cuda_on_cpu_switch
.globl cuda_on_cpu_switch
.type cuda_on_cpu_switch, %function
cuda_on_cpu_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size cuda_on_cpu_switch, .-cuda_on_cpu_switch
)");
#endif

namespace cuda_on_cpu {
namespace {

constexpr size_t kStackBytes = 256 * 1024; // the sanitizers' frames are large
Fiber* running = nullptr;

} // namespace

Fiber::~Fiber() {
  if (stack_ != nullptr) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    munmap(static_cast<char*>(stack_) - page, kStackBytes + page);
  }
}

void Fiber::start() {
#if CUDA_ON_CPU_ASAN
  const void* main_stack = nullptr;
  __sanitizer_finish_switch_fiber(nullptr, &main_stack, &running->main_size_);
  running->main_stack_ = const_cast<void*>(main_stack);
#endif
  running->entry_();
}

void Fiber::reset(void (*entry)()) {
  if (stack_ == nullptr) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    void* memory = mmap(
        nullptr,
        kStackBytes + page,
        PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
        -1,
        0);
    if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE) != 0) {
      throw std::bad_alloc();
    }
    stack_ = static_cast<char*>(memory) + page;
  }
  entry_ = entry;
  auto* top = reinterpret_cast<std::uintptr_t*>(
      static_cast<char*>(stack_) + kStackBytes);
#if defined(__x86_64__)
  // As after a call: the stack pointer is 8 beyond a multiple of 16.
  *--top = 0;
  *--top = reinterpret_cast<std::uintptr_t>(&Fiber::start);
  for (int i = 0; i < kSavedWords; ++i) {
    *--top = 0;
  }
#else
  top -= 20;
  for (int i = 0; i < 20; ++i) {
    top[i] = 0;
  }
  top[11] = reinterpret_cast<std::uintptr_t>(&Fiber::start);
#endif
  position_ = top;
}

void Fiber::enter() {
  running = this;
#if CUDA_ON_CPU_ASAN
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, stack_, kStackBytes);
#endif
  cuda_on_cpu_switch(&main_position_, position_);
#if CUDA_ON_CPU_ASAN
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

void Fiber::leave() {
#if CUDA_ON_CPU_ASAN
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, main_stack_, main_size_);
#endif
  cuda_on_cpu_switch(&position_, main_position_);
#if CUDA_ON_CPU_ASAN
  const void* main_stack = nullptr;
  __sanitizer_finish_switch_fiber(fake_stack, &main_stack, &main_size_);
  main_stack_ = const_cast<void*>(main_stack);
#endif
}

} // namespace cuda_on_cpu
