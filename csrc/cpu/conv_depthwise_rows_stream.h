// Kernels of 3 x 3 taps (times any depth) over rows where they lie, a column of
// vectors from the first row to the last: each row of the source is loaded once
// and multiplied into the three rows of results that it reaches, whose sums stay
// in registers. Read once per instruction set, after conv_depthwise_rows_tile.h.
//
// The columns of the kernel are the loaded vectors shifted by a lane, which costs
// less than loading again: such a load straddles two cache lines.

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

#if defined(TC_AVX512)

// What the three taps of a kernel row see of a source row: V vectors each. x is
// where the first tap of vector v reads, mask that of vector v of tap 0.
template <typename A, int S, int V>
inline void load_taps(
    const RowsProblem<A>& p,
    const A* x,
    const LaneMask<A>* mask,
    Vec<A> (&in)[3][V]) {
  constexpr int L = kLanes<A>;
  if constexpr (S == 1) {
    const LaneMask<A>* middle = mask + p.vectors;
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) {
      in[1][j] = held<A>(load_where<A>(x + 1 + j * L, middle[j]));
    }
    in[0][0] = held<A>(load_where<A>(x, mask[0]));
    in[2][V - 1] =
        held<A>(load_where<A>(x + 2 + (V - 1) * L, middle[p.vectors + V - 1]));
#pragma GCC unroll 8
    for (int j = 1; j < V; ++j) {
      in[0][j] = shifted<L - 1, A>(in[1][j - 1], in[1][j]);
      in[2][j - 1] = shifted<1, A>(in[1][j - 1], in[1][j]);
    }
  } else {
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) {
      const Vec<A> low = load_where<A>(x + 2 * j * L, mask[2 * j]);
      const Vec<A> high = load_where<A>(x + (2 * j + 1) * L, mask[2 * j + 1]);
      in[0][j] = every_other<0, A>(low, high);
      in[1][j] = every_other<1, A>(low, high);
    }
    // The third tap is the first one's next position.
    const Vec<A> next =
        load_where<A>(x + 2 + (2 * V - 1) * L, mask[4 * p.vectors + 2 * V - 1]);
    const Vec<A> last = shifted<L - 2, A>(next, next);
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) {
      in[2][j] = shifted<1, A>(in[0][j], j + 1 < V ? in[0][j + 1] : last);
    }
  }
}

template <typename A, int V>
inline void multiply_taps(
    const Vec<A> (&w)[3],
    const Vec<A> (&in)[3][V],
    Vec<A> (&acc)[V]) {
#pragma GCC unroll 4
  for (int t = 0; t < 3; ++t) {
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) {
      acc[j] += w[t] * in[t][j];
    }
  }
}

