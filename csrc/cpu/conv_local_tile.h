// The register tiles of position-dependent convolution: dot products of weight
// rows with patches, and outer products. Read once per instruction set.
//
// Both operands are contiguous along the lanes and neither is packed: a locally
// connected layer uses each weight once, so there is nothing to gain by
// arranging it first. Every sum has an order of its own that does not depend on
// how many rows and columns are in a tile.

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

constexpr int kDotRows = 4, kDotColumns = kRegisters == 32 ? 6 : 2;
constexpr int kOuterRows = kRegisters == 32 ? 6 : 2, kOuterVectors = 4;

template <typename A, int Bytes>
inline A lane_sum(typename VecOf<A, Bytes>::type v) {
  if constexpr (Bytes == sizeof(A)) {
    return v[0];
  } else {
    typename VecOf<A, Bytes / 2>::type half[2];
    std::memcpy(half, &v, Bytes);
    return lane_sum<A, Bytes / 2>(half[0] + half[1]);
  }
}

// The lanes of a and b added up halfway: groups of G lanes become groups of
// G / 2, those of a and b side by side.
template <typename A, int G, int... I>
inline Vec<A> fold_pair(Vec<A> a, Vec<A> b, std::integer_sequence<int, I...>) {
  using Index = std::conditional_t<sizeof(A) == 4, int32_t, int64_t>;
  constexpr int L = kLanes<A>, H = G / 2;
  // Lane i of the result is of a for i < L / 2, and of its group i / H.
  const Vec<Index> low = {(I / (L / 2) * L + I % (L / 2) / H * G + I % H)...};
  const Vec<Index> high = {
      (I / (L / 2) * L + I % (L / 2) / H * G + I % H + H)...};
  return __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high);
}

// The lane sums of four vectors, by the same tree as lane_sum's.
template <typename A>
inline void lane_sums(const Vec<A> (&v)[4], A (&sums)[4]) {
  constexpr int L = kLanes<A>;
  if constexpr (L < 4) {
    for (int r = 0; r < 4; ++r) {
      sums[r] = lane_sum<A, kVectorBytes>(v[r]);
    }
  } else {
    constexpr std::make_integer_sequence<int, L> lanes;
    const Vec<A> ab = fold_pair<A, L>(v[0], v[1], lanes);
    const Vec<A> cd = fold_pair<A, L>(v[2], v[3], lanes);
    Vec<A> all = fold_pair<A, L / 2>(ab, cd, lanes);
    if constexpr (L == 16) {
      all = fold_pair<A, 4>(all, all, lanes);
      all = fold_pair<A, 2>(all, all, lanes);
    } else if constexpr (L == 8) {
      all = fold_pair<A, 2>(all, all, lanes);
    }
    for (int r = 0; r < 4; ++r) {
      sums[r] = all[r];
    }
  }
}

// out[q][r * out_r] = bias[r] + sum_i w[r * n + i] * patch[q * padded + i], for
// R rows of the weight and Q patches. Lanes run along i; patches end in zeros.
template <typename S, int R, int Q>
void dot_tile(
    const S* w,
    int64_t n,
    const acc_t<S>* patch,
    int64_t padded,
    const S* bias,
    S* const* out,
    int64_t out_r) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  Vec<A> acc[Q][R] = {};
  int64_t i = 0;
  const auto step = [&](auto load_weight) {
    Vec<A> row[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      row[r] = load_weight(w + r * n + i);
    }
#pragma GCC unroll 8
    for (int q = 0; q < Q; ++q) {
      const Vec<A> column = load(patch + q * padded + i);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        acc[q][r] += row[r] * column;
      }
    }
  };
  for (; i + L <= n; i += L) {
    step([](const S* at) { return load_as(at); });
  }
  if (i < n) {
    const int rest = static_cast<int>(n - i);
    step([rest](const S* at) { return load_as_partial(at, rest); });
  }
#pragma GCC unroll 8
  for (int q = 0; q < Q; ++q) {
    A sums[R];
    if constexpr (R == 4) {
      lane_sums<A>(acc[q], sums);
    } else {
      for (int r = 0; r < R; ++r) {
        sums[r] = lane_sum<A, kVectorBytes>(acc[q][r]);
      }
    }
    for (int r = 0; r < R; ++r) {
      out[q][r * out_r] =
          S(bias == nullptr ? sums[r] : sums[r] + static_cast<A>(bias[r]));
    }
  }
}

