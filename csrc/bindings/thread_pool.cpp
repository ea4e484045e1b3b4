// Puts torch's own thread pool behind core/parallel.h when the extension is
// loaded.
#include <torch/csrc/stable/ops.h>

#include "bindings/stable.h"
#include "core/parallel.h"

namespace torchconv {
namespace {

void run(int64_t n, int64_t grain, RangeFn fn, void* context) {
  torch::stable::parallel_for(0, n, grain, [=](int64_t begin, int64_t end) {
    fn(context, begin, end);
  });
}

int threads() {
  return static_cast<int>(torch::stable::get_num_threads());
}

int thread_index() {
  uint32_t index = 0;
  STABLE_TORCH_ERROR_CODE_CHECK(torch_get_thread_idx(&index));
  return static_cast<int>(index);
}

const bool installed = [] {
  thread_pool() = {run, threads, thread_index};
  return true;
}();

} // namespace
} // namespace torchconv
