// Long kernels of one dimension and stride 1 over rows where they lie, positions
// in the lanes; read once per instruction set, after conv_depthwise_rows_tile.h.
//
// A shifted vector straddles two cache lines and costs two loads. As long as
// kernels are longer than a vector, each is used twice: what is tap t of vector v
// is tap t + L of the vector before.
//
// Masks are shifted from bits of many lanes: a table of them, with an entry for
// every tap and vector, would take longer to fill than a channel to multiply.

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

#if defined(TC_AVX512)

// Which of the 64 elements of a source row from `at` on exist, as bits.
template <typename A>
inline uint64_t seen_from(const RowsProblem<A>& p, int64_t at) {
  const int64_t first = std::max<int64_t>(0, -at);
  const int64_t last = std::min<int64_t>(64, p.source_size[2] - at);
  return first >= last ? 0
                       : ~uint64_t{0} >> (64 - last) & ~uint64_t{0} << first;
}

// Vectors v .. v + V - 1 of a row. Edge: some of what they read may lie outside.
template <typename A, int V, bool Edge>
void line_tile(
    const RowsProblem<A>& p,
    const A* source,
    const A* weight,
    A bias,
    int64_t v,
    A* result) {
  constexpr int L = kLanes<A>;
  const int64_t taps = p.kernel2, step = p.w[2];
  const int64_t column = v * L - p.low[2];
  const A* x = source + column;
  Vec<A> acc[V];
#pragma GCC unroll 16
  for (int j = 0; j < V; ++j) {
    acc[j] = broadcast(bias);
  }
  uint64_t seen[V] = {}; // from tap t0 of vector v + j on: 3 L lanes at most
  // What tap t0 + t of vector v + j sees.
  const auto get = [&](int64_t t0, int64_t t, int j) __attribute__((
                       always_inline)) {
    const A* at = x + t0 + t + j * L;
    if constexpr (Edge) {
      return held<A>(load_where<A>(at, static_cast<LaneMask<A>>(seen[j] >> t)));
    } else {
      return held<A>(load(at));
    }
  };
  for (int64_t t0 = 0; t0 < taps; t0 += 2 * L) {
    if constexpr (Edge) {
      for (int j = 0; j < V; ++j) {
        seen[j] = seen_from(p, column + t0 + j * L);
      }
    }
    const int64_t first = std::min<int64_t>(L, taps - t0);
    const int64_t both = std::min<int64_t>(L, taps - t0 - L);
    int64_t t = 0;
    for (; t < both; ++t) {
      const A* w = weight + (t0 + t) * step;
      const Vec<A> low = broadcast(w[0]), high = broadcast(w[L * step]);
      acc[0] += low * get(t0, t, 0);
#pragma GCC unroll 16
      for (int j = 1; j < V; ++j) {
        const Vec<A> in = get(t0, t, j);
        acc[j - 1] += high * in;
        acc[j] += low * in;
      }
      acc[V - 1] += high * get(t0, t + L, V - 1);
    }
    for (; t < first; ++t) {
      const Vec<A> low = broadcast(weight[(t0 + t) * step]);
#pragma GCC unroll 16
      for (int j = 0; j < V; ++j) {
        acc[j] += low * get(t0, t, j);
      }
    }
  }
  A* out = result + v * L;
#pragma GCC unroll 16
  for (int j = 0; j < V - 1; ++j) {
    store(out + j * L, acc[j]);
  }
  store_where<A>(out + (V - 1) * L, acc[V - 1], p.own[v + V - 1]);
}

// Vectors v .. end - 1, V at a time and then fewer.
template <typename A, int V, bool Edge>
void line_tiles(
    const RowsProblem<A>& p,
    const A* source,
    const A* weight,
    A bias,
    int64_t v,
    int64_t end,
    A* result) {
  for (; v + V <= end; v += V) {
    line_tile<A, V, Edge>(p, source, weight, bias, v, result);
  }
  if constexpr (V > 1) {
    if (v < end) {
      line_tiles<A, V / 2, Edge>(p, source, weight, bias, v, end, result);
    }
  }
}

