// weight_grad over rows where they lie: a vector of sums for each tap; read once
// per instruction set, after conv_depthwise_rows_stream.h.

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// The sums of T neighbouring taps of every kernel row over rows y0 .. y1 - 1,
// added to sums[kernel row][tap of the row]: p.source is x, `gradient` gy.
template <typename A, int K1, int T>
void grad_rows(
    const RowsProblem<A>& p,
    const A* x,
    const A* gradient,
    int64_t z,
    int64_t a,
    int64_t t,
    A* sums) {
  constexpr int L = kLanes<A>;
  constexpr int R = K1 == 1 ? 1 : 4;
  const int64_t from = z * p.stride0 + a * p.dilation0 - p.low[0];
  if (from < 0 || from >= p.source_size[0]) {
    return;
  }
  Vec<A> acc[T][K1] = {};
  const A* plane = x + from * p.source_plane + t * p.dilation2 - p.low[2];
  for (int64_t v = 0; v < p.vectors; ++v) {
    const LaneMask<A>* mask = &p.masks[t * p.vectors + v];
    const bool free = K1 == 1 && v >= p.whole[0] && v < p.whole[1];
    const auto step = [&](auto full, int64_t y) __attribute__((always_inline)) {
      constexpr bool Full = decltype(full)::value; // R rows of gy
      const int rows =
          Full ? R : static_cast<int>(std::min<int64_t>(R, p.size[1] - y));
      const A* gy = gradient + y * p.row + v * L;
      Vec<A> g[R];
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        g[r] = Vec<A>{};
        if (r < rows) {
          g[r] = load_where<A>(gy + r * p.row, p.own[v]);
        }
        g[r] = held<A>(g[r]);
      }
      const int64_t first = y - p.low[1];
      const int64_t end =
          std::min<int64_t>(p.source_size[1] - first, rows + K1 - 1);
      const A* at = plane + first * p.source_row + v * L;
#pragma GCC unroll 16
      for (int i = 0; i < R + K1 - 1; ++i, at += p.source_row) {
        if (i < -first || i >= end) {
          continue;
        }
#pragma GCC unroll 8
        for (int j = 0; j < T; ++j) {
          const Vec<A> in = held<A>(
              free ? load(at + j * p.dilation2)
                   : load_where<A>(at + j * p.dilation2, mask[j * p.vectors]));
#pragma GCC unroll 8
          for (int k = 0; k < K1; ++k) {
            // Not by zeros where there is no row: x may hold an infinity.
            if (i - k >= 0 && i - k < R && (Full || i - k < rows)) {
              acc[j][k] += g[i - k] * in;
            }
          }
        }
      }
    };
    int64_t y = 0;
    for (; y + R <= p.size[1]; y += R) {
      step(std::true_type{}, y);
    }
    if (R > 1 && y < p.size[1]) {
      step(std::false_type{}, y);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < T; ++j) {
#pragma GCC unroll 8
    for (int k = 0; k < K1; ++k) {
      A* sum = sums + (k * p.kernel2 + j) * L;
      store(sum, load(sum) + acc[j][k]);
    }
  }
}

#if defined(TC_AVX512)

