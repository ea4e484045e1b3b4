// Max pooling: sliding, adaptive and fractional.
#include "bindings/pool.h"

#include <tuple>

#include "cpu/pool_max.h"

namespace torchconv {
namespace {

using cpu::CodeKind;
using Pair = std::tuple<Tensor, Tensor>;

// The smallest code that can name a maximum: a tap of the window where there
// are few, else a position in the plane.
CodeKind flat_kind(const PoolProblem& p) {
  return pool_in_plane(p) < (int64_t{1} << 31) ? CodeKind::i32 : CodeKind::i64;
}
CodeKind small_kind(const PoolProblem& p) {
  return pool_taps(p) <= cpu::kMaxTapCode ? CodeKind::u8 : flat_kind(p);
}

ScalarType code_dtype(CodeKind kind) {
  return kind == CodeKind::u8 ? ScalarType::Byte
      : kind == CodeKind::i32 ? ScalarType::Int
                              : ScalarType::Long;
}

PoolProblem sliding(
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

PoolProblem adaptive(const Tensor& x, const Ints& output_size, const char* op) {
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

// Runs sliding or adaptive pooling; `make` builds the window tables.
template <typename Make>
Pair run(
    PoolProblem& p,
    const Tensor& x,
    CodeKind kind,
    bool channels_last,
    const Make& make) {
  const Ints size = pool_output_shape(p, spatial_dims(x));
  Tensor y = allocate(size, x.scalar_type(), channels_last);
  Tensor codes;
  if (kind != CodeKind::none) {
    codes = allocate(size, code_dtype(kind), channels_last);
  }
  set_pool_y(p, y);
  cpu::max_pool(
      make(p, kind),
      x.const_data_ptr(),
      y.mutable_data_ptr(),
      kind == CodeKind::none ? nullptr : codes.mutable_data_ptr());
  return {y, codes};
}

Tensor max_pool(
    const Tensor& x,
    const Ints& kernel,
    const Ints& stride,
    const Ints& padding,
    const Ints& dilation,
    bool ceil_mode,
    bool channels_last) {
  PoolProblem p =
      sliding(x, kernel, stride, padding, dilation, ceil_mode, "max_pool");
  return std::get<0>(
      run(p, x, CodeKind::none, channels_last, cpu::sliding_max_pool));
}

Pair max_pool_with_codes(
    const Tensor& x,
    const Ints& kernel,
    const Ints& stride,
    const Ints& padding,
    const Ints& dilation,
    bool ceil_mode,
    bool channels_last) {
  PoolProblem p = sliding(
      x, kernel, stride, padding, dilation, ceil_mode, "max_pool_with_codes");
  return run(p, x, small_kind(p), channels_last, cpu::sliding_max_pool);
}

Pair max_pool_with_indices(
    const Tensor& x,
    const Ints& kernel,
    const Ints& stride,
    const Ints& padding,
    const Ints& dilation,
    bool ceil_mode,
    bool channels_last) {
  PoolProblem p = sliding(
      x, kernel, stride, padding, dilation, ceil_mode, "max_pool_with_indices");
  return run(p, x, CodeKind::i64, channels_last, cpu::sliding_max_pool);
}

Tensor adaptive_max_pool(
    const Tensor& x,
    const Ints& output_size,
    bool channels_last) {
  PoolProblem p = adaptive(x, output_size, "adaptive_max_pool");
  return std::get<0>(
      run(p, x, CodeKind::none, channels_last, cpu::adaptive_max_pool));
}

Pair adaptive_max_pool_with_codes(
    const Tensor& x,
    const Ints& output_size,
    bool channels_last) {
  PoolProblem p = adaptive(x, output_size, "adaptive_max_pool_with_codes");
  return run(p, x, flat_kind(p), channels_last, cpu::adaptive_max_pool);
}

Pair adaptive_max_pool_with_indices(
    const Tensor& x,
    const Ints& output_size,
    bool channels_last) {
  PoolProblem p = adaptive(x, output_size, "adaptive_max_pool_with_indices");
  return run(p, x, CodeKind::i64, channels_last, cpu::adaptive_max_pool);
}

Pair fractional_max_pool(
    const Tensor& x,
    const Tensor& random_samples,
    const Ints& kernel,
    const Ints& output_size,
    bool channels_last) {
  const char* op = "fractional_max_pool";
  PoolProblem p = adaptive(x, output_size, op);
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
  const Tensor samples = torch::stable::contiguous(random_samples);
  const Ints size = pool_output_shape(p, nd);
  Tensor y = allocate(size, x.scalar_type(), channels_last);
  Tensor indices = allocate(size, ScalarType::Long, channels_last);
  set_pool_y(p, y);
  cpu::fractional_max_pool(
      p,
      nd,
      samples.const_data_ptr(),
      x.const_data_ptr(),
      y.mutable_data_ptr(),
      indices.mutable_data_ptr<int64_t>());
  return {y, indices};
}

} // namespace
} // namespace torchconv

STABLE_TORCH_LIBRARY_FRAGMENT(torchconv, m) {
  m.def(
      "max_pool(Tensor x, SymInt[] kernel_size, SymInt[] stride, "
      "SymInt[] padding, SymInt[] dilation, bool ceil_mode, "
      "bool channels_last) -> Tensor");
  m.def(
      "max_pool_with_codes(Tensor x, SymInt[] kernel_size, SymInt[] stride, "
      "SymInt[] padding, SymInt[] dilation, bool ceil_mode, "
      "bool channels_last) -> (Tensor, Tensor)");
  m.def(
      "max_pool_with_indices(Tensor x, SymInt[] kernel_size, SymInt[] stride, "
      "SymInt[] padding, SymInt[] dilation, bool ceil_mode, "
      "bool channels_last) -> (Tensor, Tensor)");
  m.def(
      "adaptive_max_pool(Tensor x, SymInt[] output_size, bool channels_last) "
      "-> Tensor");
  m.def(
      "adaptive_max_pool_with_codes(Tensor x, SymInt[] output_size, "
      "bool channels_last) -> (Tensor, Tensor)");
  m.def(
      "adaptive_max_pool_with_indices(Tensor x, SymInt[] output_size, "
      "bool channels_last) -> (Tensor, Tensor)");
  m.def(
      "fractional_max_pool(Tensor x, Tensor random_samples, "
      "SymInt[] kernel_size, SymInt[] output_size, bool channels_last) "
      "-> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(torchconv, CPU, m) {
  m.impl("max_pool", TORCH_BOX(&torchconv::max_pool));
  m.impl("max_pool_with_codes", TORCH_BOX(&torchconv::max_pool_with_codes));
  m.impl("max_pool_with_indices", TORCH_BOX(&torchconv::max_pool_with_indices));
  m.impl("adaptive_max_pool", TORCH_BOX(&torchconv::adaptive_max_pool));
  m.impl(
      "adaptive_max_pool_with_codes",
      TORCH_BOX(&torchconv::adaptive_max_pool_with_codes));
  m.impl(
      "adaptive_max_pool_with_indices",
      TORCH_BOX(&torchconv::adaptive_max_pool_with_indices));
  m.impl("fractional_max_pool", TORCH_BOX(&torchconv::fractional_max_pool));
}
