// Parallel loops over independent work. The thread pool is torch's own, put in
// place by the bindings; without them (tests, fuzzers) the loop is serial.
#pragma once

#include <cstdint>

namespace torchconv {

using RangeFn = void (*)(void* context, int64_t begin, int64_t end);

struct ThreadPool {
  // Calls fn on disjoint ranges that cover [0, n), each at least `grain` long
  // where n allows it.
  void (*run)(int64_t n, int64_t grain, RangeFn fn, void* context);
  int (*threads)();
  int (*thread_index)(); // in [0, threads()), for scratch memory
};

// The pool in use. Set once, when the extension is loaded.
ThreadPool& thread_pool();

template <typename F>
void parallel_for(int64_t n, int64_t grain, const F& f) {
  if (n <= 0) {
    return;
  }
  thread_pool().run(
      n,
      grain,
      [](void* context, int64_t begin, int64_t end) {
        (*static_cast<const F*>(context))(begin, end);
      },
      const_cast<F*>(&f));
}

inline int pool_threads() {
  return thread_pool().threads();
}

} // namespace torchconv
