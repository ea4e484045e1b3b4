#include "core/epilogue.h"

#include <cstring>

namespace torchconv {
namespace {

const char* const kNames[] =
    {"none", "relu", "hardtanh", "leaky_relu", "hardswish", "hardsigmoid"};

} // namespace

const char* activation_name(Activation activation) {
  return kNames[static_cast<int>(activation)];
}

bool parse_activation(const char* name, Activation* activation) {
  int i = 0;
  for (const char* known : kNames) {
    if (std::strcmp(known, name) == 0) {
      *activation = static_cast<Activation>(i);
      return true;
    }
    ++i;
  }
  return false;
}

} // namespace torchconv
