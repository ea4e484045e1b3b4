#include "cpu/conv_cost.h"

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

double tile_cost(const ConvProblem& p, Pass pass, bool columns) {
  const int64_t L = vector_lanes(p.dtype);
  const int64_t lanes = pass == Pass::input_grad ? p.in_group() : p.out_group();
  const double used = static_cast<double>(lanes) / ((lanes + L - 1) / L * L);
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
  return product / (fma_rate(p.dtype) * used) + copies + 300.0 * p.groups;
}

} // namespace cpu
} // namespace torchconv
