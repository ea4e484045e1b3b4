// The convolution operators on the CPU: tensors to a problem, the planner's
// choice, and the call.
#include "bindings/conv.h"

#include "bindings/autotune.h"
#include "core/parallel.h"
#include "core/planner.h"

namespace torchconv {
namespace {

void set_strides(const Tensor& t, Strides* s) {
  int64_t size[3];
  s->n = t.strides()[0];
  s->c = t.strides()[1];
  spatial3(t, size, s->s);
}

void same_dtype(const Tensor& a, const Tensor& b, const char* op) {
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
std::optional<Tensor> dense_bias(
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

// Runs the measured choice or the planner's; what it returns is result, or what
// torch made in its place.
Tensor run_conv(
    const ConvProblem& p,
    Pass pass,
    const ConvTensors& t,
    const std::string& algorithm,
    const Tensor& first,
    const Tensor& second,
    const std::optional<Tensor>& bias,
    const Tensor& result) {
  const bool exact = algorithm == kAutoExact;
  if (tuning_mode() != Tuning::off && (exact || algorithm == kAuto)) {
    auto tuned = run_tuned({p, pass, t, first, second, bias, result, exact});
    if (tuned.has_value()) {
      return *tuned;
    }
  }
  std::string error;
  const ConvAlgorithm* a =
      choose_conv(cpu_conv_algorithms(), p, pass, algorithm, &error);
  STD_TORCH_CHECK(a != nullptr, "torchconv: ", error);
  const int64_t bytes = a->workspace(p, pass, pool_threads());
  if (bytes == 0) {
    a->run(p, pass, t, nullptr);
    return result;
  }
  const Tensor workspace = allocate_workspace(bytes);
  a->run(p, pass, t, workspace.mutable_data_ptr());
  return result;
}

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
  const char* op = "conv_forward";
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
  const auto b = dense_bias(bias, p.out_channels, x, op);
  Tensor y = allocate(size, x.scalar_type(), channels_last);
  set_strides(x, &p.x);
  set_strides(w, &p.w);
  set_strides(y, &p.y);
  return run_conv(
      p,
      Pass::forward,
      {const_cast<void*>(x.const_data_ptr()),
       const_cast<void*>(w.const_data_ptr()),
       y.mutable_data_ptr(),
       b.has_value() ? b->const_data_ptr() : nullptr},
      algorithm,
      x,
      w,
      b,
      y);
}

// The gradients' problems come from sizes; gy must have the size that forward
// gives.
void check_grad(const ConvProblem& p, const Tensor& gy, const char* op) {
  bool ok = gy.sizes()[0] == p.batch && gy.sizes()[1] == p.out_channels;
  for (int d = 3 - spatial_dims(gy); d < 3; ++d) {
    ok = ok && gy.sizes()[2 + d - (3 - spatial_dims(gy))] == p.out[d];
  }
  STD_TORCH_CHECK(
      ok,
      "torchconv::",
      op,
      ": grad does not have the size that the convolution gives");
}

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
  const char* op = "conv_input_grad";
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
  const auto b = dense_bias(bias, p.in_channels, gy, op);
  Tensor gx = allocate(input_size, gy.scalar_type(), channels_last);
  set_strides(gx, &p.x);
  set_strides(w, &p.w);
  set_strides(gy, &p.y);
  return run_conv(
      p,
      Pass::input_grad,
      {gx.mutable_data_ptr(),
       const_cast<void*>(w.const_data_ptr()),
       const_cast<void*>(gy.const_data_ptr()),
       b.has_value() ? b->const_data_ptr() : nullptr},
      algorithm,
      gy,
      w,
      b,
      gx);
}

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
  Tensor gw = allocate(weight_size, gy.scalar_type(), channels_last);
  set_strides(x, &p.x);
  set_strides(gw, &p.w);
  set_strides(gy, &p.y);
  return run_conv(
      p,
      Pass::weight_grad,
      {const_cast<void*>(x.const_data_ptr()),
       gw.mutable_data_ptr(),
       const_cast<void*>(gy.const_data_ptr()),
       nullptr},
      algorithm,
      gy,
      x,
      std::nullopt,
      gw);
}

} // namespace
} // namespace torchconv

STABLE_TORCH_LIBRARY_FRAGMENT(torchconv, m) {
  m.def(
      "conv_forward(Tensor x, Tensor weight, Tensor? bias, SymInt[] stride, "
      "SymInt[] padding, SymInt[] dilation, SymInt groups, str padding_mode, "
      "bool channels_last, str algorithm) -> Tensor");
  m.def(
      "conv_input_grad(Tensor grad, Tensor weight, Tensor? bias, "
      "SymInt[] input_size, SymInt[] stride, SymInt[] padding, "
      "SymInt[] dilation, SymInt groups, str padding_mode, "
      "bool channels_last, str algorithm) -> Tensor");
  m.def(
      "conv_weight_grad(Tensor grad, Tensor x, SymInt[] weight_size, "
      "SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups, "
      "str padding_mode, bool channels_last, str algorithm) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(torchconv, CPU, m) {
  m.impl("conv_forward", TORCH_BOX(&torchconv::conv_forward));
  m.impl("conv_input_grad", TORCH_BOX(&torchconv::conv_input_grad));
  m.impl("conv_weight_grad", TORCH_BOX(&torchconv::conv_weight_grad));
}
