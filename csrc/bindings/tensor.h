// What every binding needs: dtypes, strides, allocation. Only csrc/bindings
// includes torch headers, and only those of the stable ABI.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "bindings/huge_pages.h"
#include "bindings/stable.h"
#include "core/dtype.h"

namespace torchconv {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Ints = std::vector<int64_t>; // what SymInt[] arrives as
using TensorPair = std::tuple<Tensor, Tensor>;

// How many spatial dimensions (N, C, *spatial) has.
inline int spatial_dims(const Tensor& x) {
  return static_cast<int>(x.dim()) - 2;
}

inline int64_t element_count(const Tensor& t) {
  int64_t n = 1;
  for (const int64_t size : t.sizes()) {
    n *= size;
  }
  return n;
}

inline DType dtype_of(const Tensor& x, const char* op) {
  switch (x.scalar_type()) {
    case ScalarType::Float:
      return DType::f32;
    case ScalarType::Double:
      return DType::f64;
    case ScalarType::Half:
      return DType::f16;
    case ScalarType::BFloat16:
      return DType::bf16;
    case ScalarType::Long:
      return DType::i64;
    default:
      STD_TORCH_CHECK(
          false,
          "torchconv::",
          op,
          " is not implemented for dtype ",
          torch::headeronly::toString(x.scalar_type()));
  }
}

// A fresh tensor on the device of another one (the CPU without one),
// contiguous or with the channels innermost.
inline Tensor allocate(
    const Ints& size,
    ScalarType dtype,
    bool channels_last = false,
    const Tensor* on = nullptr) {
  const int64_t n = static_cast<int64_t>(size.size());
  Ints stride(size.size());
  int64_t step = 1;
  // An empty dimension counts as 1, as torch counts it.
  const auto place = [&](int64_t d) {
    stride[d] = step;
    step *= size[d] > 1 ? size[d] : 1;
  };
  if (channels_last && n > 3) {
    place(1);
    for (int64_t d = n - 1; d >= 2; --d) {
      place(d);
    }
    place(0);
  } else {
    for (int64_t d = n - 1; d >= 0; --d) {
      place(d);
    }
  }
  int32_t device_type = aoti_torch_device_type_cpu(), device_index = -1;
  if (on != nullptr) {
    STABLE_TORCH_ERROR_CODE_CHECK(
        aoti_torch_get_device_type(on->get(), &device_type));
    STABLE_TORCH_ERROR_CODE_CHECK(
        aoti_torch_get_device_index(on->get(), &device_index));
  }
  const int32_t type =
      torch::stable::detail::to<int32_t>(torch::stable::detail::from(dtype));
  AtenTensorHandle handle;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      n, size.data(), stride.data(), type, device_type, device_index, &handle));
  Tensor fresh(handle);
  if (device_type == aoti_torch_device_type_cpu()) {
    advise_huge_pages(
        fresh.mutable_data_ptr(), step * aoti_torch_dtype_element_size(type));
  }
  return fresh;
}

// Bytes for a kernel to scribble in; torch's allocator aligns to 64.
inline Tensor allocate_workspace(int64_t bytes) {
  return allocate({bytes}, ScalarType::Byte);
}

// Sizes and strides of the spatial dimensions as three, leading ones added.
inline void spatial3(const Tensor& x, int64_t size[3], int64_t stride[3]) {
  const auto sizes = x.sizes();
  const auto strides = x.strides();
  const int nd = spatial_dims(x);
  for (int i = 0; i < 3; ++i) {
    const int d = i - (3 - nd);
    size[i] = d >= 0 ? sizes[d + 2] : 1;
    stride[i] = d >= 0 ? strides[d + 2] : 0;
  }
}

// A per-dimension argument as three, the leading ones `fill`.
inline void list3(const Ints& v, int nd, int64_t fill, int64_t out[3]) {
  for (int i = 0; i < 3; ++i) {
    const int d = i - (3 - nd);
    out[i] = d >= 0 ? v[d] : fill;
  }
}

} // namespace torchconv
