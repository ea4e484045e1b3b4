// Register tiles over pixels where they lie (conv_depthwise_pixels.cpp), channels
// in the lanes; read once per instruction set, after shuffle.h.
//
// A tile is R rows x P pixels of results of one unit of lanes. Kernels of 3, 5
// and 7 rows have one to three columns of their weights in registers beside it
// (block_tile); taller ones read them from the first-level cache (run_tile).

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// A pass as a correlation: `result` gathers from `source`; for weight_grad they
// are gy and x. Strides are in elements.
struct PixelsProblem {
  int64_t kernel[3], stride[3], dilation0, dilation2;
  int64_t source_size[3], size[3];
  int64_t low[3]; // source coordinate of position 0 and tap 0, negated
  int64_t source[3], result[3];
};

// The bits [first, last) of 32.
inline uint32_t bits(int64_t first, int64_t last) {
  first = std::max<int64_t>(first, 0);
  last = std::min<int64_t>(last, 32);
  return first >= last
      ? 0
      : static_cast<uint32_t>((1ull << last) - (1ull << first));
}

// Where a tile reads: its first source row and column, and which of the rows
// from there on exist.
struct TilePlace {
  int64_t row, column;
  TilePlace(const PixelsProblem& p, int64_t y, int64_t x)
      : row(y * p.stride[1] - p.low[1]),
        column(x * p.stride[2] - p.low[2]) {}
  uint32_t rows(const PixelsProblem& p) const {
    return bits(-row, p.source_size[1] - row);
  }
  // Under tap t of a row of the kernel and those that follow it.
  uint32_t columns(const PixelsProblem& p, int64_t t) const {
    t *= p.dilation2;
    return bits(-column - t, p.source_size[2] - column - t);
  }
};

template <typename V, int R, int P>
inline void fill(V (&acc)[R][P], V value) {
#pragma GCC unroll 32
  for (int i = 0; i < R * P; ++i) {
    acc[i / P][i % P] = value;
  }
}

// Moves a pointer on. Were all of a tile's addresses known to the compiler to
// be multiples of a few strides, it would work them out beforehand and keep them
// on the stack.
template <typename S>
inline void advance(const S*& p, int64_t n) {
  p += n;
#if defined(__GNUC__)
  __asm__("" : "+r"(p));
#endif
}

// Calls f with the constants 0 .. N - 1.
template <typename F, int... I>
inline void unrolled(const F& f, std::integer_sequence<int, I...>) {
  (f(std::integral_constant<int, I>{}), ...);
}
template <int N, typename F>
inline void unrolled(const F& f) {
  unrolled(f, std::make_integer_sequence<int, N>{});
}

template <typename S, int R, int P>
inline void store_pixels(
    const PixelsProblem& p,
    const Vec<acc_t<S>> (&acc)[R][P],
    S* out) {
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int j = 0; j < P; ++j) {
      store_as(out + r * p.result[1] + j * p.result[2], acc[r][j]);
    }
  }
}

