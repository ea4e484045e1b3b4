// The operators of convolution for every device: arguments to a problem,
// and the result allocated where the inputs are.
//
// Device is constructed from a tensor and the operator's name and has
//   expect_here(t, op, name): raises if a tensor is on another device
//   conv(call): runs the choice for a ConvCall and returns the result
#pragma once

#include "bindings/conv.h"

#include "core/planner.h"

namespace torchconv {

// A pass on its way to a device: the problem, the algorithm asked for, and the
// tensors as the operator has them: x and weight (forward), grad and weight
// (input_grad), grad and x (weight_grad).
struct ConvCall {
  const ConvProblem& p;
  Pass pass;
  const ConvTensors& t;
  const std::string& algorithm;
  const Tensor& first;
  const Tensor& second;
  const std::optional<Tensor>& bias;
  const Tensor& result; // to be written
};

// The epilogue as the operators have it.
struct EpilogueArgs {
  const std::optional<Tensor>& residual;
  Activation activation;
  double a, b;
};

inline Activation activation_of(const std::string& name, const char* op) {
  Activation activation;
  STD_TORCH_CHECK(
      parse_activation(name.c_str(), &activation),
      "torchconv::",
      op,
      ": unknown activation '",
      name,
      "'");
  return activation;
}

inline void set_strides(const Tensor& t, Strides* s) {
  int64_t size[3];
  s->n = t.strides()[0];
  s->c = t.strides()[1];
  spatial3(t, size, s->s);
}

inline void same_dtype(const Tensor& a, const Tensor& b, const char* op) {
  STD_TORCH_CHECK(
      a.scalar_type() == b.scalar_type(),
      "torchconv::",
      op,
      ": tensors of different dtypes, ",
      torch::headeronly::toString(a.scalar_type()),
      " and ",
      torch::headeronly::toString(b.scalar_type()));
}

// The bias as a dense vector of the right length.
inline std::optional<Tensor> dense_bias(
    const std::optional<Tensor>& bias,
    int64_t channels,
    const Tensor& like,
    const char* op) {
  if (!bias.has_value()) {
    return std::nullopt;
  }
  same_dtype(*bias, like, op);
  STD_TORCH_CHECK(
      bias->dim() == 1 && bias->sizes()[0] == channels,
      "torchconv::",
      op,
      ": expected bias of ",
      channels,
      " elements");
  return bias->stride(0) == 1 || channels <= 1
      ? *bias
      : torch::stable::contiguous(*bias);
}

inline bool same_strides(const Tensor& a, const Tensor& b) {
  for (int64_t d = 0; d < a.dim(); ++d) {
    if (a.size(d) > 1 && a.stride(d) != b.stride(d)) {
      return false;
    }
  }
  return true;
}

// The residual with the strides of the result: itself, or a copy.
inline std::optional<Tensor> placed_residual(
    const std::optional<Tensor>& residual,
    const Tensor& result,
    bool channels_last,
    const char* op) {
  if (!residual.has_value()) {
    return std::nullopt;
  }
  same_dtype(*residual, result, op);
  const auto given = residual->sizes(), wanted = result.sizes();
  bool ok = given.size() == wanted.size();
  for (size_t d = 0; ok && d < wanted.size(); ++d) {
    ok = given[d] == wanted[d];
  }
  STD_TORCH_CHECK(
      ok,
      "torchconv::",
      op,
      ": residual does not have the size that the convolution gives");
  if (same_strides(*residual, result)) {
    return residual;
  }
  Tensor copy = allocate(
      Ints(wanted.begin(), wanted.end()),
      result.scalar_type(),
      channels_last,
      &result);
  return torch::stable::copy_(copy, *residual);
}

// Fills the epilogue; the tensor that is returned holds what it points to.
inline std::optional<Tensor> take_epilogue(
    const EpilogueArgs& args,
    const Tensor& result,
    bool channels_last,
    const char* op,
    Epilogue* e) {
  STD_TORCH_CHECK(
      dtype_of(result, op) != DType::i64,
      "torchconv::",
      op,
      ": integers have no epilogue");
  auto held = placed_residual(args.residual, result, channels_last, op);
  *e = {
      args.activation,
      args.a,
      args.b,
      held.has_value() ? held->const_data_ptr() : nullptr};
  return held;
}

// The gradients' problems come from sizes; gy must have the size that forward
// gives.
inline void check_grad(const ConvProblem& p, const Tensor& gy, const char* op) {
  const int nd = spatial_dims(gy);
  bool ok = nd >= 1 && nd <= 3 && gy.sizes()[0] == p.batch &&
      gy.sizes()[1] == p.out_channels;
  for (int d = 0; ok && d < 3; ++d) {
    ok = p.out[d] == (d >= 3 - nd ? gy.sizes()[d - 1 + nd] : 1);
  }
  STD_TORCH_CHECK(
      ok,
      "torchconv::",
      op,
      ": grad does not have the size that the convolution gives");
}

template <typename Device>
Tensor forward_pass(
    const char* op,
    const Tensor& x,
    const Tensor& w,
    const std::optional<Tensor>& bias,
    const Ints& stride,
    const Ints& padding,
    const Ints& dilation,
    int64_t groups,
    const std::string& padding_mode,
    bool channels_last,
    const std::string& algorithm,
    const EpilogueArgs* epilogue) {
  const Device device(x, op);
  device.expect_here(w, op, "weight");
  same_dtype(x, w, op);
  ConvProblem p = conv_problem(
      x.sizes(),
      w.sizes(),
      stride,
      padding,
      dilation,
      groups,
      padding_mode,
      dtype_of(x, op),
      op);
  Ints size = {p.batch, p.out_channels};
  for (int d = 3 - spatial_dims(x); d < 3; ++d) {
    size.push_back(p.out[d]);
  }
  if (bias.has_value()) {
    device.expect_here(*bias, op, "bias");
  }
  const auto b = dense_bias(bias, p.out_channels, x, op);
  Tensor y = allocate(size, x.scalar_type(), channels_last, &x);
  set_strides(x, &p.x);
  set_strides(w, &p.w);
  set_strides(y, &p.y);
  ConvTensors t = {
      const_cast<void*>(x.const_data_ptr()),
      const_cast<void*>(w.const_data_ptr()),
      y.mutable_data_ptr(),
      b.has_value() ? b->const_data_ptr() : nullptr};
  std::optional<Tensor> residual;
  if (epilogue != nullptr) {
    if (epilogue->residual.has_value()) {
      device.expect_here(*epilogue->residual, op, "residual");
    }
    residual = take_epilogue(*epilogue, y, channels_last, op, &t.epilogue);
  }
  return device.conv({p, Pass::forward, t, algorithm, x, w, b, y});
}

template <typename Device>
Tensor conv_forward(
    const Tensor& x,
    const Tensor& w,
    const std::optional<Tensor>& bias,
    Ints stride,
    Ints padding,
    Ints dilation,
    int64_t groups,
    const std::string& padding_mode,
    bool channels_last,
    const std::string& algorithm) {
  return forward_pass<Device>(
      "conv_forward",
      x,
      w,
      bias,
      stride,
      padding,
      dilation,
      groups,
      padding_mode,
      channels_last,
      algorithm,
      nullptr);
}

template <typename Device>
Tensor conv_forward_fused(
    const Tensor& x,
    const Tensor& w,
    const std::optional<Tensor>& bias,
    const std::optional<Tensor>& residual,
    Ints stride,
    Ints padding,
    Ints dilation,
    int64_t groups,
    const std::string& padding_mode,
    bool channels_last,
    const std::string& algorithm,
    const std::string& activation,
    double a,
    double b) {
  const char* op = "conv_forward_fused";
  const Device device(x, op); // a wrong one is the first thing to say
  const EpilogueArgs epilogue = {residual, activation_of(activation, op), a, b};
  return forward_pass<Device>(
      op,
      x,
      w,
      bias,
      stride,
      padding,
      dilation,
      groups,
      padding_mode,
      channels_last,
      algorithm,
      &epilogue);
}

template <typename Device>
Tensor input_grad_pass(
    const char* op,
    const Tensor& gy,
    const Tensor& w,
    const std::optional<Tensor>& bias,
    const Ints& input_size,
    const Ints& stride,
    const Ints& padding,
    const Ints& dilation,
    int64_t groups,
    const std::string& padding_mode,
    bool channels_last,
    const std::string& algorithm,
    const EpilogueArgs* epilogue) {
  const Device device(gy, op);
  device.expect_here(w, op, "weight");
  same_dtype(gy, w, op);
  ConvProblem p = conv_problem(
      input_size,
      w.sizes(),
      stride,
      padding,
      dilation,
      groups,
      padding_mode,
      dtype_of(gy, op),
      op);
  STD_TORCH_CHECK(
      gy.dim() == w.dim(),
      "torchconv::",
      op,
      ": grad and weight differ in rank");
  check_grad(p, gy, op);
  if (bias.has_value()) {
    device.expect_here(*bias, op, "bias");
  }
  const auto b = dense_bias(bias, p.in_channels, gy, op);
  Tensor gx = allocate(input_size, gy.scalar_type(), channels_last, &gy);
  set_strides(gx, &p.x);
  set_strides(w, &p.w);
  set_strides(gy, &p.y);
  ConvTensors t = {
      gx.mutable_data_ptr(),
      const_cast<void*>(w.const_data_ptr()),
      const_cast<void*>(gy.const_data_ptr()),
      b.has_value() ? b->const_data_ptr() : nullptr};
  std::optional<Tensor> residual;
  if (epilogue != nullptr) {
    if (epilogue->residual.has_value()) {
      device.expect_here(*epilogue->residual, op, "residual");
    }
    residual = take_epilogue(*epilogue, gx, channels_last, op, &t.epilogue);
  }
  return device.conv({p, Pass::input_grad, t, algorithm, gy, w, b, gx});
}

template <typename Device>
Tensor conv_input_grad(
    const Tensor& gy,
    const Tensor& w,
    const std::optional<Tensor>& bias,
    Ints input_size,
    Ints stride,
    Ints padding,
    Ints dilation,
    int64_t groups,
    const std::string& padding_mode,
    bool channels_last,
    const std::string& algorithm) {
  return input_grad_pass<Device>(
      "conv_input_grad",
      gy,
      w,
      bias,
      input_size,
      stride,
      padding,
      dilation,
      groups,
      padding_mode,
      channels_last,
      algorithm,
      nullptr);
}

template <typename Device>
Tensor conv_input_grad_fused(
    const Tensor& gy,
    const Tensor& w,
    const std::optional<Tensor>& bias,
    const std::optional<Tensor>& residual,
    Ints input_size,
    Ints stride,
    Ints padding,
    Ints dilation,
    int64_t groups,
    const std::string& padding_mode,
    bool channels_last,
    const std::string& algorithm,
    const std::string& activation,
    double a,
    double b) {
  const char* op = "conv_input_grad_fused";
  const Device device(gy, op); // a wrong one is the first thing to say
  const EpilogueArgs epilogue = {residual, activation_of(activation, op), a, b};
  return input_grad_pass<Device>(
      op,
      gy,
      w,
      bias,
      input_size,
      stride,
      padding,
      dilation,
      groups,
      padding_mode,
      channels_last,
      algorithm,
      &epilogue);
}

template <typename Device>
Tensor conv_weight_grad(
    const Tensor& gy,
    const Tensor& x,
    Ints weight_size,
    Ints stride,
    Ints padding,
    Ints dilation,
    int64_t groups,
    const std::string& padding_mode,
    bool channels_last,
    const std::string& algorithm) {
  const char* op = "conv_weight_grad";
  const Device device(gy, op);
  device.expect_here(x, op, "x");
  same_dtype(gy, x, op);
  ConvProblem p = conv_problem(
      x.sizes(),
      weight_size,
      stride,
      padding,
      dilation,
      groups,
      padding_mode,
      dtype_of(x, op),
      op);
  STD_TORCH_CHECK(
      gy.dim() == x.dim(), "torchconv::", op, ": grad and x differ in rank");
  check_grad(p, gy, op);
  Tensor gw = allocate(weight_size, gy.scalar_type(), channels_last, &gy);
  set_strides(x, &p.x);
  set_strides(gw, &p.w);
  set_strides(gy, &p.y);
  const ConvTensors t = {
      const_cast<void*>(x.const_data_ptr()),
      gw.mutable_data_ptr(),
      const_cast<void*>(gy.const_data_ptr()),
      nullptr};
  return device.conv(
      {p, Pass::weight_grad, t, algorithm, gy, x, std::nullopt, gw});
}

// The planner's choice for a problem, or an error.
inline const ConvAlgorithm* require_conv(
    const std::vector<const ConvAlgorithm*>& table,
    const ConvProblem& p,
    Pass pass,
    const std::string& algorithm) {
  std::string error;
  const ConvAlgorithm* a = choose_conv(table, p, pass, algorithm, &error);
  STD_TORCH_CHECK(a != nullptr, "torchconv: ", error);
  return a;
}

// Registers the operators, as Device computes them.
template <typename Device>
void register_conv(torch::stable::detail::StableLibrary& m) {
  m.impl("conv_forward", TORCH_BOX(&conv_forward<Device>));
  m.impl("conv_input_grad", TORCH_BOX(&conv_input_grad<Device>));
  m.impl("conv_forward_fused", TORCH_BOX(&conv_forward_fused<Device>));
  m.impl("conv_input_grad_fused", TORCH_BOX(&conv_input_grad_fused<Device>));
  m.impl("conv_weight_grad", TORCH_BOX(&conv_weight_grad<Device>));
}

} // namespace torchconv
