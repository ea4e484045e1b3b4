// A convolution problem from the arguments of an operator.
#pragma once

#include <algorithm>

#include "bindings/tensor.h"

#include "core/conv_problem.h"

namespace torchconv {

// What the name of an algorithm ends with where torch's settings allow TF32
// for float32 (torchconv/_config.py): so a compiled graph holds the permission
// that held when it was traced, and a backward pass that of its forward.
inline constexpr char kTf32[] = "+tf32";

// Takes the ending off the name, and notes it in the problem.
inline std::string take_tf32(const std::string& name, ConvProblem* p) {
  const size_t length = sizeof(kTf32) - 1;
  p->tf32 = name.size() > length &&
      name.compare(name.size() - length, length, kTf32) == 0;
  return p->tf32 ? name.substr(0, name.size() - length) : name;
}

// x_size: (N, C, *spatial), w_size: (K, C / groups, *kernel). The strides are
// left to the caller. These checks are the last line of defence; the messages
// users see are raised in Python.
template <typename XSize, typename WSize>
ConvProblem conv_problem(
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
      nd >= 1 && nd <= 3 && static_cast<int>(w_size.size()) == nd + 2 &&
          static_cast<int>(stride.size()) == nd &&
          static_cast<int>(padding.size()) == 2 * nd &&
          static_cast<int>(dilation.size()) == nd,
      "torchconv::",
      op,
      ": x and weight need the same 3 to 5 dimensions, stride and dilation one "
      "number per spatial dimension, padding two");
  ConvProblem p = {};
  STD_TORCH_CHECK(
      parse_padding_mode(padding_mode.c_str(), &p.mode),
      "torchconv::",
      op,
      ": unknown padding_mode '",
      padding_mode,
      "'");
  p.dtype = dtype;
  p.groups = groups;
  p.batch = x_size[0];
  p.in_channels = x_size[1];
  p.out_channels = w_size[0];
  STD_TORCH_CHECK(
      groups > 0 && p.in_channels == w_size[1] * groups &&
          p.out_channels % groups == 0,
      "torchconv::",
      op,
      ": channels do not fit: x has ",
      p.in_channels,
      ", weight (",
      p.out_channels,
      ", ",
      w_size[1],
      ", ...), groups ",
      groups);
  for (int i = 0; i < 3; ++i) {
    const int d = i - (3 - nd);
    p.in[i] = d >= 0 ? x_size[d + 2] : 1;
    p.kernel[i] = d >= 0 ? w_size[d + 2] : 1;
    p.stride[i] = d >= 0 ? stride[d] : 1;
    p.dilation[i] = d >= 0 ? dilation[d] : 1;
    p.low[i] = d >= 0 ? padding[2 * d] : 0;
    p.high[i] = d >= 0 ? padding[2 * d + 1] : 0;
    STD_TORCH_CHECK(
        p.kernel[i] > 0 && p.stride[i] > 0 && p.dilation[i] > 0 &&
            p.low[i] >= 0 && p.high[i] >= 0,
        "torchconv::",
        op,
        ": kernel, stride and dilation must be positive, padding not negative");
    const int64_t widest = p.low[i] > p.high[i] ? p.low[i] : p.high[i];
    constexpr int64_t kMost = int64_t{1} << 40; // sums of products fit 64 bits
    STD_TORCH_CHECK(
        widest <= kMost && p.dilation[i] <= kMost,
        "torchconv::",
        op,
        ": padding ",
        widest,
        " or dilation ",
        p.dilation[i],
        " is above 2^40");
    STD_TORCH_CHECK(
        p.mode == PaddingMode::zeros || widest == 0 ||
            (p.in[i] > 0 &&
             (p.mode == PaddingMode::replicate ||
              widest < p.in[i] + (p.mode == PaddingMode::circular))),
        "torchconv::",
        op,
        ": padding ",
        widest,
        " is too wide for padding_mode '",
        padding_mode,
        "' on an input of size ",
        p.in[i]);
    // Beyond the padded input all strides are one: loops over their phases end.
    const int64_t span = p.in[i] + p.low[i] + p.high[i];
    p.stride[i] = std::min(p.stride[i], std::max<int64_t>(span, 1));
    p.out[i] = conv_output_size(
        p.in[i], p.kernel[i], p.stride[i], p.dilation[i], p.low[i], p.high[i]);
  }
  return p;
}

} // namespace torchconv
