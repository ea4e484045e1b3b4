// unfold and fold: tensors to problems.
#include "bindings/pool.h"

#include "cpu/fold.h"

namespace torchconv {
namespace {

cpu::FoldType fold_type_of(const Tensor& x, const char* op) {
  switch (x.scalar_type()) {
    case ScalarType::Float:
      return cpu::FoldType::f32;
    case ScalarType::Double:
      return cpu::FoldType::f64;
    case ScalarType::Half:
      return cpu::FoldType::f16;
    case ScalarType::BFloat16:
      return cpu::FoldType::bf16;
    case ScalarType::ComplexFloat:
      return cpu::FoldType::c64;
    case ScalarType::ComplexDouble:
      return cpu::FoldType::c128;
    case ScalarType::Bool:
      return cpu::FoldType::boolean;
    default:
      STD_TORCH_CHECK(
          false,
          "torchconv::",
          op,
          " is not implemented for dtype ",
          torch::headeronly::toString(x.scalar_type()));
  }
}

Tensor unfold(
    const Tensor& x,
    const Ints& kernel_size,
    const Ints& dilation,
    const Ints& padding,
    const Ints& stride) {
  const cpu::FoldType type = fold_type_of(x, "unfold");
  cpu::FoldProblem f{};
  f.p = pool_problem(
      size_of(x), kernel_size, stride, padding, dilation, false, "unfold");
  set_pool_x(f.p, x);
  Tensor columns = allocate(
      {f.p.batch, f.p.channels * pool_taps(f.p), pool_out_plane(f.p)},
      x.scalar_type());
  if (f.p.batch * f.p.channels > 0) {
    cpu::unfold(f, type, x.const_data_ptr(), columns.mutable_data_ptr());
  }
  return columns;
}

Tensor fold(
    const Tensor& columns,
    const Ints& output_size,
    const Ints& kernel_size,
    const Ints& dilation,
    const Ints& padding,
    const Ints& stride) {
  const cpu::FoldType type = fold_type_of(columns, "fold");
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
  cpu::FoldProblem f{};
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
  Tensor image = allocate(size, columns.scalar_type());
  if (f.p.batch * f.p.channels > 0) {
    cpu::fold(f, type, columns.const_data_ptr(), image.mutable_data_ptr());
  }
  return image;
}

} // namespace
} // namespace torchconv

STABLE_TORCH_LIBRARY_FRAGMENT(torchconv, m) {
  m.def(
      "unfold(Tensor x, SymInt[] kernel_size, SymInt[] dilation, "
      "SymInt[] padding, SymInt[] stride) -> Tensor");
  m.def(
      "fold(Tensor columns, SymInt[] output_size, SymInt[] kernel_size, "
      "SymInt[] dilation, SymInt[] padding, SymInt[] stride) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(torchconv, CPU, m) {
  m.impl("unfold", TORCH_BOX(&torchconv::unfold));
  m.impl("fold", TORCH_BOX(&torchconv::fold));
}
