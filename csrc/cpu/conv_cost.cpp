#include "cpu/conv_cost.h"

#include <algorithm>

#include "core/conv_gather.h"
#include "cpu/isa.h"

namespace torchconv {
namespace cpu {

int64_t vector_lanes(DType dtype) {
  const int64_t bytes = active_isa() == Isa::avx512 ? 64
      : active_isa() == Isa::avx2                   ? 32
                                                    : 16;
  return bytes / (dtype == DType::f64 || dtype == DType::i64 ? 8 : 4);
}

double fma_rate(DType dtype) {
  // Two vectors a cycle at 3 GHz, at the share of it that the tiles reach;
  // without FMA a product and a sum take a slot each, and integers are slow.
  double rate = 2 * 3.0 * 0.85 * vector_lanes(dtype);
  if (active_isa() == Isa::baseline) {
    rate /= 2;
  }
  return dtype == DType::i64 ? rate / 4 : rate;
}

namespace {

double filled(int64_t n, int64_t lanes) {
  return n == 0 ? 1
                : static_cast<double>(n) / ((n + lanes - 1) / lanes * lanes);
}

// The share of the lanes that hold results: channels, with the phases of
// input_grad beside them where they can be, or, in strips, pixels of a row,
// whichever is more. Fewer than 8 chains of multiply-adds wait for one another.
double lanes_used(const ConvProblem& p, Pass pass, bool columns) {
  const int64_t L = vector_lanes(p.dtype);
  const bool forward = pass == Pass::forward;
  int64_t channels = pass == Pass::input_grad ? p.in_group() : p.out_group();
  if (columns || pass == Pass::weight_grad) {
    return filled(channels, L);
  }
  int64_t row = forward ? p.out[2] : p.in[2];
  if (!forward) {
    row = (row + p.stride[2] - 1) / p.stride[2];
    if (can_fold(p, pass)) {
      channels *= p.stride[0] * p.stride[1] * p.stride[2];
    }
  }
  const int64_t chains =
      std::min<int64_t>(channels, 14) * std::min<int64_t>((row + L - 1) / L, 4);
  const bool rows = (forward ? p.y : p.x).s[2] == 1;
  return std::max(
      filled(channels, L),
      rows ? filled(row, L) * std::min(1.0, chains / 8.0) : 0.0);
}

// What direct pays for strides between groups, too small for products to hide it:
// rows are sampled as they are copied, and results leave phase by phase, one by one
// where a group has fewer channels than a vector or these lie apart.
double strided_groups(const ConvProblem& p, Pass pass, double source) {
  if (pass == Pass::forward) {
    return p.x.s[2] == 1 && p.in_group() > 1 ? 0.15 * source : 0;
  }
  if (pass != Pass::input_grad || !can_fold(p, pass)) {
    return 0;
  }
  const bool vectors = p.x.c == 1 && p.in_group() >= vector_lanes(p.dtype);
  const double each = p.in_group() == 1 ? 0.7 : vectors ? 0.6 : 1.2;
  return each * p.batch * p.in_channels * p.in_pixels();
}

} // namespace

double tile_cost(const ConvProblem& p, Pass pass, bool columns) {
  const double used = lanes_used(p, pass, columns);
  const double product = conv_flops(p) / 2;
  const double source = 1.0 * p.batch *
      (pass == Pass::input_grad ? p.out_channels * p.out_pixels()
                                : p.in_channels * p.in_pixels());
  const double weights = 1.0 * p.out_channels * p.in_group() * p.taps();
  // Nanoseconds per element: copying a strip row, packing a weight, writing a
  // column element; and a fixed price per call and group.
  double copies = 0.1 * source + 0.3 * weights;
  if (columns) {
    copies += 0.5 * product / p.out_group();
  }
  if (!columns && p.groups > 1 && p.stride[2] > 1) {
    copies += strided_groups(p, pass, source);
  }
  return product / (fma_rate(p.dtype) * used) + copies + 300.0 * p.groups;
}

} // namespace cpu
} // namespace torchconv
