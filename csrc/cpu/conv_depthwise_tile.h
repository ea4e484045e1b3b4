// Register tiles over a strip (conv_depthwise_strip.h); read once per
// instruction set, after simd.h.
//
// Every result is summed tap by tap in the order of the list, whatever the
// tile it falls in.

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// What the tiles of one phase have in common.
template <typename A>
struct TapTile {
  const int64_t* offset;
  int64_t taps;
  int64_t run; // taps per run whose offsets are a src_row apart, or 1
  const A* weight; // per tap: one per result channel, or a vector
  const A* bias; // one per result channel, or a vector
  int64_t src_row; // from a row of positions to the next
  int64_t out_row, out_vector, out_channel; // of the results
  int lanes; // results in a row's last vector; with channels, in every one
};

template <typename A, bool Channels>
inline Vec<A> weight_at(const A* w, int64_t i) {
  if constexpr (Channels) {
    return load(w + i * kLanes<A>);
  } else {
    return broadcast(w[i]);
  }
}

template <typename A, int K, int R, int V, bool Channels>
inline void store_tile(
    const TapTile<A>& t,
    A* out,
    bool last,
    const Vec<A> (&acc)[K][R][V]) {
#pragma GCC unroll 16
  for (int k = 0; k < K; ++k) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) {
        A* at = out + k * t.out_channel + r * t.out_row + v * t.out_vector;
        if (t.lanes < kLanes<A> && (Channels || (last && v == V - 1))) {
          store_partial(at, acc[k][r][v], t.lanes);
        } else {
          store(at, acc[k][r][v]);
        }
      }
    }
  }
}

// K channels x R rows x V vectors of results.
template <typename A, int K, int R, int V, bool Channels>
void tap_tile(const TapTile<A>& t, const A* src, A* out, bool last) {
  constexpr int L = kLanes<A>;
  Vec<A> acc[K][R][V];
#pragma GCC unroll 16
  for (int k = 0; k < K; ++k) {
    const Vec<A> b = weight_at<A, Channels>(t.bias, k);
#pragma GCC unroll 16
    for (int i = 0; i < R * V; ++i) {
      acc[k][i / V][i % V] = b;
    }
  }
  for (int64_t i = 0; i < t.taps; ++i) {
    const A* s = src + t.offset[i];
    Vec<A> w[K];
#pragma GCC unroll 16
    for (int k = 0; k < K; ++k) {
      w[k] = weight_at<A, Channels>(t.weight, i * K + k);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) {
        const Vec<A> loaded = load(s + r * t.src_row + v * L);
        const Vec<A> x = K > 1 ? held<A>(loaded) : loaded;
#pragma GCC unroll 16
        for (int k = 0; k < K; ++k) {
          acc[k][r][v] += w[k] * x;
        }
      }
    }
  }
  store_tile<A, K, R, V, Channels>(t, out, last, acc);
}

// The same where the taps come in runs down a column, R - 1 or longer: each
// input vector is loaded once per run for all the R rows that use it.
template <typename A, int R, int V, bool Channels>
void run_tile(const TapTile<A>& t, const A* src, A* out, bool last) {
  constexpr int L = kLanes<A>;
  Vec<A> acc[1][R][V];
  const Vec<A> b = weight_at<A, Channels>(t.bias, 0);
#pragma GCC unroll 16
  for (int i = 0; i < R * V; ++i) {
    acc[0][i / V][i % V] = b;
  }
  // Input row i, counted from the run's first, meets output row r at the
  // run's tap i - r.
  for (int64_t i0 = 0; i0 < t.taps; i0 += t.run) {
    const A* s = src + t.offset[i0];
    const A* w = t.weight + i0 * (Channels ? L : 1);
    Vec<A> x[V];
#pragma GCC unroll 16
    for (int i = 0; i < R - 1; ++i, s += t.src_row) {
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) {
        x[v] = held<A>(load(s + v * L));
      }
#pragma GCC unroll 16
      for (int r = 0; r <= i; ++r) {
        const Vec<A> wr = weight_at<A, Channels>(w, i - r);
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) {
          acc[0][r][v] += wr * x[v];
        }
      }
    }
    for (int64_t i = R - 1; i < t.run; ++i, s += t.src_row) {
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) {
        x[v] = held<A>(load(s + v * L));
      }
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const Vec<A> wr = weight_at<A, Channels>(w, i - r);
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) {
          acc[0][r][v] += wr * x[v];
        }
      }
    }
#pragma GCC unroll 16
    for (int i = 1; i < R; ++i, s += t.src_row) {
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) {
        x[v] = held<A>(load(s + v * L));
      }
#pragma GCC unroll 16
      for (int r = i; r < R; ++r) {
        const Vec<A> wr = weight_at<A, Channels>(w, t.run - 1 + i - r);
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) {
          acc[0][r][v] += wr * x[v];
        }
      }
    }
  }
  store_tile<A, 1, R, V, Channels>(t, out, last, acc);
}

// Rows 0 .. ny - 1 of a column of V vectors, R at a time: the last tile
// overlaps the one before rather than being smaller.
template <typename A, int K, int R, int V, bool Channels>
void tile_rows(
    const TapTile<A>& t,
    const A* src,
    A* out,
    int64_t ny,
    bool last) {
  if constexpr (R > 1) {
    if (ny < R || (K == 1 && t.run > 1 && t.run < R - 1)) {
      return tile_rows<A, K, R / 2, V, Channels>(t, src, out, ny, last);
    }
  }
  for (int64_t row = 0; row < ny; row += R) {
    const int64_t r = row + R <= ny ? row : ny - R;
    const A* s = src + r * t.src_row;
    A* o = out + r * t.out_row;
    if constexpr (K == 1 && R > 1) {
      if (t.run > 1) {
        run_tile<A, R, V, Channels>(t, s, o, last);
        continue;
      }
    }
    tap_tile<A, K, R, V, Channels>(t, s, o, last);
  }
}

