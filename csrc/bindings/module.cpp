// The Python module torchconv._C: what is not a tensor. Tensors go through the
// dispatcher only; this is the one file that includes pybind11.
#include <pybind11/pybind11.h>

PYBIND11_MODULE(_C, m) {
  m.doc() = "The compiled part of torchconv";
}
