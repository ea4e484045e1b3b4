// The three operators of convolution with a kernel per output position, for
// every device. The weight is (*tile, K, C / groups, *kernel), the bias
// (*tile, K); kernels see both dense.
//
// Device is constructed from a tensor and the operator's name and has
//   expect_here(t, op, name): raises if a tensor is on another device
//   forward(p, x, w, bias or null, y), input_grad(p, gy, w, gx),
//   weight_grad(p, gy, x, gw): on data pointers
#pragma once

#include "bindings/conv_passes.h"

#include "core/conv_local.h"

namespace torchconv {

// x_size: (N, C, *spatial); w_size: (*tile, K, C / groups, *kernel).
template <typename XSize, typename WSize>
LocalProblem local_problem(
    const XSize& x_size,
    const WSize& w_size,
    const Ints& stride,
    const Ints& padding,
    const Ints& dilation,
    int64_t groups,
    const std::string& padding_mode,
    DType dtype,
    const char* op) {
  const int nd = static_cast<int>(x_size.size()) - 2;
  STD_TORCH_CHECK(
      nd >= 1 && nd <= 3 && static_cast<int>(w_size.size()) == 2 * nd + 2,
      "torchconv::",
      op,
      ": a weight needs the tile's, two channel and the kernel's dimensions");
  Ints kernel_size;
  for (int d = nd; d < 2 * nd + 2; ++d) {
    kernel_size.push_back(w_size[d]);
  }
  LocalProblem p;
  p.conv = conv_problem(
      x_size,
      kernel_size,
      stride,
      padding,
      dilation,
      groups,
      padding_mode,
      dtype,
      op);
  for (int i = 0; i < 3; ++i) {
    const int d = i - (3 - nd);
    p.tile[i] = d >= 0 ? w_size[d] : 1;
    STD_TORCH_CHECK(
        p.tile[i] > 0, "torchconv::", op, ": the tile must be positive");
  }
  STD_TORCH_CHECK(
      p.conv.in_channels > 0 && p.conv.out_channels > 0,
      "torchconv::",
      op,
      ": there must be input and output channels");
  return p;
}

template <typename Device>
Tensor local_conv_forward(
    const Tensor& x,
    const Tensor& weight,
    const std::optional<Tensor>& bias,
    Ints stride,
    Ints padding,
    Ints dilation,
    int64_t groups,
    const std::string& padding_mode,
    bool channels_last) {
  const char* op = "local_conv_forward";
  const Device device(x, op);
  device.expect_here(weight, op, "weight");
  same_dtype(x, weight, op);
  LocalProblem p = local_problem(
      x.sizes(),
      weight.sizes(),
      stride,
      padding,
      dilation,
      groups,
      padding_mode,
      dtype_of(x, op),
      op);
  const int nd = spatial_dims(x);
  Ints size = {p.conv.batch, p.conv.out_channels};
  for (int d = 3 - nd; d < 3; ++d) {
    size.push_back(p.conv.out[d]);
  }
  std::optional<Tensor> b;
  if (bias.has_value()) {
    device.expect_here(*bias, op, "bias");
    same_dtype(x, *bias, op);
    STD_TORCH_CHECK(
        bias->numel() == p.classes() * p.conv.out_channels,
        "torchconv::",
        op,
        ": bias needs one element for each kernel of the weight");
    b = torch::stable::contiguous(*bias);
  }
  const Tensor w = torch::stable::contiguous(weight);
  Tensor y = allocate(size, x.scalar_type(), channels_last, &x);
  set_strides(x, &p.conv.x);
  set_strides(y, &p.conv.y);
  if (y.numel() > 0) {
    device.forward(
        p,
        x.const_data_ptr(),
        w.const_data_ptr(),
        b.has_value() ? b->const_data_ptr() : nullptr,
        y.mutable_data_ptr());
  }
  return y;
}

template <typename Device>
Tensor local_conv_input_grad(
    const Tensor& gy,
    const Tensor& weight,
    Ints input_size,
    Ints stride,
    Ints padding,
    Ints dilation,
    int64_t groups,
    const std::string& padding_mode,
    bool channels_last) {
  const char* op = "local_conv_input_grad";
  const Device device(gy, op);
  device.expect_here(weight, op, "weight");
  same_dtype(gy, weight, op);
  LocalProblem p = local_problem(
      input_size,
      weight.sizes(),
      stride,
      padding,
      dilation,
      groups,
      padding_mode,
      dtype_of(gy, op),
      op);
  check_grad(p.conv, gy, op);
  const Tensor w = torch::stable::contiguous(weight);
  Tensor gx = allocate(input_size, gy.scalar_type(), channels_last, &gy);
  set_strides(gx, &p.conv.x);
  set_strides(gy, &p.conv.y);
  if (gx.numel() > 0) {
    device.input_grad(
        p, gy.const_data_ptr(), w.const_data_ptr(), gx.mutable_data_ptr());
  }
  return gx;
}

template <typename Device>
Tensor local_conv_weight_grad(
    const Tensor& gy,
    const Tensor& x,
    Ints weight_size,
    Ints stride,
    Ints padding,
    Ints dilation,
    int64_t groups,
    const std::string& padding_mode) {
  const char* op = "local_conv_weight_grad";
  const Device device(gy, op);
  device.expect_here(x, op, "x");
  same_dtype(gy, x, op);
  LocalProblem p = local_problem(
      x.sizes(),
      weight_size,
      stride,
      padding,
      dilation,
      groups,
      padding_mode,
      dtype_of(x, op),
      op);
  check_grad(p.conv, gy, op);
  Tensor gw = allocate(weight_size, gy.scalar_type(), false, &gy);
  set_strides(x, &p.conv.x);
  set_strides(gy, &p.conv.y);
  if (gw.numel() > 0) {
    device.weight_grad(
        p, gy.const_data_ptr(), x.const_data_ptr(), gw.mutable_data_ptr());
  }
  return gw;
}

// Registers the operators, as Device computes them.
template <typename Device>
void register_conv_local(torch::stable::detail::StableLibrary& m) {
  m.impl("local_conv_forward", TORCH_BOX(&local_conv_forward<Device>));
  m.impl("local_conv_input_grad", TORCH_BOX(&local_conv_input_grad<Device>));
  m.impl("local_conv_weight_grad", TORCH_BOX(&local_conv_weight_grad<Device>));
}

} // namespace torchconv
