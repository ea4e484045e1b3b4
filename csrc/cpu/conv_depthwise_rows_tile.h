// Rows where they lie, positions in the lanes: masks that bring the zeros of the
// padding, and register tiles of forward for any small kernel; read once per
// instruction set, after shuffle.h.

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// Which lanes a load brings; the others are zero and not read.
#if defined(TC_AVX512)
template <typename A>
using LaneMask = std::conditional_t<sizeof(A) == 4, __mmask16, __mmask8>;
template <typename A>
inline Vec<A> load_where(const A* p, LaneMask<A> mask) {
  if constexpr (sizeof(A) == 4) {
    return (Vec<A>)_mm512_maskz_loadu_ps(mask, p);
  } else {
    return (Vec<A>)_mm512_maskz_loadu_pd(mask, p);
  }
}
template <typename A>
inline void store_where(A* p, Vec<A> v, LaneMask<A> mask) {
  if constexpr (sizeof(A) == 4) {
    _mm512_mask_storeu_ps(p, mask, (__m512)v);
  } else {
    _mm512_mask_storeu_pd(p, mask, (__m512d)v);
  }
}
template <typename A>
inline Vec<A> where(LaneMask<A> mask, Vec<A> v) {
  if constexpr (sizeof(A) == 4) {
    return (Vec<A>)_mm512_maskz_mov_ps(mask, (__m512)v);
  } else {
    return (Vec<A>)_mm512_maskz_mov_pd(mask, (__m512d)v);
  }
}
template <typename A>
inline LaneMask<A> lane_mask(int64_t first, int64_t last) {
  first = std::max<int64_t>(first, 0);
  last = std::min<int64_t>(last, kLanes<A>);
  const uint32_t mask = first >= last ? 0 : (1u << last) - (1u << first);
  return static_cast<LaneMask<A>>(mask);
}
#else
template <typename A>
struct LaneMask {
  LaneInt<A> lanes[kLanes<A>];
};
template <typename A>
inline Vec<A> load_where(const A* p, const LaneMask<A>& mask) {
#if defined(TC_AVX2)
  const __m256i m =
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(mask.lanes));
  if constexpr (sizeof(A) == 4) {
    return (Vec<A>)_mm256_maskload_ps(p, m);
  } else {
    return (Vec<A>)_mm256_maskload_pd(p, m);
  }
#else
  alignas(kVectorBytes) A lanes[kLanes<A>] = {};
  for (int l = 0; l < kLanes<A>; ++l) {
    if (mask.lanes[l] != 0) {
      lanes[l] = p[l];
    }
  }
  return load(lanes);
#endif
}
template <typename A>
inline void store_where(A* p, Vec<A> v, const LaneMask<A>& mask) {
#if defined(TC_AVX2)
  const __m256i m =
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(mask.lanes));
  if constexpr (sizeof(A) == 4) {
    _mm256_maskstore_ps(p, m, (__m256)v);
  } else {
    _mm256_maskstore_pd(p, m, (__m256d)v);
  }
#else
  for (int l = 0; l < kLanes<A>; ++l) {
    if (mask.lanes[l] != 0) {
      p[l] = v[l];
    }
  }
#endif
}
template <typename A>
inline LaneMask<A> lane_mask(int64_t first, int64_t last) {
  LaneMask<A> mask;
  for (int l = 0; l < kLanes<A>; ++l) {
    mask.lanes[l] = l >= first && l < last ? -1 : 0;
  }
  return mask;
}
#endif