// Kernels of K rows, T columns of it at a time (one, where they are dilated), all
// of their weights in registers: a pixel is loaded once for all the results that
// use it then. Edge: some rows or columns of the source may lie outside.
template <typename S, int K, int T, int Step, int R, int P, bool Edge>
void block_tile(
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
  Vec<A> acc[R][P];
  fill(acc, load(bias));
  const TilePlace at(p, y, x);
  const uint32_t rows = at.rows(p);
  const int64_t row = p.source[1], pixel = p.source[2];
  for (int64_t a = 0; a < p.kernel[0]; ++a) {
    const int64_t from = z * p.stride[0] + a * p.dilation0 - p.low[0];
    if (from < 0 || from >= p.source_size[0]) {
      continue;
    }
    const A* column_weight = weight + a * p.kernel[2] * K * L;
    const S* column =
        source + from * p.source[0] + at.row * row + at.column * pixel;
    const auto block = [&](auto taps,
                           int64_t t0) __attribute__((always_inline)) {
      constexpr int N = decltype(taps)::value;
      Vec<A> w[N * K];
#pragma GCC unroll 16
      for (int i = 0; i < N * K; ++i) {
        w[i] = held<A>(load(column_weight + (t0 * K + i) * L));
      }
      const uint32_t columns = Edge ? at.columns(p, t0) : 0;
      const S* line = column + t0 * p.dilation2 * pixel;
#pragma GCC unroll 16
      for (int i = 0; i < (R - 1) * Step + K; ++i, advance(line, row)) {
        if (Edge && !(rows >> i & 1)) {
          continue;
        }
        const S* at_pixel = line;
#pragma GCC unroll 32
        for (int j = 0; j < (P - 1) * Step + N; ++j, advance(at_pixel, pixel)) {
          if ((N == 1 && j % Step != 0) || (Edge && !(columns >> j & 1))) {
            continue;
          }
          const Vec<A> in = held<A>(load_as(at_pixel));
#pragma GCC unroll 16
          for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
            for (int q = 0; q < P; ++q) {
              const int k = i - r * Step, t = j - q * Step;
              if (k >= 0 && k < K && t >= 0 && t < N) {
                acc[r][q] += w[t * K + k] * in;
              }
            }
          }
        }
      }
    };
    int64_t t = 0;
    const int64_t together = T > 1 && p.dilation2 != 1 ? 0 : p.kernel[2];
    for (; t + T <= together; t += T) {
      block(std::integral_constant<int, T>{}, t);
    }
    if constexpr (T > 1) {
      for (; t < p.kernel[2]; ++t) {
        block(std::integral_constant<int, 1>{}, t);
      }
    }
  }
  store_pixels<S, R, P>(p, acc, result + y * p.result[1] + x * p.result[2]);
}

// Kernels of R rows or more, by runs down a column: source row i meets result
// row r at tap i - r.
template <typename S, int R, int P, bool Edge>
void run_tile(
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
  Vec<A> acc[R][P];
  fill(acc, load(bias));
  const TilePlace at(p, y, x);
  const int64_t begin = std::max<int64_t>(0, -at.row);
  const int64_t end =
      std::min<int64_t>(p.kernel[1] + R - 1, p.source_size[1] - at.row);
  const int64_t row = p.source[1], pixel = p.source[2];
  for (int64_t a = 0; a < p.kernel[0]; ++a) {
    const int64_t from = z * p.stride[0] + a * p.dilation0 - p.low[0];
    if (from < 0 || from >= p.source_size[0]) {
      continue;
    }
    for (int64_t t = 0; t < p.kernel[2]; ++t) {
      const uint32_t columns = at.columns(p, t);
      if (Edge && (columns & ((1u << P) - 1)) == 0) {
        continue;
      }
      const A* w = weight + (a * p.kernel[2] + t) * p.kernel[1] * L;
      const S* line = source + from * p.source[0] + at.row * row +
          (at.column + t * p.dilation2) * pixel;
      Vec<A> wr[R];
      // Source row i and results First .. Last.
      const auto multiply =
          [&](auto first, auto last, int64_t i) __attribute__((always_inline)) {
            const S* at_pixel = line + i * row;
#pragma GCC unroll 16
            for (int j = 0; j < P; ++j, advance(at_pixel, pixel)) {
              if (Edge && !(columns >> j & 1)) {
                continue;
              }
              const Vec<A> in = held<A>(load_as(at_pixel));
#pragma GCC unroll 16
              for (int r = decltype(first)::value; r <= decltype(last)::value;
                   ++r) {
                acc[r][j] += wr[r] * in;
              }
            }
          };
      const auto weights = [&](int first, int last, int64_t i)
                               __attribute__((always_inline)) {
#pragma GCC unroll 16
                                 for (int r = first; r <= last; ++r) {
                                   wr[r] = held<A>(load(w + (i - r) * L));
                                 }
                               };
      const auto inside = [&](int64_t i) {
        return !Edge || (i >= begin && i < end);
      };
      unrolled<R - 1>([&](auto i) __attribute__((always_inline)) {
        if (inside(i)) {
          weights(0, i, i);
          multiply(std::integral_constant<int, 0>{}, i, i);
        }
      });
      const int64_t last = Edge ? std::min(p.kernel[1], end) : p.kernel[1];
      for (int64_t i = Edge ? std::max<int64_t>(R - 1, begin) : R - 1; i < last;
           ++i) {
        weights(0, R - 1, i);
        multiply(
            std::integral_constant<int, 0>{},
            std::integral_constant<int, R - 1>{},
            i);
      }
      unrolled<R - 1>([&](auto e) __attribute__((always_inline)) {
        if (inside(p.kernel[1] + e)) {
          weights(e + 1, R - 1, p.kernel[1] + e);
          multiply(
              std::integral_constant<int, decltype(e)::value + 1>{},
              std::integral_constant<int, R - 1>{},
              p.kernel[1] + e);
        }
      });
    }
  }
  store_pixels<S, R, P>(p, acc, result + y * p.result[1] + x * p.result[2]);
}

