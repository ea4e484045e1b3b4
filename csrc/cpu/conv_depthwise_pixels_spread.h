// input_grad of stride 2 over pixels where they lie: a pixel of gy is loaded once
// for the four phases of results around it. Read once per instruction set, after
// conv_depthwise_pixels_tile.h.
//
// In each dimension result 2 c + q gathers even taps t = 2 m from gy position
// c + (low + 1) / 2 - m where q + low is even, else odd taps t = 2 m + 1 from
// c + low / 2 - m.

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// Results of positions (y, x .. x + P - 1), up to four each, of plane z. K: rows
// and columns of the kernel; Odd: whether their low padding is odd; Edge: some
// columns of gy may lie outside.
template <typename S, int K, bool Odd, int P, bool Edge>
void spread_tile(
    const PixelsProblem& p,
    const S* source,
    const acc_t<S>* weight,
    const acc_t<S>* bias,
    int64_t z,
    int64_t y,
    int64_t x,
    S* result) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  constexpr int D = (K + 1) / 2; // rows and columns of gy that a position sees
  Vec<A> acc[4][P]; // even and odd taps: rows, columns
  fill(acc, load(bias));
  const int64_t row = y + (p.low[1] + 1) / 2 - (D - 1);
  const int64_t column = x + (p.low[2] + 1) / 2 - (D - 1);
  const uint32_t columns = bits(-column, p.source_size[2] - column);
  for (int64_t a = 0; a < p.kernel[0]; ++a) {
    const int64_t at = z + p.low[0] - a * p.dilation0;
    const int64_t from = p.stride[0] == 1 ? at : at / p.stride[0];
    if (at < 0 || from * p.stride[0] != at || from >= p.source_size[0]) {
      continue;
    }
    const A* w = weight + a * K * K * L;
    const S* line =
        source + from * p.source[0] + row * p.source[1] + column * p.source[2];
    unrolled<D>([&](auto i) __attribute__((always_inline)) {
      constexpr int d = D - 1 - decltype(i)::value;
      if (row + i >= 0 && row + i < p.source_size[1]) {
        const S* pixel = line;
        Vec<A> in[P + D - 1];
#pragma GCC unroll 16
        for (int j = 0; j < P + D - 1; ++j, advance(pixel, p.source[2])) {
          in[j] = !Edge || (columns >> j & 1) ? load_as(pixel) : Vec<A>{};
          in[j] = held<A>(in[j]);
        }
        const auto taps = [&](auto parity,
                              auto tap) __attribute__((always_inline)) {
          constexpr int k = decltype(tap)::value;
          if constexpr (k >= 0 && k < K) {
            unrolled<K>([&](auto t) __attribute__((always_inline)) {
              constexpr int T = decltype(t)::value;
              // Position j sees in[j + D - 1 - m] by an even tap.
              constexpr int first = D - 1 - T / 2 - (T % 2 != 0 && Odd ? 1 : 0);
              const Vec<A> wt = held<A>(load(w + (T * K + k) * L));
#pragma GCC unroll 16
              for (int j = 0; j < P; ++j) {
                acc[decltype(parity)::value * 2 + T % 2][j] +=
                    wt * in[j + first];
              }
            });
          }
        };
        taps(
            std::integral_constant<int, 0>{},
            std::integral_constant<int, 2 * d>{});
        taps(
            std::integral_constant<int, 1>{},
            std::integral_constant<int, 2 * (d - (Odd ? 1 : 0)) + 1>{});
      }
      advance(line, p.source[1]);
    });
  }
#pragma GCC unroll 2
  for (int q = 0; q < 2; ++q) {
    if (2 * y + q >= p.size[1]) {
      continue;
    }
    S* out = result + (2 * y + q) * p.result[1] + 2 * x * p.result[2];
    const int rows = (Odd ? 1 - q : q) * 2;
#pragma GCC unroll 16
    for (int j = 0; j < P; ++j, out += 2 * p.result[2]) {
      store_as(out, acc[rows + (Odd ? 1 : 0)][j]);
      if (2 * (x + j) + 1 < p.size[2]) {
        store_as(out + p.result[2], acc[rows + (Odd ? 0 : 1)][j]);
      }
    }
  }
}

constexpr int kSpreadPixels = kRegisters == 32 ? 4 : 2;

template <typename S>
struct SpreadTiles {
  Tile<S> tile[2]; // [edge]
  Tile<S> one; // position
};

template <typename S, int K, bool Odd>
SpreadTiles<S> spread_tiles() {
  constexpr int P = kSpreadPixels;
  return {
      {spread_tile<S, K, Odd, P, false>, spread_tile<S, K, Odd, P, true>},
      spread_tile<S, K, Odd, 1, true>};
}
template <typename S, int K>
SpreadTiles<S> spread_tiles(bool odd) {
  return odd ? spread_tiles<S, K, true>() : spread_tiles<S, K, false>();
}

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
