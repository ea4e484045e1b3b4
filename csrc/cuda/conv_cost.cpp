#include "cuda/conv_cost.h"

#include <algorithm>
#include <cmath>

namespace torchconv {
namespace cuda {

double peak_rate(const ConvProblem& p, Unit unit) {
  // Multiply-adds, half of the FLOP/s of the data sheet, times 1e-9.
  switch (p.dtype) {
    case DType::f64:
      return unit == Unit::tensor ? 33500 : 16700;
    case DType::f16:
    case DType::bf16:
      // mma.sync reaches some two thirds of what wgmma does.
      return unit == Unit::tensor ? 330000 : 33500;
    case DType::i64:
      return 2000; // several instructions each
    default:
      return unit == Unit::tensor && p.tf32 ? 165000 : 33500;
  }
}

double kernel_cost(double products, double rate, double share, double bytes) {
  return 3000 + std::max(products / (rate * share), bytes / 4300);
}

double fill(double blocks, double blocks_per_processor) {
  const double slots = kProcessors * blocks_per_processor;
  const double waves = std::max(1.0, std::ceil(blocks / slots));
  return std::max(blocks, 1.0) / (waves * slots);
}

} // namespace cuda
} // namespace torchconv