// A pass as a correlation of planes: `result` gathers from `source`.
template <typename A>
struct RowsProblem {
  int64_t kernel0, kernel2; // taps (kernel1 is a template's)
  int64_t source_size[3], size[3]; // of source and result
  int64_t stride0, dilation0, stride; // stride: of rows and columns
  int64_t dilation2; // of columns; 1 unless stride is
  int64_t low[3]; // source coordinate of position 0 and tap 0, negated
  int64_t source_row, source_plane, row, plane; // strides
  int64_t w[3]; // strides of the taps
  int64_t vectors; // of a row of results; of pairs of them (spread_tile)
  int64_t shifts; // of gy against pairs of results
  int64_t whole[2]; // from .. to - 1: those that need no mask for any tap
  // [tap of a row][vector of the source]; empty for lines.
  std::vector<LaneMask<A>> masks;
  std::vector<LaneMask<A>> own; // [vector]: lanes that hold results

  int lanes(int64_t v) const {
    return static_cast<int>(
        std::min<int64_t>(kLanes<A>, size[2] - v * kLanes<A>));
  }
};

// The masks; with `inside`, only source lanes that meet results (stride 1).
template <typename A>
void set_masks(RowsProblem<A>& p, bool inside) {
  constexpr int64_t L = kLanes<A>;
  p.vectors = ceil_div(p.size[2], L);
  p.own.reserve(p.vectors);
  const int64_t taps =
      p.kernel2 > kShortTaps ? 0 : p.kernel2; // lines need none
  p.masks.reserve(taps * p.vectors * p.stride);
  for (int64_t t = 0; t < taps; ++t) {
    for (int64_t v = 0; v < p.vectors * p.stride; ++v) {
      const int64_t at = v * L + t * p.dilation2 - p.low[2];
      const int64_t last = p.source_size[2] - at;
      p.masks.push_back(
          lane_mask<A>(
              -at, inside ? std::min<int64_t>(last, p.size[2] - v * L) : last));
    }
  }
  for (int64_t v = 0; v < p.vectors; ++v) {
    p.own.push_back(lane_mask<A>(0, p.lanes(v)));
  }
  // Below 0 where padding is wider than the kernel (input_grad).
  p.whole[0] = std::max<int64_t>(0, ceil_div(p.low[2], L * p.stride));
  p.whole[1] = std::min(
      p.size[2] / L,
      floor_div(
          p.source_size[2] + p.low[2] - (p.kernel2 - 1) * p.dilation2,
          L * p.stride));
}

// The same for pairs of results (conv_depthwise_rows_spread.h).
template <typename A>
void set_spread_masks(RowsProblem<A>& p) {
  constexpr int64_t L = kLanes<A>;
  p.vectors = ceil_div(p.size[2], 2 * L);
  const int64_t even = (p.low[2] + 1) / 2, odd = p.low[2] / 2;
  const int64_t least =
      std::min(even - (p.kernel2 - 1) / 2, odd - (p.kernel2 - 2) / 2);
  p.shifts = even - (p.kernel2 == 1 ? even : least) + 1;
  for (int64_t i = 0; i < p.shifts; ++i) {
    for (int64_t v = 0; v < p.vectors; ++v) {
      const int64_t at = v * L + even - i;
      p.masks.push_back(lane_mask<A>(-at, p.source_size[2] - at));
    }
  }
  for (int64_t v = 0; v < 2 * p.vectors; ++v) {
    p.own.push_back(lane_mask<A>(0, p.size[2] - v * L));
  }
}

