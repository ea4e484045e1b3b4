#include "core/parallel.h"

namespace torchconv {
namespace {

void run_serial(int64_t n, int64_t, RangeFn fn, void* context) {
  fn(context, 0, n);
}

} // namespace

ThreadPool& thread_pool() {
  static ThreadPool pool{run_serial, [] { return 1; }, [] { return 0; }};
  return pool;
}

} // namespace torchconv