template <typename S, int R>
void dot_columns(
    const S* w,
    int64_t n,
    const acc_t<S>* patch,
    int64_t padded,
    int64_t columns,
    const S* bias,
    S* const* out,
    int64_t out_r) {
  int64_t q = 0;
  for (; q + kDotColumns <= columns; q += kDotColumns) {
    dot_tile<S, R, kDotColumns>(
        w, n, patch + q * padded, padded, bias, out + q, out_r);
  }
  if constexpr (kDotColumns > 2) {
    for (; q + 2 <= columns; q += 2) {
      dot_tile<S, R, 2>(w, n, patch + q * padded, padded, bias, out + q, out_r);
    }
  }
  for (; q < columns; ++q) {
    dot_tile<S, R, 1>(w, n, patch + q * padded, padded, bias, out + q, out_r);
  }
}

// c[r][0, V) (+)= sum_s a[r * a_r + s * a_s] * b[s * b_s]: R rows, V vectors of
// which the last has `tail` lanes.
template <typename W, typename S, int R, int V>
void outer_tile(
    const W* a,
    int64_t a_r,
    int64_t a_s,
    const S* b,
    int64_t b_s,
    int64_t n,
    acc_t<S>* c,
    int64_t c_r,
    bool add,
    int tail) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  Vec<A> acc[R][V] = {};
  if (add) {
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < V; ++v) {
        const A* at = c + r * c_r + v * L;
        acc[r][v] = v + 1 < V || tail == L ? load(at) : load_partial(at, tail);
      }
    }
  }
  const auto sum = [&](auto load_last) {
    for (int64_t s = 0; s < n; ++s) {
      Vec<A> row[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const S* at = b + s * b_s + v * L;
        row[v] = v + 1 < V ? load_as(at) : load_last(at);
      }
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const Vec<A> factor = broadcast(static_cast<A>(a[r * a_r + s * a_s]));
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          acc[r][v] += factor * row[v];
        }
      }
    }
  };
  if (tail == L) {
    sum([](const S* at) { return load_as(at); });
  } else {
    sum([tail](const S* at) { return load_as_partial(at, tail); });
  }
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) {
      A* at = c + r * c_r + v * L;
      if (v + 1 < V || tail == L) {
        store(at, acc[r][v]);
      } else {
        store_partial(at, acc[r][v], tail);
      }
    }
  }
}

template <typename W, typename S, int V>
void outer_rows(
    const W* a,
    int64_t a_r,
    int64_t a_s,
    const S* b,
    int64_t b_s,
    int64_t n,
    acc_t<S>* c,
    int64_t c_r,
    int64_t rows,
    bool add,
    int tail) {
  int64_t r = 0;
  for (; r + kOuterRows <= rows; r += kOuterRows) {
    outer_tile<W, S, kOuterRows, V>(
        a + r * a_r, a_r, a_s, b, b_s, n, c + r * c_r, c_r, add, tail);
  }
  if constexpr (kOuterRows > 2) {
    for (; r + 2 <= rows; r += 2) {
      outer_tile<W, S, 2, V>(
          a + r * a_r, a_r, a_s, b, b_s, n, c + r * c_r, c_r, add, tail);
    }
  }
  for (; r < rows; ++r) {
    outer_tile<W, S, 1, V>(
        a + r * a_r, a_r, a_s, b, b_s, n, c + r * c_r, c_r, add, tail);
  }
}

// c (rows x width) (+)= a^T b with the sum over n steps.
template <typename W, typename S>
void outer(
    const W* a,
    int64_t a_r,
    int64_t a_s,
    const S* b,
    int64_t b_s,
    int64_t n,
    acc_t<S>* c,
    int64_t c_r,
    int64_t rows,
    int64_t width,
    bool add) {
  constexpr int L = kLanes<acc_t<S>>;
  int64_t i = 0;
  for (; i + kOuterVectors * L <= width; i += kOuterVectors * L) {
    outer_rows<W, S, kOuterVectors>(
        a, a_r, a_s, b + i, b_s, n, c + i, c_r, rows, add, L);
  }
  for (; i < width; i += L) {
    const int tail = static_cast<int>(std::min<int64_t>(L, width - i));
    outer_rows<W, S, 1>(
        a, a_r, a_s, b + i, b_s, n, c + i, c_r, rows, add, tail);
  }
}

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
