// Where the windows of fractional max pooling start.
#pragma once

#include <cstdint>

namespace torchconv {

// Start of window o of `out` along a dimension, from its random sample u, as
// torch draws it: in the arithmetic of the tensor's own type. `round` rounds to
// that type what A, the type of arithmetic, holds; each operation is rounded.
template <typename A, typename Round>
constexpr int64_t fractional_start(
    A u,
    int64_t o,
    int64_t in,
    int64_t out,
    int64_t kernel,
    const Round& round) {
  if (o == out - 1) {
    return in - kernel;
  }
  const A alpha = round(round(A(in - kernel)) / round(A(out - 1)));
  const A scaled[2] = {round(round(round(A(o)) + u) * alpha), round(u * alpha)};
  int64_t whole[2] = {0, 0}; // towards zero, and safe for any sample
  for (int i = 0; i < 2; ++i) {
    if (scaled[i] < A(1e9) && scaled[i] > -A(1e9)) {
      whole[i] = static_cast<int64_t>(scaled[i]);
    }
  }
  const int64_t start = whole[0] - whole[1];
  return start < 0 ? 0 : start > in - kernel ? in - kernel : start;
}

} // namespace torchconv
