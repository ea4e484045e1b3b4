// What follows a max pooling: its gradient, that one's adjoint, and unpooling;
// the operators for every device.
//
// Device is constructed from the first tensor and the operator's name and has
//   pool_scatter(k, grad, gx), pool_gather(k, x, out)
//   max_unpool(k, x, out, wrong): false, with *wrong, if it can tell at once that
//   an index is bad
#pragma once

#include "bindings/pool.h"
#include "core/pool_codes.h"

namespace torchconv {

inline CodeKind code_kind(const Tensor& codes, const char* op) {
  switch (codes.scalar_type()) {
    case ScalarType::Byte:
      return CodeKind::u8;
    case ScalarType::Int:
      return CodeKind::i32;
    case ScalarType::Long:
      return CodeKind::i64;
    default:
      STD_TORCH_CHECK(
          false,
          "torchconv::",
          op,
          " expects codes of uint8, int32 or int64, got ",
          torch::headeronly::toString(codes.scalar_type()));
  }
}

inline void set_codes(PoolCodes& k, const Tensor& codes) {
  k.codes = codes.const_data_ptr();
  k.c_stride_n = codes.strides()[0];
  k.c_stride_c = codes.strides()[1];
  int64_t size[3];
  spatial3(codes, size, k.c_stride);
}

inline void check_same_size(const Tensor& a, const Tensor& b, const char* op) {
  STD_TORCH_CHECK(
      size_of(a) == size_of(b),
      "torchconv::",
      op,
      " expects a tensor and its codes or indices of the same size");
}

// The problem behind codes of size `codes` that point into `input_size`. The
// window is that of the pooling they come from; nothing for adaptive pooling,
// one tap where nobody knows it.
inline PoolCodes coded(
    const Tensor& codes,
    const Ints& input_size,
    const Ints& kernel,
    const Ints& stride,
    const Ints& padding,
    const Ints& dilation,
    const char* op) {
  PoolCodes k;
  k.kind = code_kind(codes, op);
  PoolProblem& p = k.p;
  p = pool_sizes(input_size, op);
  const size_t nd = input_size.size() - 2;
  STD_TORCH_CHECK(
      codes.dim() == static_cast<int64_t>(nd) + 2 &&
          codes.sizes()[0] == p.batch && codes.sizes()[1] == p.channels,
      "torchconv::",
      op,
      " expects codes with the input's batch, channels and dimensions");
  k.adaptive = k.kind != CodeKind::u8 && kernel.empty();
  if (!k.adaptive) {
    STD_TORCH_CHECK(
        kernel.size() == nd && stride.size() == nd && padding.size() == nd &&
            dilation.size() == nd,
        "torchconv::",
        op,
        " expects the window of its codes, one entry for each of the ",
        nd,
        " spatial dimensions");
    const int n = static_cast<int>(nd);
    list3(kernel, n, 1, p.kernel);
    list3(stride, n, 1, p.stride);
    list3(padding, n, 0, p.padding);
    list3(dilation, n, 1, p.dilation);
    for (int i = 0; i < 3; ++i) {
      STD_TORCH_CHECK(
          p.kernel[i] > 0 && p.stride[i] > 0 && p.dilation[i] > 0 &&
              p.padding[i] >= 0,
          "torchconv::",
          op,
          ": kernel_size, stride and dilation must be positive and padding "
          "not negative");
    }
  }
  int64_t unused[3];
  spatial3(codes, p.out, unused);
  set_codes(k, codes);
  return k;
}

template <typename Device>
Tensor pool_scatter(
    const Tensor& grad,
    const Tensor& codes,
    const Ints& input_size,
    const Ints& kernel,
    const Ints& stride,
    const Ints& padding,
    const Ints& dilation,
    bool channels_last) {
  const char* op = "pool_scatter";
  const Device device(grad, op);
  device.expect_here(codes, op, "codes");
  check_same_size(grad, codes, op);
  PoolCodes k = coded(codes, input_size, kernel, stride, padding, dilation, op);
  k.p.dtype = dtype_of(grad, op);
  Tensor gx = allocate(input_size, grad.scalar_type(), channels_last, &grad);
  set_pool_x(k.p, gx);
  set_pool_y(k.p, grad);
  device.pool_scatter(k, grad.const_data_ptr(), gx.mutable_data_ptr());
  return gx;
}

template <typename Device>
Tensor pool_gather(
    const Tensor& x,
    const Tensor& codes,
    const Ints& kernel,
    const Ints& stride,
    const Ints& padding,
    const Ints& dilation,
    bool channels_last) {
  const char* op = "pool_gather";
  const Device device(x, op);
  device.expect_here(codes, op, "codes");
  PoolCodes k = coded(codes, size_of(x), kernel, stride, padding, dilation, op);
  k.p.dtype = pool_dtype_of(x, op);
  Tensor out = allocate(size_of(codes), x.scalar_type(), channels_last, &x);
  set_pool_x(k.p, x);
  set_pool_y(k.p, out);
  device.pool_gather(k, x.const_data_ptr(), out.mutable_data_ptr());
  return out;
}

inline std::string joined(const int64_t size[3], int nd) {
  std::string text;
  for (int i = 3 - nd; i < 3; ++i) {
    text += (text.empty() ? "" : "x") + std::to_string(size[i]);
  }
  return text;
}

template <typename Device>
Tensor max_unpool(
    const Tensor& x,
    const Tensor& indices,
    const Ints& output_size,
    bool channels_last) {
  const char* op = "max_unpool";
  const Device device(x, op);
  device.expect_here(indices, op, "indices");
  check_same_size(x, indices, op);
  STD_TORCH_CHECK(
      indices.scalar_type() == ScalarType::Long,
      "torchconv::max_unpool expects int64 indices, got ",
      torch::headeronly::toString(indices.scalar_type()));
  const int nd = spatial_dims(x);
  STD_TORCH_CHECK(
      nd >= 1 && static_cast<int>(output_size.size()) == nd,
      "torchconv::max_unpool expects an output_size for each spatial "
      "dimension of the input");
  Ints size{x.sizes()[0], x.sizes()[1]};
  size.insert(size.end(), output_size.begin(), output_size.end());
  const Ints ones(nd, 1), zeros(nd, 0); // indices may point anywhere
  PoolCodes k = coded(indices, size, ones, ones, zeros, ones, op);
  k.p.dtype = pool_dtype_of(x, op);
  set_pool_y(k.p, x);
  Tensor out = allocate(size, x.scalar_type(), channels_last, &x);
  set_pool_x(k.p, out);
  int64_t wrong;
  STD_TORCH_CHECK(
      device.max_unpool(k, x.const_data_ptr(), out.mutable_data_ptr(), &wrong),
      "Found an invalid max index: ",
      wrong,
      " (output volumes are of size ",
      joined(k.p.in, nd),
      ")");
  return out;
}

// Registers the operators on codes and indices, as Device computes them.
template <typename Device>
void register_pool_index(torch::stable::detail::StableLibrary& m) {
  m.impl("pool_scatter", TORCH_BOX(&pool_scatter<Device>));
  m.impl("pool_gather", TORCH_BOX(&pool_gather<Device>));
  m.impl("max_unpool", TORCH_BOX(&max_unpool<Device>));
}

} // namespace torchconv
