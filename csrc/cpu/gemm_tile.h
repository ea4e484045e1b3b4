// The one inner loop of the dense convolution kernels: a register tile of P
// rows times V vectors of columns. Read once per instruction set.
//
//   acc[p][v] = (add ? acc[p][v] : 0) + sum_r a[a_off[r] + p * ps] * b[r][v]
//
// with b[r] at b + r * bs (a packed panel), or at b + b_off[r] * bs where b_off
// is given. Row p of acc starts at acc + p * as. a is read as broadcast scalars
// through any strides, b in vectors: padding, dilation, stride and layout are
// all in the offsets. Per step: P broadcasts, V loads, P * V multiply-adds;
// the registers hold P * V accumulators, V of b and one of a.
//
// forward and input_grad: rows are pixels and columns channels, or rows are
// channels and columns pixels; weight_grad: rows are weight elements, columns
// channels, r runs over pixels.
//
// Each element is one chain of multiply-adds in the order of r, whatever the
// tile: results do not depend on how the output was cut.

namespace torchconv {
namespace cpu {
namespace TC_ISA {

template <typename A>
using TileFn = void (*)(
    const A* a,
    const int64_t* a_off,
    int64_t ps,
    const A* b,
    const int64_t* b_off,
    int64_t bs,
    int64_t n,
    A* acc,
    int64_t as,
    bool add);

// Rows of a tile that is V vectors wide. Integers, which no one trains with,
// get few tile sizes: each costs compile time on every instruction set.
template <typename A>
constexpr int tile_rows(int V) {
  return std::is_integral_v<A> ? 4
      : kRegisters == 32       ? (V == 4 ? 7 : 14)
                               : (V == 2 ? 6 : 12);
}
constexpr int kMaxTileRows = kRegisters == 32 ? 14 : 12;
constexpr int kMaxTileVectors = kRegisters == 32 ? 4 : 2;

template <typename A, int P, int V, bool Indexed>
inline __attribute__((always_inline)) void gemm_steps(
    const A* __restrict a,
    const int64_t* __restrict a_off,
    int64_t ps,
    const A* __restrict b,
    const int64_t* __restrict b_off,
    int64_t bs,
    int64_t n,
    Vec<A> (&c)[P][V]) {
  constexpr int L = kLanes<A>;
  for (int64_t r = 0; r < n; ++r) {
    const A* ar = a + a_off[r];
    const A* br = b + (Indexed ? b_off[r] : r) * bs;
    Vec<A> y[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      y[v] = load(br + v * L);
      if constexpr (Indexed && P <= 2) {
        // Few rows wait for memory, and lines of many planes are no stream that
        // a processor foresees: those of the next tile.
        __builtin_prefetch(br + (V + v) * L, 0, 2);
      }
    }
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
      const A x = ar[p * ps];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        c[p][v] += x * y[v];
      }
    }
  }
}

template <typename A, int P, int V, bool Indexed>
void gemm_tile(
    const A* __restrict a,
    const int64_t* __restrict a_off,
    int64_t ps,
    const A* __restrict b,
    const int64_t* __restrict b_off,
    int64_t bs,
    int64_t n,
    A* __restrict acc,
    int64_t as,
    bool add) {
  constexpr int L = kLanes<A>;
  Vec<A> c[P][V];
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      c[p][v] = Vec<A>{};
    }
  }
  if (add) {
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        c[p][v] = load(acc + p * as + v * L);
      }
    }
  }
  gemm_steps<A, P, V, Indexed>(a, a_off, ps, b, b_off, bs, n, c);
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      store(acc + p * as + v * L, c[p][v]);
    }
  }
}

// The tile function for a run-time P and V (1, 2 or 4 where registers allow).
template <typename A, int V, bool Indexed, int... P>
inline TileFn<A> tile_of_rows(int rows, std::integer_sequence<int, P...>) {
  static const TileFn<A> table[] = {gemm_tile<A, P + 1, V, Indexed>...};
  return table[rows - 1];
}
template <typename A, bool Indexed>
inline TileFn<A> tile_function(int rows, int vectors) {
  if constexpr (kMaxTileVectors == 4) {
    if (vectors == 4) {
      return tile_of_rows<A, 4, Indexed>(
          rows, std::make_integer_sequence<int, tile_rows<A>(4)>());
    }
  }
  return vectors == 2
      ? tile_of_rows<A, 2, Indexed>(
            rows, std::make_integer_sequence<int, tile_rows<A>(2)>())
      : tile_of_rows<A, 1, Indexed>(
            rows, std::make_integer_sequence<int, tile_rows<A>(1)>());
}

