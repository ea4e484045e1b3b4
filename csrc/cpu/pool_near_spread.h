// Which outputs see the inputs of a row, for windows of K taps, S apart, with P
// elements of padding: input i * S + phase lies under tap t of output i + shift
// if S divides phase + P - t. The shifts are kFirst, kFirst + 1, ...; in their
// order outputs come in order.
#pragma once

namespace torchconv {
namespace cpu {

template <int K, int S, int P>
struct NearSpread {
  static_assert((K == 2 || K == 3) && (S == 1 || S == 2) && P <= 1, "near");
  static constexpr int kFirst = S == 1 ? P - K + 1 : K == 3 && P == 0 ? -1 : 0;
  static constexpr int kShifts = S == 1 ? K : K == 2 && P == 0 ? 1 : 2;

  // The tap of the output at the s-th shift; none if it is not in [0, K).
  static constexpr int tap(int phase, int s) {
    return phase + P - (kFirst + s) * S;
  }
  static constexpr bool sees(int phase, int s) {
    return tap(phase, s) >= 0 && tap(phase, s) < K;
  }
};

} // namespace cpu
} // namespace torchconv
