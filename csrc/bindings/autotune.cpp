#include "bindings/autotune.h"

#include <array>

#include "bindings/conv_cpu.h"
#include "core/parallel.h"
#include "cpu/isa.h"

namespace torchconv {
namespace {

// Whether torch's convolution can express the problem: it has one number of
// padding for each dimension, and a bound on its output padding.
bool torch_takes(const ConvProblem& p, Pass pass, Ints* output_padding) {
  if (p.mode != PaddingMode::zeros || p.dtype == DType::i64) {
    return false;
  }
  for (int d = 0; d < 3; ++d) {
    if (p.low[d] != p.high[d]) {
      return false;
    }
    const int64_t span = (p.out[d] - 1) * p.stride[d] - 2 * p.low[d] +
        p.dilation[d] * (p.kernel[d] - 1) + 1;
    const int64_t more = p.in[d] - span;
    if (pass == Pass::input_grad &&
        (p.out[d] < 1 || more < 0 ||
         (more >= p.stride[d] && more >= p.dilation[d]))) {
      return false;
    }
    (*output_padding)[d] = pass == Pass::input_grad ? more : 0;
  }
  return true;
}

// The data without autograd, which may be on where the dispatcher is entered.
Tensor detached(const Tensor& x) {
  namespace detail = torch::stable::detail;
  std::array<StableIValue, 1> stack{detail::from(x)};
  STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher(
      "aten::detach", "", stack.data(), TORCH_ABI_VERSION));
  return detail::to<Tensor>(stack[0]);
}

Ints last(const int64_t* v, int nd) {
  return Ints(v + 3 - nd, v + 3);
}

// aten::convolution, transposed for input_grad; aten::convolution_backward for
// weight_grad.
Tensor by_torch(const TunedCall& c) {
  namespace detail = torch::stable::detail;
  const ConvProblem& p = c.p;
  const int nd = spatial_dims(c.first);
  Ints extra(3);
  STD_TORCH_CHECK(torch_takes(p, c.pass, &extra), "torch cannot express this");
  const Ints stride = last(p.stride, nd);
  const Ints padding = last(p.low, nd);
  const Ints dilation = last(p.dilation, nd);
  const Ints output_padding = last(extra.data(), nd);
  const Tensor first = detached(c.first);
  const Tensor second = detached(c.second);
  if (c.pass == Pass::weight_grad) {
    const bool mask[] = {false, true, false};
    // grad, input, weight (its size alone), bias_sizes, ..., output_mask
    std::array<StableIValue, 11> stack{
        detail::from(first),
        detail::from(second),
        detail::from(c.result),
        detail::from(std::nullopt),
        detail::from(stride),
        detail::from(padding),
        detail::from(dilation),
        detail::from(false),
        detail::from(output_padding),
        detail::from(p.groups),
        detail::from(torch::headeronly::HeaderOnlyArrayRef<bool>(mask, 3))};
    STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher(
        "aten::convolution_backward", "", stack.data(), TORCH_ABI_VERSION));
    const Tensor none_x = detail::to<Tensor>(stack[0]);
    const Tensor none_b = detail::to<Tensor>(stack[2]);
    return detail::to<Tensor>(stack[1]);
  }
  std::optional<Tensor> bias;
  if (c.bias.has_value()) {
    bias = detached(*c.bias);
  }
  std::array<StableIValue, 9> stack{
      detail::from(first),
      detail::from(second),
      detail::from(bias),
      detail::from(stride),
      detail::from(padding),
      detail::from(dilation),
      detail::from(c.pass == Pass::input_grad),
      detail::from(output_padding),
      detail::from(p.groups)};
  STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher(
      "aten::convolution", "", stack.data(), TORCH_ABI_VERSION));
  return detail::to<Tensor>(stack[0]);
}

// torch's result, with the strides that the operator promises.
Tensor torch_result(const TunedCall& c) {
  Tensor y = by_torch(c);
  if (!same_strides(y, c.result)) {
    Tensor result = c.result;
    y = torch::stable::copy_(result, y);
  }
  finish_on_cpu(c.p, c.t.epilogue, y);
  return y;
}

void run_row(const ConvAlgorithm* a, const TunedCall& c) {
  run_row_on_cpu(
      a, a->workspace(c.p, c.pass, pool_threads()), c.p, c.pass, c.t);
}

} // namespace

std::optional<Tensor> run_tuned(const TunedCall& c) {
  const auto& table = cpu_conv_algorithms();
  const TuningPlace at = {
      cpu::isa_name(cpu::active_isa()), pool_threads(), c.exact};
  const auto contenders = [&] {
    std::vector<Contender> found;
    for (const ConvAlgorithm* a : table) {
      if (tuning_allows(a, c.p, c.pass, at)) {
        found.push_back({a->name, [a, &c] { run_row(a, c); }});
      }
    }
    if (tuning().include_torch) {
      found.push_back({kTorch, [&c] { torch_result(c); }});
    }
    return found;
  };
  const TunedChoice choice = tuned_choice(table, c.p, c.pass, at, contenders);
  if (choice.torch) {
    return torch_result(c);
  }
  if (choice.algorithm == nullptr) {
    return std::nullopt;
  }
  run_row(choice.algorithm, c);
  return c.result;
}

} // namespace torchconv