// R rows x V vectors of results, from row y and vector v of plane z, with stride
// S. Edge: some rows of the source may lie outside. Masked: some lanes may.
template <typename A, int K1, int S, int R, int V, bool Edge, bool Masked>
void rows_tile(
    const RowsProblem<A>& p,
    const A* source,
    const A* weight,
    A bias,
    int64_t z,
    int64_t y,
    int64_t v,
    A* result) {
  constexpr int L = kLanes<A>;
  Vec<A> acc[R][V];
  const Vec<A> b = broadcast(bias);
#pragma GCC unroll 16
  for (int i = 0; i < R * V; ++i) {
    acc[i / V][i % V] = b;
  }
  const int64_t first = y * S - p.low[1];
  const int64_t begin = -first, end = p.source_size[1] - first;
  for (int64_t a = 0; a < p.kernel0; ++a) {
    const int64_t from = z * p.stride0 + a * p.dilation0 - p.low[0];
    if (from < 0 || from >= p.source_size[0]) {
      continue;
    }
    const A* x0 = source + from * p.source_plane + first * p.source_row +
        v * S * L - p.low[2];
    const A* w0 = weight + a * p.w[0];
    const int64_t step = S == 1 ? p.dilation2 : S;
    for (int64_t t = 0; t < p.kernel2; t += S, x0 += step, w0 += S * p.w[2]) {
      const bool pair = S == 2 && t + 1 < p.kernel2;
      Vec<A> w[S][K1];
#pragma GCC unroll 8
      for (int k = 0; k < K1; ++k) {
        w[0][k] = broadcast(w0[k * p.w[1]]);
        if constexpr (S == 2) {
          w[1][k] = broadcast(pair ? w0[k * p.w[1] + p.w[2]] : A(0));
        }
      }
      const LaneMask<A>* mask = &p.masks[(t * p.vectors + v) * S];
      const A* x = x0;
#pragma GCC unroll 16
      for (int i = 0; i < (R - 1) * S + K1; ++i, x += p.source_row) {
        if (Edge && (i < begin || i >= end)) {
          continue;
        }
        Vec<A> in[S][V];
#pragma GCC unroll 8
        for (int j = 0; j < V; ++j) {
          const auto get = [&](int i) {
            return Masked ? load_where<A>(x + i * L, mask[i]) : load(x + i * L);
          };
          if constexpr (S == 1) {
            in[0][j] = R > 1 ? held<A>(get(j)) : get(j);
          } else {
            const Vec<A> lo = get(2 * j), hi = get(2 * j + 1);
            in[0][j] = every_other<0, A>(lo, hi);
            in[1][j] = every_other<1, A>(lo, hi);
          }
        }
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          const int k = i - r * S;
          if (k >= 0 && k < K1) {
#pragma GCC unroll 8
            for (int j = 0; j < V; ++j) {
              acc[r][j] += w[0][k] * in[0][j];
            }
            if (pair) {
#pragma GCC unroll 8
              for (int j = 0; j < V; ++j) {
                acc[r][j] += w[S - 1][k] * in[S - 1][j];
              }
            }
          }
        }
      }
    }
  }
  A* out = result + y * p.row + v * L;
  const int last = p.lanes(v + V - 1);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) {
      A* at = out + r * p.row + j * L;
      if (j == V - 1 && last < L) {
        store_partial(at, acc[r][j], last);
      } else {
        store(at, acc[r][j]);
      }
    }
  }
}

// Rows y0 .. y1 - 1 of plane z, R at a time and then fewer.
template <typename A, int K1, int S, int R, int V>
void rows_column(
    const RowsProblem<A>& p,
    const A* source,
    const A* weight,
    A bias,
    int64_t z,
    int64_t y0,
    int64_t y1,
    int64_t v,
    A* result) {
  int64_t y = y0;
  for (; y + R <= y1; y += R) {
    const int64_t first = y * S - p.low[1];
    if constexpr (K1 == 1) { // long rows, and as many loads as products
      if (v >= p.whole[0] && v + V <= p.whole[1]) {
        rows_tile<A, K1, S, R, V, true, false>(
            p, source, weight, bias, z, y, v, result);
        continue;
      }
    } else if (first >= 0 && first + (R - 1) * S + K1 <= p.source_size[1]) {
      rows_tile<A, K1, S, R, V, false, true>(
          p, source, weight, bias, z, y, v, result);
      continue;
    }
    rows_tile<A, K1, S, R, V, true, true>(
        p, source, weight, bias, z, y, v, result);
  }
  if constexpr (R > 1) {
    constexpr int kFewer = R > 4 ? 4 : R > 2 ? 2 : 1;
    if (y < y1) {
      rows_column<A, K1, S, kFewer, V>(
          p, source, weight, bias, z, y, y1, v, result);
    }
  }
}

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
