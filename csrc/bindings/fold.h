// unfold and fold: the operators for every device.
//
// Device is constructed from the tensor and the operator's name and has
//   unfold(f, type, x, columns), fold(f, type, columns, image)
#pragma once

#include "bindings/pool.h"
#include "core/fold_problem.h"

namespace torchconv {

inline FoldType fold_type_of(const Tensor& x, const char* op) {
  switch (x.scalar_type()) {
    case ScalarType::Float:
      return FoldType::f32;
    case ScalarType::Double:
      return FoldType::f64;
    case ScalarType::Half:
      return FoldType::f16;
    case ScalarType::BFloat16:
      return FoldType::bf16;
    case ScalarType::ComplexFloat:
      return FoldType::c64;
    case ScalarType::ComplexDouble:
      return FoldType::c128;
    case ScalarType::Bool:
      return FoldType::boolean;
    default:
      STD_TORCH_CHECK(
          false,
          "torchconv::",
          op,
          " is not implemented for dtype ",
          torch::headeronly::toString(x.scalar_type()));
  }
}

template <typename Device>
Tensor unfold(
    const Tensor& x,
    const Ints& kernel_size,
    const Ints& dilation,
    const Ints& padding,
    const Ints& stride) {
  const Device device(x, "unfold");
  const FoldType type = fold_type_of(x, "unfold");
  FoldProblem f{};
  f.p = pool_problem(
      size_of(x), kernel_size, stride, padding, dilation, false, "unfold");
  set_pool_x(f.p, x);
  Tensor columns = allocate(
      {f.p.batch, f.p.channels * pool_taps(f.p), pool_out_plane(f.p)},
      x.scalar_type(),
      false,
      &x);
  if (f.p.batch * f.p.channels > 0) {
    device.unfold(f, type, x.const_data_ptr(), columns.mutable_data_ptr());
  }
  return columns;
}

template <typename Device>
Tensor fold(
    const Tensor& columns,
    const Ints& output_size,
    const Ints& kernel_size,
    const Ints& dilation,
    const Ints& padding,
    const Ints& stride) {
  const Device device(columns, "fold");
  const FoldType type = fold_type_of(columns, "fold");
  STD_TORCH_CHECK(
      columns.dim() == 3,
      "torchconv::fold expects columns of 3 dimensions, got ",
      columns.dim());
  int64_t taps = 1;
  for (const int64_t k : kernel_size) {
    STD_TORCH_CHECK(k > 0, "torchconv::fold: kernel_size must be positive");
    taps *= k;
  }
  const int64_t rows = columns.sizes()[1], positions = columns.sizes()[2];
  STD_TORCH_CHECK(
      rows % taps == 0,
      "torchconv::fold: ",
      rows,
      " rows of columns cannot be shared out among ",
      taps,
      " taps");
  Ints size{columns.sizes()[0], rows / taps};
  size.insert(size.end(), output_size.begin(), output_size.end());
  FoldProblem f{};
  f.p =
      pool_problem(size, kernel_size, stride, padding, dilation, false, "fold");
  STD_TORCH_CHECK(
      pool_out_plane(f.p) == positions,
      "torchconv::fold: output_size has ",
      pool_out_plane(f.p),
      " windows, columns have ",
      positions);
  f.columns_n = columns.strides()[0];
  f.columns_row = columns.strides()[1];
  f.columns_position = columns.strides()[2];
  Tensor image = allocate(size, columns.scalar_type(), false, &columns);
  if (f.p.batch * f.p.channels > 0) {
    device.fold(f, type, columns.const_data_ptr(), image.mutable_data_ptr());
  }
  return image;
}

// Registers unfold and fold, as Device computes them.
template <typename Device>
void register_fold(torch::stable::detail::StableLibrary& m) {
  m.impl("unfold", TORCH_BOX(&unfold<Device>));
  m.impl("fold", TORCH_BOX(&fold<Device>));
}

} // namespace torchconv
