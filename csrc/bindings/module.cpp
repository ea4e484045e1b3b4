// The Python module torchconv._C: what is not a tensor. Tensors go through the
// dispatcher only; this is the one file that includes pybind11.
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
}
