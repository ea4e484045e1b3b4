// A grid of threads on one CPU thread. Blocks run one after the other; the
// threads of a block are fibers, which change over at barriers and at what the
// lanes of a warp do together. The block's shared memory has a shadow that
// knows who read and wrote what since which barrier.
//
// What a kernel does wrong ends the launch with a message that names block and
// thread; launch.cuh adds the kernel's name, as it does to an error of CUDA's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1)
      : x(x_),
        y(y_),
        z(z_) {}
};

namespace cuda_on_cpu {

constexpr int kWarp = 32;
constexpr int kMaxThreads = 1024;
constexpr int kMaxShared = 227 * 1024; // of one block on Hopper

// The place in the grid of the thread that runs now.
struct Place {
  dim3 thread, block, block_size, grid_size;
};
extern Place here;

// Runs body(argument) once for each thread of the grid. Returns false, with
// the reason in last_error, if the kernel or the launch is at fault.
bool launch(
    dim3 grid,
    dim3 block,
    size_t shared_bytes,
    void (*body)(const void*),
    const void* argument);
const std::string& last_error();

int64_t launches(); // so far

// In which order threads and blocks run: by their numbers, or the other way.
void set_reversed(bool reversed);

// Ends the launch; for the thread that runs now.
[[noreturn]] void fail(const std::string& what);

// -- barriers and warps -------------------------------------------------------

void block_barrier(); // of the threads that have not returned

// Waits for all lanes of the mask, each with a payload; the last to come calls
// act(payloads) on the 32 (null outside of the mask), for all. `what` names the
// action in messages, and tells it from others.
using WarpAction = void (*)(void* const* payloads);
void warp_together(
    unsigned mask,
    const char* what,
    void* payload,
    WarpAction act);
void warp_barrier(unsigned mask);

inline int thread_number() {
  return static_cast<int>(
      here.thread.x +
      here.block_size.x * (here.thread.y + here.block_size.y * here.thread.z));
}
inline int lane() {
  return thread_number() % kWarp;
}

// -- shared memory, by byte offsets --------------------------------------------

constexpr unsigned kFullWarp = 0xffffffffu;

// Checked accesses by the thread that runs now, or by another lane of its
// warp (by = its lane, or -1).
void shared_read(int64_t offset, int bytes, void* to, int by = -1);
void shared_write(int64_t offset, int bytes, const void* from);

// Copies that arrive when the thread waits for them (cp.async).
void async_copy(int64_t offset, int bytes, const void* from, bool inside);
void async_commit();
void async_wait(int groups_left);

} // namespace cuda_on_cpu
