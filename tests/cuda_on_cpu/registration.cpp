#include "registration.h"

#include <memory>
#include <vector>

#include "simulator.h"

namespace cuda_on_cpu {
namespace {

using torch::stable::detail::StableLibrary;
using torch::stable::detail::StableTorchLibraryInit;

std::vector<Registration>& registrations() {
  static std::vector<Registration> all;
  return all;
}

std::vector<std::unique_ptr<StableTorchLibraryInit>>& active() {
  static std::vector<std::unique_ptr<StableTorchLibraryInit>> all;
  return all;
}

} // namespace

bool add_registration(Registration fill) {
  registrations().push_back(fill);
  return true;
}

} // namespace cuda_on_cpu

#define CUDA_ON_CPU_EXPORT extern "C" __attribute__((visibility("default")))

// Operators on CPU tensors run the CUDA kernels from here on, or the CPU's
// again.
CUDA_ON_CPU_EXPORT void cuda_on_cpu_switch_on() {
  namespace c = cuda_on_cpu;
  if (c::active().empty()) {
    for (const c::Registration fill : c::registrations()) {
      c::active().push_back(
          std::make_unique<c::StableTorchLibraryInit>(
              c::StableLibrary::Kind::IMPL,
              fill,
              "torchconv",
              "CPU",
              __FILE__,
              __LINE__));
    }
  }
}

CUDA_ON_CPU_EXPORT void cuda_on_cpu_switch_off() {
  cuda_on_cpu::active().clear();
}

CUDA_ON_CPU_EXPORT void cuda_on_cpu_set_reversed(bool reversed) {
  cuda_on_cpu::set_reversed(reversed);
}

CUDA_ON_CPU_EXPORT int64_t cuda_on_cpu_launches() {
  return cuda_on_cpu::launches();
}
