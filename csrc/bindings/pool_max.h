// Max pooling, sliding, adaptive and fractional: the operators for every device.
//
// Device is constructed from the input and the operator's name and has
//   max_pool(p, sliding, kind, x, y, codes)
//   fractional_max_pool(p, nd, samples, x, y, indices)
#pragma once

#include <tuple>

#include "bindings/pool.h"
#include "core/pool_codes.h"

namespace torchconv {

inline ScalarType code_dtype(CodeKind kind) {
  return kind == CodeKind::u8 ? ScalarType::Byte
      : kind == CodeKind::i32 ? ScalarType::Int
                              : ScalarType::Long;
}

inline PoolProblem sliding_max(
    const Tensor& x,
    const Ints& kernel,
    const Ints& stride,
    const Ints& padding,
    const Ints& dilation,
    bool ceil_mode,
    const char* op) {
  PoolProblem p = pool_problem(
      size_of(x), kernel, stride, padding, dilation, ceil_mode, op);
  p.dtype = pool_dtype_of(x, op);
  set_pool_x(p, x);
  return p;
}

inline PoolProblem adaptive_max(
    const Tensor& x,
    const Ints& output_size,
    const char* op) {
  PoolProblem p = pool_sizes(size_of(x), op);
  p.dtype = pool_dtype_of(x, op);
  set_pool_x(p, x);
  const int nd = spatial_dims(x);
  STD_TORCH_CHECK(
      static_cast<int>(output_size.size()) == nd,
      "torchconv::",
      op,
      " expects an output_size for each of the ",
      nd,
      " spatial dimensions");
  list3(output_size, nd, 1, p.out);
  for (int i = 0; i < 3; ++i) {
    STD_TORCH_CHECK(
        p.in[i] > 0 && p.out[i] >= 0,
        "torchconv::",
        op,
        " expects a non-empty input and an output_size that is not negative");
  }
  return p;
}

template <typename Device>
TensorPair run_max_pool(
    const Device& device,
    PoolProblem& p,
    const Tensor& x,
    bool sliding,
    CodeKind kind,
    bool channels_last) {
  const Ints size = pool_output_shape(p, spatial_dims(x));
  const bool copied = computed_channels_last<Device>(x, p, channels_last);
  const bool innermost = channels_last || copied;
  Tensor y = allocate(size, x.scalar_type(), innermost, &x);
  Tensor codes;
  if (kind != CodeKind::none) {
    codes = allocate(size, code_dtype(kind), innermost, &x);
  }
  set_pool_y(p, y);
  device.max_pool(
      p,
      sliding,
      kind,
      x.const_data_ptr(),
      y.mutable_data_ptr(),
      kind == CodeKind::none ? nullptr : codes.mutable_data_ptr());
  if (copied) {
    y = contiguous_copy(y);
    codes = kind == CodeKind::none ? codes : contiguous_copy(codes);
  }
  return {y, codes};
}

template <typename Device>
Tensor max_pool(
    const Tensor& x,
    const Ints& kernel,
    const Ints& stride,
    const Ints& padding,
    const Ints& dilation,
    bool ceil_mode,
    bool channels_last) {
  const Device device(x, "max_pool");
  PoolProblem p =
      sliding_max(x, kernel, stride, padding, dilation, ceil_mode, "max_pool");
  return std::get<0>(
      run_max_pool(device, p, x, true, CodeKind::none, channels_last));
}

template <typename Device>
TensorPair max_pool_with_codes(
    const Tensor& x,
    const Ints& kernel,
    const Ints& stride,
    const Ints& padding,
    const Ints& dilation,
    bool ceil_mode,
    bool channels_last) {
  const Device device(x, "max_pool_with_codes");
  PoolProblem p = sliding_max(
      x, kernel, stride, padding, dilation, ceil_mode, "max_pool_with_codes");
  return run_max_pool(device, p, x, true, tap_code_kind(p), channels_last);
}

template <typename Device>
TensorPair max_pool_with_indices(
    const Tensor& x,
    const Ints& kernel,
    const Ints& stride,
    const Ints& padding,
    const Ints& dilation,
    bool ceil_mode,
    bool channels_last) {
  const Device device(x, "max_pool_with_indices");
  PoolProblem p = sliding_max(
      x, kernel, stride, padding, dilation, ceil_mode, "max_pool_with_indices");
  return run_max_pool(device, p, x, true, CodeKind::i64, channels_last);
}

template <typename Device>
Tensor adaptive_max_pool(
    const Tensor& x,
    const Ints& output_size,
    bool channels_last) {
  const Device device(x, "adaptive_max_pool");
  PoolProblem p = adaptive_max(x, output_size, "adaptive_max_pool");
  return std::get<0>(
      run_max_pool(device, p, x, false, CodeKind::none, channels_last));
}

template <typename Device>
TensorPair adaptive_max_pool_with_codes(
    const Tensor& x,
    const Ints& output_size,
    bool channels_last) {
  const Device device(x, "adaptive_max_pool_with_codes");
  PoolProblem p = adaptive_max(x, output_size, "adaptive_max_pool_with_codes");
  return run_max_pool(device, p, x, false, flat_code_kind(p), channels_last);
}

template <typename Device>
TensorPair adaptive_max_pool_with_indices(
    const Tensor& x,
    const Ints& output_size,
    bool channels_last) {
  const Device device(x, "adaptive_max_pool_with_indices");
  PoolProblem p =
      adaptive_max(x, output_size, "adaptive_max_pool_with_indices");
  return run_max_pool(device, p, x, false, CodeKind::i64, channels_last);
}

template <typename Device>
TensorPair fractional_max_pool(
    const Tensor& x,
    const Tensor& random_samples,
    const Ints& kernel,
    const Ints& output_size,
    bool channels_last) {
  const char* op = "fractional_max_pool";
  const Device device(x, op);
  PoolProblem p = adaptive_max(x, output_size, op);
  const int nd = spatial_dims(x);
  dtype_of(x, op);
  STD_TORCH_CHECK(
      p.dtype != DType::i64,
      "torchconv::fractional_max_pool is not implemented for dtype Long");
  STD_TORCH_CHECK(
      static_cast<int>(kernel.size()) == nd,
      "torchconv::fractional_max_pool expects a kernel_size for each of the ",
      nd,
      " spatial dimensions");
  list3(kernel, nd, 1, p.kernel);
  for (int i = 0; i < 3; ++i) {
    STD_TORCH_CHECK(
        p.kernel[i] > 0 && p.out[i] > 0 &&
            p.out[i] + p.kernel[i] - 1 <= p.in[i],
        "torchconv::fractional_max_pool: kernel_size ",
        p.kernel[i],
        " is too large for input size ",
        p.in[i],
        " and output size ",
        p.out[i]);
  }
  STD_TORCH_CHECK(
      random_samples.scalar_type() == x.scalar_type() &&
          random_samples.dim() == 3 && random_samples.sizes()[0] >= p.batch &&
          random_samples.sizes()[1] == p.channels &&
          random_samples.sizes()[2] == nd,
      "torchconv::fractional_max_pool expects random_samples of shape (",
      p.batch,
      ", ",
      p.channels,
      ", ",
      nd,
      ") and of the input's dtype");
  device.expect_here(random_samples, op, "random_samples");
  const Tensor samples = torch::stable::contiguous(random_samples);
  const Ints size = pool_output_shape(p, nd);
  Tensor y = allocate(size, x.scalar_type(), channels_last, &x);
  Tensor indices = allocate(size, ScalarType::Long, channels_last, &x);
  set_pool_y(p, y);
  device.fractional_max_pool(
      p,
      nd,
      samples.const_data_ptr(),
      x.const_data_ptr(),
      y.mutable_data_ptr(),
      indices.mutable_data_ptr<int64_t>());
  return {y, indices};
}

// Registers the operators of max pooling, as Device computes them.
template <typename Device>
void register_max_pool(torch::stable::detail::StableLibrary& m) {
  m.impl("max_pool", TORCH_BOX(&max_pool<Device>));
  m.impl("max_pool_with_codes", TORCH_BOX(&max_pool_with_codes<Device>));
  m.impl("max_pool_with_indices", TORCH_BOX(&max_pool_with_indices<Device>));
  m.impl("adaptive_max_pool", TORCH_BOX(&adaptive_max_pool<Device>));
  m.impl(
      "adaptive_max_pool_with_codes",
      TORCH_BOX(&adaptive_max_pool_with_codes<Device>));
  m.impl(
      "adaptive_max_pool_with_indices",
      TORCH_BOX(&adaptive_max_pool_with_indices<Device>));
  m.impl("fractional_max_pool", TORCH_BOX(&fractional_max_pool<Device>));
}

} // namespace torchconv
