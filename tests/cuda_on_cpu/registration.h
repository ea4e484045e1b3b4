// Implementations that replace the CPU's own while the library is switched on.
#pragma once

#include <torch/csrc/stable/library.h>

namespace cuda_on_cpu {

using Registration = void (*)(torch::stable::detail::StableLibrary&);

bool add_registration(Registration fill);

} // namespace cuda_on_cpu