template <typename S>
using Tile = void (*)(
    const PixelsProblem&,
    const S*,
    const acc_t<S>*,
    const acc_t<S>*,
    int64_t,
    int64_t,
    int64_t,
    S*);

// The tiles of one problem.
template <typename S>
struct Tiles {
  int rows, pixels;
  Tile<S> tile[3][2][2]; // [rows, half of it, 1][pixels or 1][edge]
};

// K = 0: kernels of any height.
template <typename S, int K, int T, int Step, int R, int P, bool Edge>
constexpr Tile<S> pick() {
  if constexpr (K == 0) {
    return run_tile<S, R, P, Edge>;
  } else {
    return block_tile<S, K, T, Step, R, P, Edge>;
  }
}

template <typename S, int K, int T, int Step, int R, int P>
Tiles<S> tiles() {
  Tiles<S> t;
  t.rows = R;
  t.pixels = P;
  constexpr int kHalf = R > 2 ? 2 : 1;
  for (int edge = 0; edge < 2; ++edge) {
    // What is met seldom has one tile, that for edges.
    t.tile[0][0][edge] = edge ? pick<S, K, T, Step, R, P, true>()
                              : pick<S, K, T, Step, R, P, false>();
    t.tile[0][1][edge] = pick<S, K, T, Step, R, 1, true>();
    t.tile[1][0][edge] = pick<S, K, T, Step, kHalf, P, true>();
    t.tile[1][1][edge] = pick<S, K, T, Step, kHalf, 1, true>();
    t.tile[2][0][edge] = pick<S, K, T, Step, 1, P, true>();
    t.tile[2][1][edge] = pick<S, K, T, Step, 1, 1, true>();
  }
  return t;
}

// Tiles of 8 pixels, too, are compiled where it matters.
template <typename S, int K, int Step>
constexpr bool kWide = std::is_same_v<S, float> && (K == 3 || Step == 1);

// As many sums as registers hold beside the weights; 7 pixels, because the
// usual widths 7, 14, 28, 56 and 112 are multiples.
template <typename S, int K, int Step>
Tiles<S> tiles_for(int64_t width) {
  constexpr int T = K == 3 ? 3 : K == 1 ? 1 : 2;
  if constexpr (kRegisters == 16) {
    return tiles<S, K, 1, Step, 2, K == 7 ? 3 : 4>();
  } else if constexpr (K < 3) { // as long as their stores take
    return tiles<S, K, T, Step, 2, 8>();
  } else if (width % 7 == 0 || !kWide<S, K, Step>) {
    return tiles<S, K, T, Step, 2, 7>();
  } else {
    return tiles<
        S,
        K,
        (K == 7 && kWide<S, K, Step> ? 1 : T),
        Step,
        2,
        (kWide<S, K, Step> ? 8 : 7)>();
  }
}

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
