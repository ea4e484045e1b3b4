#include "cpu/isa.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace torchconv {
namespace cpu {
namespace {

Isa initial_isa() {
  const char* wanted = std::getenv("TORCHCONV_CPU_ISA");
  if (wanted == nullptr || *wanted == '\0') {
    return best_isa();
  }
  Isa isa;
  if (parse_isa(wanted, &isa) && isa_supported(isa)) {
    return isa;
  }
  std::fprintf(
      stderr,
      "torchconv: TORCHCONV_CPU_ISA=%s is unknown or not supported by this "
      "CPU; using %s\n",
      wanted,
      isa_name(best_isa()));
  return best_isa();
}

std::atomic<Isa>& current() {
  static std::atomic<Isa> isa{initial_isa()};
  return isa;
}

} // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::avx512:
      return "avx512";
    case Isa::avx2:
      return "avx2";
    default:
      return "baseline";
  }
}

bool parse_isa(const char* name, Isa* isa) {
  for (Isa i : {Isa::baseline, Isa::avx2, Isa::avx512}) {
    if (std::strcmp(name, isa_name(i)) == 0) {
      *isa = i;
      return true;
    }
  }
  return false;
}

bool isa_supported(Isa isa) {
  if (isa == Isa::baseline) {
    return true;
  }
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") &&
      __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (isa == Isa::avx2) {
    return avx2;
  }
  return avx2 && __builtin_cpu_supports("avx512f") &&
      __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

Isa best_isa() {
  if (isa_supported(Isa::avx512)) {
    return Isa::avx512;
  }
  return isa_supported(Isa::avx2) ? Isa::avx2 : Isa::baseline;
}

Isa active_isa() {
  return current().load(std::memory_order_relaxed);
}

bool set_isa(Isa isa) {
  if (!isa_supported(isa)) {
    return false;
  }
  current().store(isa, std::memory_order_relaxed);
  return true;
}

} // namespace cpu
} // namespace torchconv
