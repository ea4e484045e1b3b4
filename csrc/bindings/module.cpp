// The Python module torchconv._C: what is not a tensor. Tensors go through the
// dispatcher only; this is the one file that includes pybind11.
#include <build_info.h> // written by setup.py
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "cpu/isa.h"

namespace py = pybind11;

namespace torchconv {
namespace {

constexpr cpu::Isa kIsas[] = {
    cpu::Isa::baseline,
    cpu::Isa::avx2,
    cpu::Isa::avx512};

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
  for (const cpu::Isa isa : kIsas) {
    if (cpu::isa_supported(isa)) {
      names.push_back(cpu::isa_name(isa));
    }
  }
  return names;
}

void set_isa(const std::string& name) {
  cpu::Isa isa;
  if (!cpu::parse_isa(name.c_str(), &isa)) {
    throw py::value_error(
        "no such instruction set: " + name +
        " (baseline, avx2 and avx512 exist)");
  }
  if (!cpu::set_isa(isa)) {
    throw py::value_error(
        "this CPU or this build lacks instruction set " + name);
  }
}

// The features that kernels could use, as the compiler's runtime names them.
std::vector<std::string> cpu_features() {
  std::vector<std::string> names;
#if defined(__x86_64__)
  __builtin_cpu_init();
#define TC_FEATURE(name)              \
  if (__builtin_cpu_supports(name)) { \
    names.push_back(name);            \
  }
  TC_FEATURE("sse4.2")
  TC_FEATURE("avx")
  TC_FEATURE("f16c")
  TC_FEATURE("fma")
  TC_FEATURE("avx2")
  TC_FEATURE("avx512f")
  TC_FEATURE("avx512bw")
  TC_FEATURE("avx512dq")
  TC_FEATURE("avx512vl")
  TC_FEATURE("avx512vnni")
  TC_FEATURE("avx512bf16")
#undef TC_FEATURE
#endif
  return names;
}

// How this binary was built, for torchconv.info.
py::dict build_info() {
  py::dict info;
  info["torch"] = TORCHCONV_BUILD_TORCH;
  info["stable_abi"] = TORCHCONV_TORCH_TARGET;
#if defined(__clang__)
  info["compiler"] = "clang " __clang_version__;
#else
  info["compiler"] = "gcc " __VERSION__;
#endif
  info["flags"] = TORCHCONV_CXX_FLAGS;
  info["cuda"] = static_cast<bool>(TORCHCONV_WITH_CUDA);
  info["nvcc"] = TORCHCONV_NVCC_VERSION;
  info["nvcc_flags"] = TORCHCONV_NVCC_FLAGS;
  info["cuda_archs"] = TORCHCONV_CUDA_ARCHS;
  return info;
}

} // namespace
} // namespace torchconv

PYBIND11_MODULE(_C, m) {
  namespace tc = torchconv;
  m.doc() = "The compiled part of torchconv";
  m.def(
      "active_isa",
      [] { return std::string(tc::cpu::isa_name(tc::cpu::active_isa())); },
      "Name of the instruction set that the CPU kernels use now");
  m.def(
      "supported_isas",
      &tc::supported_isas,
      "Names of the instruction sets that this CPU and this build have, "
      "the best one last");
  m.def(
      "set_isa",
      &tc::set_isa,
      py::arg("name"),
      "Makes the CPU kernels use an instruction set; ValueError if the CPU "
      "or the build lacks it");
  m.def(
      "cpu_features",
      &tc::cpu_features,
      "Names of the instruction set extensions that this CPU has");
  m.def(
      "build_info",
      &tc::build_info,
      "How the binary was built: a dict; empty strings for the CUDA entries "
      "of a build without CUDA");
}
