// Convolution with a kernel per output position: tensors to problems. The
// weight is (*tile, K, C / groups, *kernel), the bias (*tile, K).
#include "bindings/conv.h"

#include "core/parallel.h"
#include "cpu/conv_local.h"

namespace torchconv {
namespace {

void set_strides(const Tensor& t, Strides* s) {
  int64_t size[3];
  s->n = t.strides()[0];
  s->c = t.strides()[1];
  spatial3(t, size, s->s);
}

// x_size: (N, C, *spatial); w_size: (*tile, K, C / groups, *kernel).
template <typename XSize, typename WSize>
cpu::LocalProblem local_problem(
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
  cpu::LocalProblem p;
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

Tensor workspace_for(const cpu::LocalProblem& p, Pass pass) {
  return allocate_workspace(cpu::conv_local_workspace(p, pass, pool_threads()));
}

void check_grad(const ConvProblem& p, const Tensor& gy, const char* op) {
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

void check_same(const Tensor& a, const Tensor& b, const char* op) {
  STD_TORCH_CHECK(
      a.scalar_type() == b.scalar_type(),
      "torchconv::",
      op,
      ": arguments differ in dtype");
}

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
  check_same(x, weight, op);
  cpu::LocalProblem p = local_problem(
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
    check_same(x, *bias, op);
    STD_TORCH_CHECK(
        bias->numel() ==
            p.tile[0] * p.tile[1] * p.tile[2] * p.conv.out_channels,
        "torchconv::",
        op,
        ": bias needs one element for each kernel of the weight");
    b = torch::stable::contiguous(*bias);
  }
  const Tensor w = torch::stable::contiguous(weight);
  Tensor y = allocate(size, x.scalar_type(), channels_last);
  set_strides(x, &p.conv.x);
  set_strides(y, &p.conv.y);
  if (y.numel() > 0) {
    const Tensor workspace = workspace_for(p, Pass::forward);
    cpu::conv_local_forward(
        p,
        x.const_data_ptr(),
        w.const_data_ptr(),
        b.has_value() ? b->const_data_ptr() : nullptr,
        y.mutable_data_ptr(),
        workspace.mutable_data_ptr());
  }
  return y;
}

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
  check_same(gy, weight, op);
  cpu::LocalProblem p = local_problem(
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
  Tensor gx = allocate(input_size, gy.scalar_type(), channels_last);
  set_strides(gx, &p.conv.x);
  set_strides(gy, &p.conv.y);
  if (gx.numel() > 0) {
    const Tensor workspace = workspace_for(p, Pass::input_grad);
    cpu::conv_local_input_grad(
        p,
        gy.const_data_ptr(),
        w.const_data_ptr(),
        gx.mutable_data_ptr(),
        workspace.mutable_data_ptr());
  }
  return gx;
}

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
  check_same(gy, x, op);
  cpu::LocalProblem p = local_problem(
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
  Tensor gw = allocate(weight_size, gy.scalar_type());
  set_strides(x, &p.conv.x);
  set_strides(gy, &p.conv.y);
  if (gw.numel() > 0) {
    const Tensor workspace = workspace_for(p, Pass::weight_grad);
    cpu::conv_local_weight_grad(
        p,
        gy.const_data_ptr(),
        x.const_data_ptr(),
        gw.mutable_data_ptr(),
        workspace.mutable_data_ptr());
  }
  return gw;
}

} // namespace
} // namespace torchconv

STABLE_TORCH_LIBRARY_FRAGMENT(torchconv, m) {
  m.def(
      "local_conv_forward(Tensor x, Tensor weight, Tensor? bias, "
      "SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups, "
      "str padding_mode, bool channels_last) -> Tensor");
  m.def(
      "local_conv_input_grad(Tensor grad, Tensor weight, SymInt[] input_size, "
      "SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups, "
      "str padding_mode, bool channels_last) -> Tensor");
  m.def(
      "local_conv_weight_grad(Tensor grad, Tensor x, SymInt[] weight_size, "
      "SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups, "
      "str padding_mode) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(torchconv, CPU, m) {
  m.impl("local_conv_forward", TORCH_BOX(&torchconv::local_conv_forward));
  m.impl("local_conv_input_grad", TORCH_BOX(&torchconv::local_conv_input_grad));
  m.impl(
      "local_conv_weight_grad", TORCH_BOX(&torchconv::local_conv_weight_grad));
}