// Vectors v .. v + V - 1 of rows y0 .. y1 - 1 of plane z. Deep: the kernel may
// be deeper than 1, and its weights do not stay in registers.
template <typename A, int S, int V, bool Deep>
void stream_column(
    const RowsProblem<A>& p,
    const A* source,
    const A* weight,
    A bias,
    int64_t z,
    int64_t y0,
    int64_t y1,
    int64_t v,
    A* result) {
  constexpr int L = kLanes<A>;
  // Planes of the source that exist.
  int64_t first = 0, last = p.kernel0;
  const int64_t from = z * p.stride0 - p.low[0];
  while (first < last && from + first * p.dilation0 < 0) {
    ++first;
  }
  while (first < last && from + (last - 1) * p.dilation0 >= p.source_size[0]) {
    --last;
  }
  const A* x = source + (from + first * p.dilation0) * p.source_plane +
      (y0 * S - p.low[1]) * p.source_row + v * S * L - p.low[2];
  const A* w0 = weight + first * p.w[0];
  const LaneMask<A>* mask = &p.masks[v * S];
  Vec<A> w[3][3];
  const auto load_weights = [&](const A* at) {
#pragma GCC unroll 4
    for (int k = 0; k < 3; ++k) {
#pragma GCC unroll 4
      for (int t = 0; t < 3; ++t) {
        w[k][t] = broadcast(at[k * p.w[1] + t * p.w[2]]);
      }
    }
  };
  if (!Deep) { // where no plane exists they are read, too, but not used
    load_weights(first < last ? w0 : weight);
  }
  constexpr int N = S == 1 ? 3 : 2; // rows of results at a time
  Vec<A> acc[N][V];
  const Vec<A> b = broadcast(bias);
  const LaneMask<A> own = p.own[v + V - 1];
  A* out = result + y0 * p.row + v * L;
  const auto start = [&](Vec<A>(&sums)[V]) {
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) {
      sums[j] = b;
    }
  };
  const auto finish = [&](const Vec<A>(&sums)[V]) {
#pragma GCC unroll 8
    for (int j = 0; j < V - 1; ++j) {
      store(out + j * L, sums[j]);
    }
    store_where<A>(out + (V - 1) * L, sums[V - 1], own);
    out += p.row;
  };
  // Adds what a row of the source brings: f(taps, weights).
  int64_t y = y0 * S - p.low[1];
  const auto row = [&](const auto& f) __attribute__((always_inline)) {
    if (y >= 0 && y < p.source_size[1]) {
      Vec<A> in[3][V];
      if constexpr (Deep) {
        const A* at = x;
        const A* of = w0;
        for (int64_t a = first; a < last; ++a) {
          load_taps<A, S, V>(p, at, mask, in);
          load_weights(of);
          f(in);
          at += p.dilation0 * p.source_plane;
          of += p.w[0];
        }
      } else {
        if (first < last) {
          load_taps<A, S, V>(p, x, mask, in);
          f(in);
        }
      }
    }
    x += p.source_row;
    ++y;
  };
  // Row i of the source, counted from the first that the results reach, starts
  // result i / S and completes result (i - 2) / S.
  if constexpr (S == 1) {
    const auto step = [&](auto phase,
                          bool store) __attribute__((always_inline)) {
      constexpr int P = decltype(phase)::value;
      start(acc[P]);
      row([&](const Vec<A>(&in)[3][V]) __attribute__((always_inline)) {
        multiply_taps<A, V>(w[2], in, acc[(P + 1) % 3]);
        multiply_taps<A, V>(w[1], in, acc[(P + 2) % 3]);
        multiply_taps<A, V>(w[0], in, acc[P]);
      });
      if (store) {
        finish(acc[(P + 1) % 3]);
      }
    };
    start(acc[1]);
    start(acc[2]);
    for (int64_t i = 0; i < y1 - y0 + 2; i += 3) {
      step(std::integral_constant<int, 0>{}, i >= 2);
      if (i + 1 < y1 - y0 + 2) {
        step(std::integral_constant<int, 1>{}, i >= 1);
      }
      if (i + 2 < y1 - y0 + 2) {
        step(std::integral_constant<int, 2>{}, true);
      }
    }
  } else {
    const auto step =
        [&](auto phase, bool store, bool more) __attribute__((always_inline)) {
          constexpr int P = decltype(phase)::value;
          start(acc[P]);
          row([&](const Vec<A>(&in)[3][V]) __attribute__((always_inline)) {
            multiply_taps<A, V>(w[2], in, acc[1 - P]);
            multiply_taps<A, V>(w[0], in, acc[P]);
          });
          if (store) {
            finish(acc[1 - P]);
          }
          if (more) {
            row([&](const Vec<A>(&in)[3][V]) __attribute__((always_inline)) {
              multiply_taps<A, V>(w[1], in, acc[P]);
            });
          }
        };
    start(acc[1]);
    for (int64_t i = 0; i <= y1 - y0; i += 2) {
      step(std::integral_constant<int, 0>{}, i > 0, i < y1 - y0);
      if (i < y1 - y0) {
        step(std::integral_constant<int, 1>{}, true, i + 1 < y1 - y0);
      }
    }
  }
}

template <typename A, int S, bool Deep, int V>
void stream_band(
    const RowsProblem<A>& p,
    const A* source,
    const A* weight,
    A bias,
    int64_t z,
    int64_t y0,
    int64_t y1,
    int64_t v,
    A* result) {
  for (; v + V <= p.vectors; v += V) {
    stream_column<A, S, V, Deep>(p, source, weight, bias, z, y0, y1, v, result);
  }
  if constexpr (V > 1) {
    if (v < p.vectors) {
      stream_band<A, S, Deep, V - 1>(
          p, source, weight, bias, z, y0, y1, v, result);
    }
  }
}

#endif

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