// ny rows of nv vectors, of K channels.
template <typename A, int K, bool Channels>
void tile_block(
    const TapTile<A>& t,
    const A* src,
    A* out,
    int64_t ny,
    int64_t nv) {
  constexpr int L = kLanes<A>;
  constexpr int kTile = kRegisters == 32 ? (K == 4 ? 4 : 8)
      : K == 4                           ? 2
      : K == 2                           ? 4
                                         : 8;
  for (int64_t v = 0; v < nv;) {
    const int64_t left = nv - v;
    const A* s = src + v * L;
    A* o = out + v * t.out_vector;
    if (kTile >= 8 && left >= 8 && ny == 1) {
      tile_rows<A, K, 1, kTile, Channels>(t, s, o, ny, left == 8);
      v += kTile;
    } else if (kTile >= 4 && left >= 4) {
      constexpr int R = kRegisters == 32 && K == 1 ? 4 : kTile / 4;
      tile_rows<A, K, (R > 0 ? R : 1), 4, Channels>(t, s, o, ny, left == 4);
      v += 4;
    } else if (left >= 2) {
      tile_rows<A, K, kTile / 2, 2, Channels>(t, s, o, ny, left == 2);
      v += 2;
    } else {
      tile_rows<A, K, kTile, 1, Channels>(t, s, o, ny, true);
      v += 1;
    }
  }
}

// What the tiles of weight_grad have in common.
template <typename A>
struct GradTile {
  const int64_t* offset;
  int64_t rows, x_row, gy_row, gy_channel;
  int64_t full; // vectors of a row, of which every lane counts
  int64_t masked; // vectors after them, under a mask each
  const A* mask;
};

template <typename A>
inline Vec<A> masked(Vec<A> x, const A* mask) {
  typedef typename std::conditional<sizeof(A) == 4, int32_t, int64_t>::type I;
  return (Vec<A>)((Vec<I>)x & (Vec<I>)load(mask));
}

// The sums of T taps x K channels over one block, added to `sum`: a vector
// each, K per tap.
//
// Lanes that no output position owns read whatever the strip holds there; gy
// is zero in them, and the mask keeps an infinity from becoming a NaN.
template <typename A, int T, int K>
void grad_tile(const GradTile<A>& t, const A* x, const A* gy, A* sum) {
  constexpr int L = kLanes<A>;
  Vec<A> acc[T][K] = {};
  int64_t offset[T];
#pragma GCC unroll 16
  for (int i = 0; i < T; ++i) {
    offset[i] = t.offset[i];
  }
  for (int64_t row = 0; row < t.rows; ++row) {
    const A* xv = x + row * t.x_row;
    const A* gv = gy + row * t.gy_row;
    for (int64_t v = 0; v < t.full; ++v, xv += L, gv += L) {
      Vec<A> g[K];
#pragma GCC unroll 16
      for (int k = 0; k < K; ++k) {
        g[k] = held<A>(load(gv + k * t.gy_channel));
      }
#pragma GCC unroll 16
      for (int i = 0; i < T; ++i) {
        const Vec<A> loaded = load(xv + offset[i]);
        const Vec<A> xi = K > 1 ? held<A>(loaded) : loaded;
#pragma GCC unroll 16
        for (int k = 0; k < K; ++k) {
          acc[i][k] += g[k] * xi;
        }
      }
    }
    const A* mask = t.mask;
    for (int64_t v = 0; v < t.masked; ++v, xv += L, gv += L, mask += L) {
      Vec<A> g[K];
#pragma GCC unroll 16
      for (int k = 0; k < K; ++k) {
        g[k] = held<A>(load(gv + k * t.gy_channel));
      }
#pragma GCC unroll 16
      for (int i = 0; i < T; ++i) {
        const Vec<A> xi = masked(load(xv + offset[i]), mask);
#pragma GCC unroll 16
        for (int k = 0; k < K; ++k) {
          acc[i][k] += g[k] * xi;
        }
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < T; ++i) {
#pragma GCC unroll 16
    for (int k = 0; k < K; ++k) {
      store(sum + (i * K + k) * L, load(sum + (i * K + k) * L) + acc[i][k]);
    }
  }
}

template <typename A, int K, int T>
void grad_taps(
    const GradTile<A>& t,
    int taps,
    const A* x,
    const A* gy,
    A* sum) {
  if constexpr (T > 0) {
    if (taps == T) {
      return grad_tile<A, T, K>(t, x, gy, sum);
    }
    grad_taps<A, K, T - 1>(t, taps, x, gy, sum);
  }
}

// All taps of K channels, in tiles of nearly equal size.
template <typename A, int K>
void grad_block(GradTile<A> t, int64_t taps, const A* x, const A* gy, A* sum) {
  constexpr int kMost = kRegisters == 32 ? (K == 4       ? 5
                                                : K == 2 ? 9
                                                         : 12)
                                         : (K == 4       ? 2
                                                : K == 2 ? 5
                                                         : 10);
  const int64_t tiles = (taps + kMost - 1) / kMost;
  const int64_t* offset = t.offset;
  for (int64_t i = 0, at = 0; i < tiles; ++i) {
    const int64_t end = (i + 1) * taps / tiles;
    t.offset = offset + at;
    grad_taps<A, K, kMost>(
        t, static_cast<int>(end - at), x, gy, sum + at * K * kLanes<A>);
    at = end;
  }
}

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