// A row: the vectors that need masks for some tap, and those that do not.
template <typename A>
void line_row(
    const RowsProblem<A>& p,
    const A* source,
    const A* weight,
    A bias,
    A* result) {
  const int64_t first = std::min(p.whole[0], p.vectors);
  const int64_t last = std::max(first, p.whole[1]);
  line_tiles<A, 2, true>(p, source, weight, bias, 0, first, result);
  line_tiles<A, 16, false>(p, source, weight, bias, first, last, result);
  line_tiles<A, 2, true>(p, source, weight, bias, last, p.vectors, result);
}

// The sums of taps t .. t + T - 1, and of those L further on (Two), over a row.
template <typename A, int T, bool Two>
void line_grad(
    const RowsProblem<A>& p,
    const A* source,
    const A* gradient,
    int64_t t,
    A* sums) {
  constexpr int L = kLanes<A>;
  Vec<A> acc[2][T] = {};
  Vec<A> before = {};
  // With Two, the vector of x after the last meets the last of gy.
  for (int64_t v = 0; v < p.vectors + (Two ? 1 : 0); ++v) {
    const int64_t column = v * L - p.low[2] + t;
    const A* x = source + column;
    Vec<A> g = {};
    const bool inner = v > 0 && column >= 0 && (v + 1) * L <= p.size[2] &&
        column + T - 1 + L <= p.source_size[2];
    if (inner) {
      g = held<A>(load(gradient + v * L));
#pragma GCC unroll 16
      for (int i = 0; i < T; ++i) {
        const Vec<A> in = held<A>(load(x + i));
        acc[0][i] += g * in;
        if (Two) {
          acc[1][i] += before * in;
        }
      }
    } else {
      // Lanes without a result read nothing: x may hold an infinity there.
      const uint64_t seen = seen_from(p, column);
      const bool own = v < p.vectors;
      const LaneMask<A> here = own ? p.own[v] : LaneMask<A>(0);
      const LaneMask<A> past = v > 0 ? p.own[v - 1] : LaneMask<A>(0);
      if (own) {
        g = load_where<A>(gradient + v * L, here);
      }
#pragma GCC unroll 16
      for (int i = 0; i < T; ++i) {
        if (own) {
          acc[0][i] += g * load_where<A>(x + i, LaneMask<A>(seen >> i) & here);
        }
        if (Two && v > 0) {
          acc[1][i] +=
              before * load_where<A>(x + i, LaneMask<A>(seen >> i) & past);
        }
      }
    }
    before = g;
  }
#pragma GCC unroll 16
  for (int i = 0; i < T; ++i) {
    store(sums + i * L, load(sums + i * L) + acc[0][i]);
    if (Two) {
      store(sums + (L + i) * L, load(sums + (L + i) * L) + acc[1][i]);
    }
  }
}

template <typename A>
void line_grads(
    const RowsProblem<A>& p,
    const A* source,
    const A* gradient,
    A* sums) {
  constexpr int L = kLanes<A>;
  constexpr int T = kRegisters == 32 ? 8 : 4;
  for (int64_t t0 = 0; t0 < p.kernel2; t0 += 2 * L) {
    const int64_t first = std::min<int64_t>(L, p.kernel2 - t0);
    const int64_t both = std::min<int64_t>(L, p.kernel2 - t0 - L);
    int64_t t = 0;
    const auto pass = [&](auto count, int64_t end) {
      constexpr int N = decltype(count)::value;
      for (; t + N <= both; t += N) {
        line_grad<A, N, true>(p, source, gradient, t0 + t, sums + (t0 + t) * L);
      }
      for (; t >= both && t + N <= end; t += N) {
        line_grad<A, N, false>(
            p, source, gradient, t0 + t, sums + (t0 + t) * L);
      }
    };
    while (t < first) {
      pass(std::integral_constant<int, T>{}, first);
      pass(std::integral_constant<int, T / 2>{}, first);
      pass(
          std::integral_constant<int, 1>{},
          t < both ? both : std::min(t + 1, first));
    }
  }
}

#endif

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
