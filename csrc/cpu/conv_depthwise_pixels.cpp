// Depthwise convolution of channels_last tensors without a strip: pixels are
// read where they lie, channels in the lanes. Taps that only see the padding are
// left out of the sums, and so are their multiply-adds.
//
// A tile is R rows x P pixels of results of one unit of lanes, in registers.
// Kernels of 3, 5 and 7 rows have one to three columns of their weights there
// too (block_tile); taller ones read them from the first-level cache (run_tile).
//
// input_grad of stride 1 is forward with the kernel turned around. Where the
// channels are no multiple of the lanes the last unit overlaps the one before.
//
// A result is summed tap by tap in an order that its tile has no part in.

#include <algorithm>
#include <type_traits>
#include <utility>

#include "core/parallel.h"
#include "cpu/conv_depthwise.h"

#ifndef TC_ISA
#define TC_SELF "cpu/conv_depthwise_pixels.cpp"
#include "cpu/foreach_isa.h"

namespace torchconv {
namespace cpu {

void run_depthwise_pixels(
    const StripShape& s,
    const ConvTensors& t,
    void* workspace) {
  switch (s.p.dtype) {
    case DType::f32:
      return TC_DISPATCH(run_pixels<float>)(s, t, workspace);
    case DType::f64:
      return TC_DISPATCH(run_pixels<double>)(s, t, workspace);
    case DType::f16:
      return TC_DISPATCH(run_pixels<half>)(s, t, workspace);
    default:
      return TC_DISPATCH(run_pixels<bfloat16>)(s, t, workspace);
  }
}

} // namespace cpu
} // namespace torchconv

#else // one instruction set