// The whole reduction of a tile whose rows go to memory as they are:
//
//   dst[p * ds + lane] = bias[p] + sum_r a[a_off[r] + p * ps] * b[b_off[r] + lane]
//
// for lanes below (V - 1) * L + last. bias may be null.
template <typename A>
using RowsFn = void (*)(
    const A* a,
    const int64_t* a_off,
    int64_t ps,
    const A* b,
    const int64_t* b_off,
    int64_t n,
    const A* bias,
    A* dst,
    int64_t ds,
    int last);

template <typename A, int P, int V>
void gemm_rows(
    const A* __restrict a,
    const int64_t* __restrict a_off,
    int64_t ps,
    const A* __restrict b,
    const int64_t* __restrict b_off,
    int64_t n,
    const A* bias,
    A* __restrict dst,
    int64_t ds,
    int last) {
  constexpr int L = kLanes<A>;
  Vec<A> c[P][V];
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      c[p][v] = Vec<A>{};
    }
  }
  gemm_steps<A, P, V, true>(a, a_off, ps, b, b_off, 1, n, c);
  if (bias != nullptr) {
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        c[p][v] += bias[p];
      }
    }
  }
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v + 1 < V; ++v) {
      store(dst + p * ds + v * L, c[p][v]);
    }
  }
  if (last == L) {
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
      store(dst + p * ds + (V - 1) * L, c[p][V - 1]);
    }
  } else {
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
      store_partial(dst + p * ds + (V - 1) * L, c[p][V - 1], last);
    }
  }
}

template <typename A, int V, int... P>
inline RowsFn<A> rows_of_height(int rows, std::integer_sequence<int, P...>) {
  static const RowsFn<A> table[] = {gemm_rows<A, P + 1, V>...};
  return table[rows - 1];
}
template <typename A>
inline RowsFn<A> rows_function(int rows, int vectors) {
  if constexpr (kMaxTileVectors == 4) {
    if (vectors == 4) {
      return rows_of_height<A, 4>(
          rows, std::make_integer_sequence<int, tile_rows<A>(4)>());
    }
  }
  return vectors == 2
      ? rows_of_height<A, 2>(
            rows, std::make_integer_sequence<int, tile_rows<A>(2)>())
      : rows_of_height<A, 1>(
            rows, std::make_integer_sequence<int, tile_rows<A>(1)>());
}

// Cuts `size` rows into tiles of nearly equal height, none above `most`.
struct TileCut {
  int64_t size, tiles;
  TileCut(int64_t size, int64_t most)
      : size(size),
        tiles((size + most - 1) / most) {}
  int64_t begin(int64_t i) const {
    return size * i / tiles;
  }
  int rows(int64_t i) const {
    return static_cast<int>(begin(i + 1) - begin(i));
  }
};

// The columns as blocks of V vectors: wide ones first, then what is left.
// Narrow images want wide blocks (7 rows x 4 vectors also fill the registers).
struct ColumnBlock {
  int64_t first; // column
  int vectors;
  int valid; // columns that exist
};

template <typename A>
struct ColumnCut {
  static constexpr int L = kLanes<A>;
  int64_t columns, vectors;
  int wide;
  int64_t wide_blocks, blocks;
  ColumnCut(int64_t columns, int64_t rows)
      : columns(columns),
        vectors((columns + L - 1) / L) {
    wide = rows <= 7 && vectors >= 4 && kMaxTileVectors == 4 ? 4 : 2;
    wide_blocks = vectors / wide;
    const int64_t rest = vectors % wide;
    blocks = wide_blocks + rest / 2 + rest % 2;
  }
  ColumnBlock block(int64_t i) const {
    int64_t vector = i * wide;
    int v = wide;
    if (i >= wide_blocks) {
      const int64_t rest = vectors % wide;
      vector = wide_blocks * wide;
      v = rest >= 2 ? 2 : 1;
      if (i > wide_blocks) {
        vector += 2;
        v = 1;
      }
    }
    const int64_t first = vector * L;
    const int64_t left = columns - first;
    return {first, v, static_cast<int>(left < v * L ? left : v * L)};
  }
};

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