// Adds to sums[kernel row][tap of the row] what vectors v .. v + V - 1 of gy and
// of the plane of x under one plane of the kernel bring.
template <typename A, int S, int V>
void stream_grad_column(
    const RowsProblem<A>& p,
    const A* x,
    const A* gradient,
    int64_t v,
    A* sums) {
  constexpr int L = kLanes<A>;
  x += v * S * L - p.low[2] - p.low[1] * p.source_row;
  gradient += v * L;
  const LaneMask<A>* mask = &p.masks[v * S];
  const LaneMask<A> own = p.own[v + V - 1];
  const int64_t rows = p.size[1];
  Vec<A> acc[3][3], g[3][V] = {};
#pragma GCC unroll 16
  for (int i = 0; i < 9; ++i) {
    acc[i % 3][i / 3] = load(sums + i * L);
  }
  const auto load_gradient = [&](Vec<A>(&to)[V]) {
#pragma GCC unroll 8
    for (int j = 0; j < V - 1; ++j) {
      to[j] = held<A>(load(gradient + j * L));
    }
    to[V - 1] = held<A>(load_where<A>(gradient + (V - 1) * L, own));
    gradient += p.row;
  };
  int64_t y = -p.low[1];
  const auto exists = [&] { return y >= 0 && y < p.source_size[1]; };
  // Lanes without a result hold zeros: x may hold an infinity there.
  const auto load_row = [&](Vec<A>(&in)[3][V]) __attribute__((always_inline)) {
    load_taps<A, S, V>(p, x, mask, in);
#pragma GCC unroll 4
    for (int t = 0; t < 3; ++t) {
      if (S == 2 || (t == 0 && V > 1)) {
        in[t][V - 1] = where<A>(own, in[t][V - 1]);
      }
    }
  };
  const auto next = [&] {
    x += p.source_row;
    ++y;
  };
  const auto add = [&](auto k, const Vec<A>(&of)[V], const Vec<A>(&in)[3][V])
                       __attribute__((always_inline)) {
#pragma GCC unroll 8
                         for (int j = 0; j < V; ++j) {
#pragma GCC unroll 4
                           for (int t = 0; t < 3; ++t) {
                             acc[t][decltype(k)::value] += of[j] * in[t][j];
                           }
                         }
                       };
  constexpr std::integral_constant<int, 0> first{};
  constexpr std::integral_constant<int, 1> second{};
  constexpr std::integral_constant<int, 2> third{};
  // Row i of x, counted from the first that a tap sees, meets rows i, i - 1 and
  // i - 2 of gy, or, with stride 2, row i / 2 and, where i is even, the one
  // before. Not by zeros where there is none.
  if constexpr (S == 1) {
    const auto step = [&](auto phase, auto all, int64_t i)
                          __attribute__((always_inline)) {
                            constexpr int P = decltype(phase)::value;
                            constexpr bool All = decltype(all)::value;
                            if (All || i < rows) {
                              load_gradient(g[P]);
                            }
                            if (All || exists()) {
                              Vec<A> in[3][V];
                              load_row(in);
                              if (All || i < rows) {
                                add(first, g[P], in);
                              }
                              if (All || (i >= 1 && i - 1 < rows)) {
                                add(second, g[(P + 2) % 3], in);
                              }
                              if (All || (i >= 2 && i - 2 < rows)) {
                                add(third, g[(P + 1) % 3], in);
                              }
                            }
                            next();
                          };
    for (int64_t i = 0; i < rows + 2; i += 3) {
      if (i >= 2 && i + 3 <= rows && y >= 0 && y + 3 <= p.source_size[1]) {
        step(first, std::true_type{}, i);
        step(second, std::true_type{}, i + 1);
        step(third, std::true_type{}, i + 2);
      } else {
        step(first, std::false_type{}, i);
        step(second, std::false_type{}, i + 1);
        step(third, std::false_type{}, i + 2);
      }
    }
  } else {
    const auto step = [&](auto phase, int64_t i)
                          __attribute__((always_inline)) {
                            constexpr int P = decltype(phase)::value;
                            if (i < rows) {
                              load_gradient(g[P]);
                            }
                            if (exists()) {
                              Vec<A> in[3][V];
                              load_row(in);
                              if (i > 0 && i - 1 < rows) {
                                add(third, g[1 - P], in);
                              }
                              if (i < rows) {
                                add(first, g[P], in);
                              }
                            }
                            next();
                            if (i < rows && exists()) {
                              Vec<A> in[3][V];
                              load_row(in);
                              add(second, g[P], in);
                            }
                            next();
                          };
    for (int64_t i = 0; i <= rows; i += 2) {
      step(first, i);
      step(second, i + 1);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < 9; ++i) {
    store(sums + i * L, acc[i % 3][i / 3]);
  }
}

template <typename A, int S>
void stream_grad(
    const RowsProblem<A>& p,
    const A* x,
    const A* gradient,
    A* sums) {
  int64_t v = 0;
  for (; v + 2 <= p.vectors; v += 2) {
    stream_grad_column<A, S, 2>(p, x, gradient, v, sums);
  }
  if (v < p.vectors) {
    stream_grad_column<A, S, 1>(p, x, gradient, v, sums);
  }
}

#endif

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