#include "cpu/simd.h"
#include "cpu/shuffle.h"
#include "cpu/conv_depthwise_stage.h"

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// A pass as a correlation: `result` gathers from `source`; for weight_grad they
// are gy and x. Strides are in elements.
struct PixelsProblem {
  int64_t kernel[3], stride[3], dilation0;
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
  uint32_t columns(const PixelsProblem& p, int64_t t) const {
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

// Kernels of K rows, T columns of it at a time, all of their weights in
// registers: a pixel is loaded once for all the results that use it then. Edge:
// some rows or columns of the source may lie outside.
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
      const S* line = column + t0 * pixel;
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
    for (; t + T <= p.kernel[2]; t += T) {
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
      const S* line =
          source + from * p.source[0] + at.row * row + (at.column + t) * pixel;
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
template <typename S, int K, int T, int Step, int R, int P>
constexpr Tile<S> pick(bool edge) {
  if constexpr (K == 0) {
    return edge ? run_tile<S, R, P, true> : run_tile<S, R, P, false>;
  } else {
    return edge ? block_tile<S, K, T, Step, R, P, true>
                : block_tile<S, K, T, Step, R, P, false>;
  }
}

template <typename S, int K, int T, int Step, int R, int P>
Tiles<S> tiles() {
  Tiles<S> t;
  t.rows = R;
  t.pixels = P;
  for (int edge = 0; edge < 2; ++edge) {
    t.tile[0][0][edge] = pick<S, K, T, Step, R, P>(edge);
    t.tile[0][1][edge] = pick<S, K, T, Step, R, 1>(edge);
    t.tile[1][0][edge] = pick<S, K, T, Step, (R > 2 ? 2 : 1), P>(edge);
    t.tile[1][1][edge] = pick<S, K, T, Step, (R > 2 ? 2 : 1), 1>(edge);
    t.tile[2][0][edge] = pick<S, K, T, Step, 1, P>(edge);
    t.tile[2][1][edge] = pick<S, K, T, Step, 1, 1>(edge);
  }
  return t;
}

// As many sums as registers hold beside the weights; 7 pixels, because the
// usual widths 7, 14, 28, 56 and 112 are multiples.
template <typename S, int K, int Step>
Tiles<S> tiles_for(int64_t width) {
  constexpr int T = K == 3 ? 3 : 2;
  if constexpr (kRegisters == 16) {
    return tiles<S, K, 1, Step, 2, K == 7 ? 3 : 4>();
  } else if (width % 7 == 0) {
    return tiles<S, K, T, Step, 2, 7>();
  } else {
    return tiles<S, K, K == 7 ? 1 : T, Step, 2, 8>();
  }
}

template <typename S>
class Pixels {
  using A = acc_t<S>;
  static constexpr int L = kLanes<A>;

 public:
  Pixels(const StripShape& s, const ConvTensors& t) : s_(s), c_(s.p), t_(t) {
    const bool backward = s.pass == Pass::input_grad;
    for (int d = 0; d < 3; ++d) {
      p_.kernel[d] = c_.kernel[d];
      p_.stride[d] = backward ? 1 : c_.stride[d];
      p_.source_size[d] = s.source.size[d];
      p_.size[d] = s.dest.size[d];
      p_.source[d] = s.source.stride.s[d];
      p_.result[d] = s.dest.stride.s[d];
      p_.low[d] = backward ? (c_.kernel[d] - 1) * c_.dilation[d] - c_.low[d]
                           : c_.low[d];
    }
    p_.dilation0 = c_.dilation[0];
  }

  void gather(void* workspace) const {
    A* weight = static_cast<A*>(workspace);
    A* bias = weight + s_.units * c_.taps() * L;
    pack(weight, bias);
    const Tiles<S> t = choose_tiles();
    // All rows of a band before the next, and all planes: they share pixels.
    const int64_t bands = ceil_div(p_.size[1], t.rows);
    // Neighbouring units of a tile: they share cache lines or follow each other.
    const int64_t chunks = ceil_div(s_.units, p_.kernel[1] == 3 ? 8 : 4);
    const int64_t items = c_.batch * bands * p_.size[0] * chunks;
    const int64_t grain =
        1 + static_cast<int64_t>(kGrainWork * items / (conv_flops(c_) / 2 + 1));
    const bool backward = s_.pass == Pass::input_grad;
    const S* source = static_cast<const S*>(backward ? t_.y : t_.x);
    S* dest = static_cast<S*>(backward ? t_.x : t_.y);
    parallel_for(items, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t chunk = i % chunks, z = i / chunks % p_.size[0];
        const int64_t band = i / chunks / p_.size[0] % bands;
        const int64_t n = i / chunks / p_.size[0] / bands;
        gather_band(
            t,
            source + n * s_.source.stride.n,
            weight,
            bias,
            s_.units * chunk / chunks,
            s_.units * (chunk + 1) / chunks,
            z,
            band * t.rows,
            dest + n * s_.dest.stride.n + z * p_.result[0]);
      }
    });
  }

 private:
  // The last unit ends with the last channel.
  int64_t channel(int64_t unit) const {
    return std::min(unit * L, c_.groups - L);
  }

  Tiles<S> choose_tiles() const {
    const int64_t width = p_.size[2];
    const bool twice = p_.stride[2] == 2;
    switch (p_.kernel[1]) {
      case 3:
        return twice ? tiles_for<S, 3, 2>(width) : tiles_for<S, 3, 1>(width);
      case 5:
        return twice ? tiles_for<S, 5, 2>(width) : tiles_for<S, 5, 1>(width);
      case 7:
        return twice ? tiles_for<S, 7, 2>(width) : tiles_for<S, 7, 1>(width);
      default:
        return kRegisters == 16 ? tiles<S, 0, 0, 1, 2, 2>()
                                : tiles<S, 0, 0, 1, 4, 4>();
    }
  }

  // [unit][plane][column][row][lane], and the biases.
  void pack(A* to, A* bias) const {
    const S* w = static_cast<const S*>(t_.w);
    const S* b = static_cast<const S*>(t_.bias);
    const bool backward = s_.pass == Pass::input_grad;
    const int64_t taps = c_.taps(), k1 = c_.kernel[1], k2 = c_.kernel[2];
    const bool dense = gapless(c_.w, c_.kernel);
    // Where tap i, as they lie, goes.
    const auto place = [&](int64_t i) {
      i = backward ? taps - 1 - i : i;
      return i / (k1 * k2) * k1 * k2 + i % k2 * k1 + i / k2 % k1;
    };
    for (int64_t u = 0; u < s_.units; ++u, to += taps * L) {
      const int64_t c = channel(u);
      const S* from = w + c * c_.w.n;
      if (dense) {
        for_vectors<L>(taps, [&](int64_t first, int count) {
          turn(from + first, c_.w.n, L, count, [&](int i, Vec<A> v) {
            if (i < count) {
              store(to + place(first + i) * L, v);
            }
          });
        });
      } else {
        for (int64_t i = 0; i < taps; ++i) {
          const int64_t offset = i / (k1 * k2) * c_.w.s[0] +
              i / k2 % k1 * c_.w.s[1] + i % k2 * c_.w.s[2];
          for (int l = 0; l < L; ++l) {
            to[place(i) * L + l] = static_cast<A>(from[offset + l * c_.w.n]);
          }
        }
      }
      for (int l = 0; l < L; ++l) {
        *bias++ = b == nullptr ? A(0) : static_cast<A>(b[c + l]);
      }
    }
  }

  // Rows y .. of plane z, as many as a tile has.
  void gather_band(
      const Tiles<S>& t,
      const S* source,
      const A* weight,
      const A* bias,
      int64_t first_unit,
      int64_t last_unit,
      int64_t z,
      int64_t y,
      S* result) const {
    const int64_t end = std::min(y + t.rows, p_.size[1]);
    while (y < end) {
      const int which = end - y >= t.rows ? 0
          : end - y >= 2 && t.rows > 2    ? 1
                                          : 2;
      const int64_t rows = which == 0 ? t.rows : which == 1 ? 2 : 1;
      const int64_t first = y * p_.stride[1] - p_.low[1];
      const bool inside = first >= 0 &&
          first + (rows - 1) * p_.stride[1] + p_.kernel[1] <= p_.source_size[1];
      const bool narrow = p_.size[2] < t.pixels;
      const int64_t pixels = narrow ? 1 : t.pixels;
      for (int64_t i = 0; i < p_.size[2]; i += pixels) {
        const int64_t x = std::min(i, p_.size[2] - pixels);
        const int64_t column = x * p_.stride[2] - p_.low[2];
        const bool edge = !inside || column < 0 ||
            column + (pixels - 1) * p_.stride[2] + p_.kernel[2] >
                p_.source_size[2];
        const Tile<S> tile = t.tile[which][narrow][edge];
        for (int64_t u = first_unit; u < last_unit; ++u) {
          const int64_t c = channel(u);
          tile(
              p_,
              source + c,
              weight + u * c_.taps() * L,
              bias + u * L,
              z,
              y,
              x,
              result + c);
        }
      }
      y += rows;
    }
  }

  const StripShape& s_;
  const ConvProblem& c_;
  const ConvTensors& t_;
  PixelsProblem p_;
};

} // namespace

template <typename S>
void run_pixels(const StripShape& s, const ConvTensors& t, void* workspace) {
  Pixels<S>(s, t).gather(workspace);
}
template void run_pixels<float>(const StripShape&, const ConvTensors&, void*);
template void run_pixels<double>(const StripShape&, const ConvTensors&, void*);
template void run_pixels<half>(const StripShape&, const ConvTensors&, void*);
template void run_pixels<bfloat16>(
    const StripShape&,
    const ConvTensors&,
    void*);

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

#endif
