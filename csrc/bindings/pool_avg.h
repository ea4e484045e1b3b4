// Average, adaptive average and Lp pooling: the operators for every device.
//
// Device is constructed from the first tensor and the operator's name and has
//   average(p, divisor, x, y)
//   average_input_grad(p, divisor, gy, gx)
//   lp(p, norm_type, x, y)
//   lp_input_grad(p, norm_type, gy, x, y, gx), where gy lies as y does
//   and x as gx
#pragma once

#include <cmath>

#include "bindings/pool.h"

namespace torchconv {

inline void check_padding(const PoolProblem& p, const char* op) {
  for (int i = 0; i < 3; ++i) {
    STD_TORCH_CHECK(
        2 * p.padding[i] <= p.kernel[i],
        "torchconv::",
        op,
        ": padding must be at most half of kernel_size, got ",
        p.padding[i],
        " for ",
        p.kernel[i]);
  }
}

inline void check_window_size(
    const Tensor& t,
    const Ints& size,
    const char* what) {
  STD_TORCH_CHECK(
      size_of(t) == size, "torchconv: ", what, " has the wrong shape");
}

// Sliding windows as these operators have them: no dilation.
inline PoolProblem sliding_sum(
    const Ints& input_size,
    const Ints& kernel_size,
    const Ints& stride,
    const Ints& padding,
    bool ceil_mode,
    const char* op) {
  const PoolProblem p = pool_problem(
      input_size,
      kernel_size,
      stride,
      padding,
      Ints(kernel_size.size(), 1),
      ceil_mode,
      op);
  check_padding(p, op);
  return p;
}

inline PoolProblem adaptive_sum(
    const Ints& input_size,
    const Ints& output_size,
    const char* op) {
  PoolProblem p = pool_sizes(input_size, op);
  const size_t nd = input_size.size() - 2;
  STD_TORCH_CHECK(
      output_size.size() == nd,
      "torchconv::",
      op,
      " expects one output size for each of the ",
      nd,
      " spatial dimensions");
  list3(output_size, static_cast<int>(nd), 1, p.out);
  for (int i = 0; i < 3; ++i) {
    STD_TORCH_CHECK(
        p.out[i] >= 0 && p.in[i] > 0,
        "torchconv::",
        op,
        ": output sizes must not be negative, input sizes must be positive");
  }
  return p;
}

inline DType float_dtype(const Tensor& x, const char* op) {
  const DType t = dtype_of(x, op);
  STD_TORCH_CHECK(
      t != DType::i64, "torchconv::", op, " is not implemented for integers");
  return t;
}

inline int64_t checked_divisor(const std::optional<int64_t>& divisor_override) {
  STD_TORCH_CHECK(
      !divisor_override || *divisor_override != 0, "divisor must be not zero");
  return divisor_override ? *divisor_override : 0;
}

inline bool empty(const Ints& size) {
  for (const int64_t n : size) {
    if (n == 0) {
      return true;
    }
  }
  return false;
}

template <typename Device>
Tensor avg_pool(
    const Tensor& x,
    const Ints& kernel_size,
    const Ints& stride,
    const Ints& padding,
    bool ceil_mode,
    bool count_include_pad,
    const std::optional<int64_t>& divisor_override,
    bool channels_last) {
  const Device device(x, "avg_pool");
  PoolProblem p = sliding_sum(
      size_of(x), kernel_size, stride, padding, ceil_mode, "avg_pool");
  const int64_t divisor = checked_divisor(divisor_override);
  p.dtype = dtype_of(x, "avg_pool");
  const Ints shape = pool_output_shape(p, spatial_dims(x));
  const bool copied = computed_channels_last<Device>(x, p, channels_last);
  Tensor y = allocate(shape, x.scalar_type(), channels_last || copied, &x);
  if (!empty(shape)) {
    set_pool_x(p, x);
    set_pool_y(p, y);
    device.average(
        p,
        {true, count_include_pad, divisor},
        x.const_data_ptr(),
        y.mutable_data_ptr());
  }
  return copied ? contiguous_copy(y) : y;
}

template <typename Device>
Tensor avg_pool_input_grad(
    const Tensor& grad,
    const Ints& input_size,
    const Ints& kernel_size,
    const Ints& stride,
    const Ints& padding,
    bool ceil_mode,
    bool count_include_pad,
    const std::optional<int64_t>& divisor_override,
    bool channels_last) {
  const Device device(grad, "avg_pool_input_grad");
  PoolProblem p = sliding_sum(
      input_size,
      kernel_size,
      stride,
      padding,
      ceil_mode,
      "avg_pool_input_grad");
  const int64_t divisor = checked_divisor(divisor_override);
  p.dtype = dtype_of(grad, "avg_pool_input_grad");
  const int nd = static_cast<int>(input_size.size()) - 2;
  check_window_size(
      grad, pool_output_shape(p, nd), "avg_pool_input_grad: grad");
  Tensor gx = allocate(input_size, grad.scalar_type(), channels_last, &grad);
  if (!empty(input_size)) {
    set_pool_x(p, gx);
    set_pool_y(p, grad);
    device.average_input_grad(
        p,
        {true, count_include_pad, divisor},
        grad.const_data_ptr(),
        gx.mutable_data_ptr());
  }
  return gx;
}

template <typename Device>
Tensor adaptive_avg_pool(
    const Tensor& x,
    const Ints& output_size,
    bool channels_last) {
  const Device device(x, "adaptive_avg_pool");
  PoolProblem p = adaptive_sum(size_of(x), output_size, "adaptive_avg_pool");
  p.dtype = float_dtype(x, "adaptive_avg_pool");
  const Ints shape = pool_output_shape(p, spatial_dims(x));
  const bool copied = computed_channels_last<Device>(x, p, channels_last);
  Tensor y = allocate(shape, x.scalar_type(), channels_last || copied, &x);
  if (!empty(shape)) {
    set_pool_x(p, x);
    set_pool_y(p, y);
    device.average(
        p, {false, false, 0}, x.const_data_ptr(), y.mutable_data_ptr());
  }
  return copied ? contiguous_copy(y) : y;
}

template <typename Device>
Tensor adaptive_avg_pool_input_grad(
    const Tensor& grad,
    const Ints& input_size,
    bool channels_last) {
  const Device device(grad, "adaptive_avg_pool_input_grad");
  const char* op = "adaptive_avg_pool_input_grad";
  const Ints grad_size = size_of(grad);
  STD_TORCH_CHECK(
      grad_size.size() == input_size.size(),
      "torchconv::",
      op,
      ": grad and input must have the same number of dimensions");
  PoolProblem p = adaptive_sum(
      input_size, Ints(grad_size.begin() + 2, grad_size.end()), op);
  p.dtype = float_dtype(grad, op);
  check_window_size(
      grad, pool_output_shape(p, spatial_dims(grad)), "adaptive grad");
  Tensor gx = allocate(input_size, grad.scalar_type(), channels_last, &grad);
  if (!empty(input_size)) {
    set_pool_x(p, gx);
    set_pool_y(p, grad);
    device.average_input_grad(
        p, {false, false, 0}, grad.const_data_ptr(), gx.mutable_data_ptr());
  }
  return gx;
}

inline void check_norm_type(double norm_type, const char* op) {
  STD_TORCH_CHECK(
      norm_type != 0 && std::isfinite(norm_type),
      "torchconv::",
      op,
      ": norm_type must be finite and not zero, got ",
      norm_type);
}

// t with exactly the strides of `like`: itself if it has them.
inline Tensor laid_out_as(
    const Tensor& like,
    const Tensor& t,
    bool channels_last) {
  const auto size = t.sizes();
  bool same = true;
  for (size_t d = 0; d < size.size(); ++d) {
    same = same && (size[d] == 1 || t.strides()[d] == like.strides()[d]);
  }
  if (same) {
    return t;
  }
  Tensor copy = allocate(size_of(t), t.scalar_type(), channels_last, &t);
  torch::stable::copy_(copy, t);
  return copy;
}

template <typename Device>
Tensor lp_pool(
    const Tensor& x,
    double norm_type,
    const Ints& kernel_size,
    const Ints& stride,
    bool ceil_mode,
    bool channels_last) {
  const Device device(x, "lp_pool");
  check_norm_type(norm_type, "lp_pool");
  PoolProblem p = sliding_sum(
      size_of(x),
      kernel_size,
      stride,
      Ints(kernel_size.size(), 0),
      ceil_mode,
      "lp_pool");
  p.dtype = float_dtype(x, "lp_pool");
  const Ints shape = pool_output_shape(p, spatial_dims(x));
  const bool copied = computed_channels_last<Device>(x, p, channels_last);
  Tensor y = allocate(shape, x.scalar_type(), channels_last || copied, &x);
  if (!empty(shape)) {
    set_pool_x(p, x);
    set_pool_y(p, y);
    device.lp(p, norm_type, x.const_data_ptr(), y.mutable_data_ptr());
  }
  return copied ? contiguous_copy(y) : y;
}

template <typename Device>
Tensor lp_pool_input_grad(
    const Tensor& grad,
    const Tensor& x,
    const Tensor& y,
    double norm_type,
    const Ints& kernel_size,
    const Ints& stride,
    bool ceil_mode,
    bool channels_last) {
  const Device device(grad, "lp_pool_input_grad");
  const char* op = "lp_pool_input_grad";
  device.expect_here(x, op, "x");
  device.expect_here(y, op, "y");
  check_norm_type(norm_type, op);
  const Ints input_size = size_of(x);
  PoolProblem p = sliding_sum(
      input_size,
      kernel_size,
      stride,
      Ints(kernel_size.size(), 0),
      ceil_mode,
      op);
  p.dtype = float_dtype(x, op);
  STD_TORCH_CHECK(
      grad.scalar_type() == x.scalar_type() &&
          y.scalar_type() == x.scalar_type(),
      "torchconv::",
      op,
      ": grad, x and y must have the same dtype");
  const Ints shape = pool_output_shape(p, spatial_dims(x));
  check_window_size(grad, shape, "lp_pool_input_grad: grad");
  check_window_size(y, shape, "lp_pool_input_grad: y");
  Tensor gx = allocate(input_size, x.scalar_type(), channels_last, &x);
  if (!empty(input_size)) {
    // The kernel walks gy and y together, and gx and x. Autograd hands over
    // all four in one format; anything else is brought into it.
    const Tensor format = allocate(shape, y.scalar_type(), channels_last, &y);
    const Tensor same_grad = laid_out_as(format, grad, channels_last);
    const Tensor same_y = laid_out_as(format, y, channels_last);
    const Tensor same_x = laid_out_as(gx, x, channels_last);
    set_pool_x(p, gx);
    set_pool_y(p, format);
    device.lp_input_grad(
        p,
        norm_type,
        same_grad.const_data_ptr(),
        same_x.const_data_ptr(),
        same_y.const_data_ptr(),
        gx.mutable_data_ptr());
  }
  return gx;
}

// Registers average and Lp pooling, as Device computes them.
template <typename Device>
void register_avg_pool(torch::stable::detail::StableLibrary& m) {
  m.impl("avg_pool", TORCH_BOX(&avg_pool<Device>));
  m.impl("avg_pool_input_grad", TORCH_BOX(&avg_pool_input_grad<Device>));
  m.impl("adaptive_avg_pool", TORCH_BOX(&adaptive_avg_pool<Device>));
  m.impl(
      "adaptive_avg_pool_input_grad",
      TORCH_BOX(&adaptive_avg_pool_input_grad<Device>));
  m.impl("lp_pool", TORCH_BOX(&lp_pool<Device>));
  m.impl("lp_pool_input_grad", TORCH_BOX(&lp_pool_input_grad<Device>));
}

} // namespace torchconv
