// The one inner loop of the dense convolution kernels: a register tile of P
// rows times V vectors of columns. Read once per instruction set.
//
//   acc[p][v] = (add ? acc[p][v] : 0) + sum_r a[off[r] + p * ps] * w[r * ws + v]
//
// Rows are output pixels (forward, input_grad) or weight rows (weight_grad);
// columns are channels, in vectors; a is read as broadcast scalars through any
// strides, so padding, dilation, stride and layout are all in off and ps. Per
// step: P broadcasts, V loads, P * V multiply-adds. The registers hold P * V
// accumulators, V of w and one of a. Row p of acc starts at acc + p * as.
//
// Each element is one chain of multiply-adds in the order of r, whatever the
// tile: results do not depend on how the output was cut.

namespace torchconv {
namespace cpu {
namespace TC_ISA {

template <typename A>
using TileFn = void (*)(
    const A* a,
    const int64_t* off,
    int64_t ps,
    const A* w,
    int64_t ws,
    int64_t n,
    A* acc,
    int64_t as,
    bool add);

// Rows of a tile that is V vectors wide.
constexpr int tile_rows(int V) {
  return kRegisters == 32 ? (V == 4 ? 7 : 14) : (V == 2 ? 6 : 12);
}
constexpr int kMaxTileRows = kRegisters == 32 ? 14 : 12;
constexpr int kMaxTileVectors = kRegisters == 32 ? 4 : 2;

template <typename A, int P, int V>
void gemm_tile(
    const A* __restrict a,
    const int64_t* __restrict off,
    int64_t ps,
    const A* __restrict w,
    int64_t ws,
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
  for (int64_t r = 0; r < n; ++r) {
    const A* ar = a + off[r];
    Vec<A> b[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      b[v] = load(w + v * L);
    }
    w += ws;
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
      const A x = ar[p * ps];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        c[p][v] += x * b[v];
      }
    }
  }
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      store(acc + p * as + v * L, c[p][v]);
    }
  }
}

// The tile function for a run-time P and V (1, 2 or 4 where registers allow).
template <typename A>
inline TileFn<A> tile_function(int P, int V) {
#define TC_ROW(V)                                                    \
  {                                                                  \
    nullptr, gemm_tile<A, 1, V>, gemm_tile<A, 2, V>,                 \
        gemm_tile<A, 3, V>, gemm_tile<A, 4, V>, gemm_tile<A, 5, V>,  \
        gemm_tile<A, 6, V>, TC_MORE_##V                              \
  }
#if TC_REGISTERS == 32
#define TC_MORE_1                                                       \
  gemm_tile<A, 7, 1>, gemm_tile<A, 8, 1>, gemm_tile<A, 9, 1>,           \
      gemm_tile<A, 10, 1>, gemm_tile<A, 11, 1>, gemm_tile<A, 12, 1>,    \
      gemm_tile<A, 13, 1>, gemm_tile<A, 14, 1>
#define TC_MORE_2                                                       \
  gemm_tile<A, 7, 2>, gemm_tile<A, 8, 2>, gemm_tile<A, 9, 2>,           \
      gemm_tile<A, 10, 2>, gemm_tile<A, 11, 2>, gemm_tile<A, 12, 2>,    \
      gemm_tile<A, 13, 2>, gemm_tile<A, 14, 2>
#define TC_MORE_4 gemm_tile<A, 7, 4>
  static const TileFn<A> one[] = TC_ROW(1);
  static const TileFn<A> two[] = TC_ROW(2);
  static const TileFn<A> four[] = TC_ROW(4);
  return V == 4 ? four[P] : V == 2 ? two[P] : one[P];
#else
#define TC_MORE_1                                               \
  gemm_tile<A, 7, 1>, gemm_tile<A, 8, 1>, gemm_tile<A, 9, 1>,   \
      gemm_tile<A, 10, 1>, gemm_tile<A, 11, 1>, gemm_tile<A, 12, 1>
#define TC_MORE_2
  static const TileFn<A> one[] = TC_ROW(1);
  static const TileFn<A> two[] = TC_ROW(2);
  return V == 2 ? two[P] : one[P];
#endif
#undef TC_ROW
#undef TC_MORE_1
#undef TC_MORE_2
#undef TC_MORE_4
}

// Cuts `size` rows into tiles of nearly equal height, none above `most`.
struct TileCut {
  int64_t size, tiles;
  TileCut(int64_t size, int64_t most)
      : size(size), tiles((size + most - 1) / most) {}
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
      : columns(columns), vectors((columns + L - 1) / L) {
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
