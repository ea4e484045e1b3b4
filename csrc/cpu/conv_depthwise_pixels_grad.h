// weight_grad over pixels where they lie: the sums of one unit of lanes over a
// band of rows; read once per instruction set, after
// conv_depthwise_pixels_tile.h, whose source is x and whose result is gy here.

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// Adds the products of R rows x P pixels of gy with the pixels of x under N
// columns of the kernel, K rows high. Edge: some of these may lie outside.
template <typename S, int K, int N, int Step, int R, int P, bool Edge>
inline __attribute__((always_inline)) void grad_tile(
    const PixelsProblem& p,
    const S* plane,
    const S* gradient,
    int64_t y,
    int64_t x,
    int64_t t0,
    Vec<acc_t<S>> (&acc)[N * K]) {
  using A = acc_t<S>;
  Vec<A> g[R][P];
  const S* gy = gradient + y * p.result[1] + x * p.result[2];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r, advance(gy, p.result[1])) {
    const S* pixel = gy;
#pragma GCC unroll 16
    for (int q = 0; q < P; ++q, advance(pixel, p.result[2])) {
      g[r][q] = held<A>(load_as(pixel));
    }
  }
  const TilePlace at(p, y, x);
  const uint32_t rows = Edge ? at.rows(p) : 0;
  const uint32_t columns = Edge ? at.columns(p, t0) : 0;
  const S* line = plane + at.row * p.source[1] +
      (at.column + t0 * p.dilation2) * p.source[2];
#pragma GCC unroll 16
  for (int i = 0; i < (R - 1) * Step + K; ++i, advance(line, p.source[1])) {
    if (Edge && !(rows >> i & 1)) {
      continue;
    }
    const S* pixel = line;
#pragma GCC unroll 32
    for (int j = 0; j < (P - 1) * Step + N; ++j, advance(pixel, p.source[2])) {
      if ((N == 1 && j % Step != 0) || (Edge && !(columns >> j & 1))) {
        continue;
      }
      const Vec<A> in = held<A>(load_as(pixel));
#pragma GCC unroll 16
      for (int t = 0; t < N; ++t) {
#pragma GCC unroll 16
        for (int k = 0; k < K; ++k) {
          const int r = (i - k) / Step, q = (j - t) / Step;
          if (i >= k && j >= t && (i - k) % Step == 0 && (j - t) % Step == 0 &&
              r < R && q < P) {
            acc[t * K + k] += g[r][q] * in;
          }
        }
      }
    }
  }
}

// N columns of taps from t0 on, over R rows of gy from y on; added to `sums`.
template <typename S, int K, int N, int Step, int R, int P>
void grad_columns(
    const PixelsProblem& p,
    const S* plane,
    const S* gradient,
    int64_t y,
    int64_t t0,
    acc_t<S>* sums) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  Vec<A> acc[N * K] = {};
  const TilePlace start(p, y, 0);
  const bool inside =
      start.row >= 0 && start.row + (R - 1) * Step + K <= p.source_size[1];
  int64_t x = 0;
  for (; x + P <= p.size[2]; x += P) {
    const int64_t column = x * Step - p.low[2] + t0 * p.dilation2;
    if (inside && column >= 0 &&
        column + (P - 1) * Step + N <= p.source_size[2]) {
      grad_tile<S, K, N, Step, R, P, false>(p, plane, gradient, y, x, t0, acc);
    } else {
      grad_tile<S, K, N, Step, R, P, true>(p, plane, gradient, y, x, t0, acc);
    }
  }
  for (; x < p.size[2]; ++x) {
    grad_tile<S, K, N, Step, R, 1, true>(p, plane, gradient, y, x, t0, acc);
  }
#pragma GCC unroll 16
  for (int i = 0; i < N * K; ++i) {
    store(sums + i * L, load(sums + i * L) + acc[i]);
  }
}

template <typename S, int K, int T, int Step, int R, int P>
void grad_rows(
    const PixelsProblem& p,
    const S* plane,
    const S* gradient,
    int64_t y,
    acc_t<S>* sums) {
  constexpr int L = kLanes<acc_t<S>>;
  int64_t t = 0;
  const int64_t together = T > 1 && p.dilation2 != 1 ? 0 : p.kernel[2];
  for (; t + T <= together; t += T) {
    grad_columns<S, K, T, Step, R, P>(p, plane, gradient, y, t, sums);
    sums += T * K * L;
  }
  if constexpr (T > 1) {
    for (; t < p.kernel[2]; ++t, sums += K * L) {
      grad_columns<S, K, 1, Step, R, P>(p, plane, gradient, y, t, sums);
    }
  }
}

// The sums [column][row][lane] of one plane of the kernel, of which `plane` is
// what x shows it, over up to two rows of gy.
template <typename S>
using GradBand =
    void (*)(const PixelsProblem&, const S*, const S*, int64_t, acc_t<S>*);

constexpr int kGradRows = 2;

// [one row less than kGradRows].
template <typename S>
struct GradBands {
  GradBand<S> band[2];
};

template <typename S, int K, int Step>
GradBands<S> grad_bands(int64_t width) {
  constexpr int T = K == 3 ? 3 : 2;
  if constexpr (kRegisters == 16) {
    return {
        {grad_rows < S,
         K,
         1,
         Step,
         2,
         K == 7 ? 3 : 4 >
         , grad_rows < S, K, 1, Step, 1, K == 7 ? 3 : 4 > }};
  } else if (width % 7 == 0 || !kWide<S, K, Step>) {
    return {{grad_rows<S, K, T, Step, 2, 7>, grad_rows<S, K, T, Step, 1, 7>}};
  } else {
    constexpr int P = kWide<S, K, Step> ? 8 : 7;
    constexpr int N = K == 7 && P == 8 ? 1 : T;
    return {{grad_rows<S, K, N, Step, 2, P>, grad_rows<S, K, N, Step, 1, P>}};
  }
}

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
