// Sums of weight_grad into the weight. Read once per instruction set.

namespace torchconv {
namespace cpu {
namespace TC_ISA {

// acc[channel][tap][column] to channels c0 .. c0 + channel_count of the filters
// from k0 on, which the columns are.
template <typename S>
void store_weights(
    const ConvProblem& p,
    int64_t k0,
    int64_t c0,
    int64_t channel_count,
    const ColumnBlock& columns,
    const acc_t<S>* acc,
    S* w) {
  const int64_t taps = p.taps();
  const int width = columns.vectors * kLanes<acc_t<S>>;
  S* to = w + k0 * p.w.n + c0 * p.w.c;
  int64_t row = 0;
  bool dense = true; // (c, t) follow one another in the weight
  const auto each = [&](auto f) {
    row = 0;
    for (int64_t c = 0; c < channel_count; ++c) {
      for (int64_t j0 = 0; j0 < p.kernel[0]; ++j0) {
        for (int64_t j1 = 0; j1 < p.kernel[1]; ++j1) {
          for (int64_t j2 = 0; j2 < p.kernel[2]; ++j2, ++row) {
            f(c * p.w.c + j0 * p.w.s[0] + j1 * p.w.s[1] + j2 * p.w.s[2]);
          }
        }
      }
    }
  };
  each([&](int64_t off) { dense = dense && off == row; });
  if (dense) {
    store_tile<S>(
        acc,
        static_cast<int>(channel_count * taps),
        width,
        columns.valid,
        nullptr,
        to,
        p.w.n,
        1);
    return;
  }
  if (p.w.c == 1) { // channels innermost: a transpose for each tap
    row = 0;
    for (int64_t j0 = 0; j0 < p.kernel[0]; ++j0) {
      for (int64_t j1 = 0; j1 < p.kernel[1]; ++j1) {
        for (int64_t j2 = 0; j2 < p.kernel[2]; ++j2, ++row) {
          store_tile<S>(
              acc + row * width,
              static_cast<int>(channel_count),
              taps * width,
              columns.valid,
              nullptr,
              to + j0 * p.w.s[0] + j1 * p.w.s[1] + j2 * p.w.s[2],
              p.w.n,
              1);
        }
      }
    }
    return;
  }
  each([&](int64_t off) {
    for (int k = 0; k < columns.valid; ++k) {
      to[off + k * p.w.n] = S(acc[row * width + k]);
    }
  });
}

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
