// Pooling problems from tensors: shared by every kind of pooling.
#pragma once

#include "bindings/tensor.h"

#include "core/pool_problem.h"

namespace torchconv {

// The element types that some pooling of torch's takes on the CPU.
inline DType pool_dtype_of(const Tensor& x, const char* op) {
  switch (x.scalar_type()) {
    case ScalarType::Int:
      return DType::i32;
    case ScalarType::Short:
      return DType::i16;
    case ScalarType::Char:
      return DType::i8;
    case ScalarType::Byte:
      return DType::u8;
    default:
      return dtype_of(x, op);
  }
}

inline void set_pool_x(PoolProblem& p, const Tensor& x) {
  p.x_stride_n = x.strides()[0];
  p.x_stride_c = x.strides()[1];
  int64_t size[3];
  spatial3(x, size, p.x_stride);
}

inline void set_pool_y(PoolProblem& p, const Tensor& y) {
  p.y_stride_n = y.strides()[0];
  p.y_stride_c = y.strides()[1];
  int64_t size[3];
  spatial3(y, size, p.y_stride);
}

// The problem's sizes for an input of size (N, C, *spatial); dtype, output
// size and strides are left to the caller, windows have one tap.
inline PoolProblem pool_sizes(const Ints& input_size, const char* op) {
  const int nd = static_cast<int>(input_size.size()) - 2;
  STD_TORCH_CHECK(
      nd >= 1 && nd <= 3,
      "torchconv::",
      op,
      " expects an input of 3 to 5 dimensions, got ",
      input_size.size());
  PoolProblem p{};
  p.batch = input_size[0];
  p.channels = input_size[1];
  for (int i = 0; i < 3; ++i) {
    const int d = i - (3 - nd);
    p.in[i] = d >= 0 ? input_size[d + 2] : 1;
    p.out[i] = p.kernel[i] = p.stride[i] = p.dilation[i] = 1;
  }
  return p;
}

// As above, with sliding windows and the output size they give.
inline PoolProblem pool_problem(
    const Ints& input_size,
    const Ints& kernel,
    const Ints& stride,
    const Ints& padding,
    const Ints& dilation,
    bool ceil_mode,
    const char* op) {
  PoolProblem p = pool_sizes(input_size, op);
  const size_t nd = input_size.size() - 2;
  STD_TORCH_CHECK(
      kernel.size() == nd && stride.size() == nd && padding.size() == nd &&
          dilation.size() == nd,
      "torchconv::",
      op,
      " expects one kernel_size, stride, padding and dilation for each of the ",
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
        ": kernel_size, stride and dilation must be positive and padding not "
        "negative");
    p.out[i] = pool_output_size(
        p.in[i],
        p.kernel[i],
        p.stride[i],
        p.padding[i],
        p.dilation[i],
        ceil_mode);
    STD_TORCH_CHECK(
        p.in[i] > 0 && p.out[i] > 0,
        "torchconv::",
        op,
        ": the input is smaller than one window along spatial dimension ",
        i - (3 - n));
  }
  return p;
}

inline Ints size_of(const Tensor& x) {
  const auto sizes = x.sizes();
  return Ints(sizes.begin(), sizes.end());
}

// Whether the result, which is to be contiguous, is better computed with its
// channels innermost, as the input has them, and copied: some of torch's 3-d
// poolings give contiguous results of channels_last inputs.
template <typename Device>
bool computed_channels_last(
    const Tensor& x,
    const PoolProblem& p,
    bool channels_last) {
  return Device::kOneLayout && !channels_last && x.dim() > 3 &&
      p.channels > 1 && x.strides()[1] == 1 && pool_in_plane(p) > 1 &&
      pool_out_plane(p) > 1;
}

inline Tensor contiguous_copy(const Tensor& y) {
  Tensor copy = allocate(size_of(y), y.scalar_type(), false, &y);
  torch::stable::copy_(copy, y);
  return copy;
}

// (N, C, *out), with as many spatial dimensions as the problem came with.
inline Ints pool_output_shape(const PoolProblem& p, int nd) {
  Ints size{p.batch, p.channels};
  size.insert(size.end(), p.out + (3 - nd), p.out + 3);
  return size;
}

} // namespace torchconv
