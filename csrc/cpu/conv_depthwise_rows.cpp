// Depthwise convolution without a strip: rows are read where they lie, positions
// in the lanes, and masked loads bring the zeros of the padding. For small
// kernels, where copying takes as long as multiplying.
//
// With stride 2, two vectors are read and parted into the elements of two taps.
// input_grad of stride 1 is the same with the kernel turned around.
//
// A result is summed in an order that its tile has no part in.

#include <algorithm>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/parallel.h"
#include "cpu/conv_depthwise.h"

#ifndef TC_ISA
#define TC_SELF "cpu/conv_depthwise_rows.cpp"
#include "cpu/foreach_isa.h"

namespace torchconv {
namespace cpu {

void run_depthwise_rows(const StripShape& s, const ConvTensors& t) {
  if (s.p.dtype == DType::f64) {
    return TC_DISPATCH(run_in_place<double>)(s, t);
  }
  TC_DISPATCH(run_in_place<float>)(s, t);
}

} // namespace cpu
} // namespace torchconv

#else // one instruction set

#include "cpu/simd.h"
#include "cpu/shuffle.h"

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
inline LaneMask<A> lane_mask(int64_t first, int64_t last) {
  uint32_t mask = 0;
  for (int l = 0; l < kLanes<A>; ++l) {
    mask |= static_cast<uint32_t>(l >= first && l < last) << l;
  }
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
  int64_t planes, kernel0, kernel2; // results; taps (kernel1 is a template's)
  int64_t source_size[3], size[3]; // of source and result
  int64_t stride0, dilation0, stride; // stride: of rows and columns
  int64_t low[3]; // source coordinate of position 0 and tap 0, negated
  int64_t source_row, source_plane, row, plane; // strides
  int64_t w[3]; // strides of the taps
  int64_t vectors; // of a row of results
  int64_t whole[2]; // from .. to - 1: those that need no mask for any tap
  std::vector<LaneMask<A>> masks; // [tap of a row][vector of the source]
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
  p.masks.reserve(p.kernel2 * p.vectors * p.stride);
  for (int64_t t = 0; t < p.kernel2; ++t) {
    for (int64_t v = 0; v < p.vectors * p.stride; ++v) {
      const int64_t at = v * L + t - p.low[2];
      const int64_t last = p.source_size[2] - at;
      p.masks.push_back(
          lane_mask<A>(
              -at, inside ? std::min<int64_t>(last, p.size[2] - v * L) : last));
    }
  }
  for (int64_t v = 0; v < p.vectors; ++v) {
    p.own.push_back(lane_mask<A>(0, p.lanes(v)));
  }
  p.whole[0] = ceil_div(p.low[2], L * p.stride);
  p.whole[1] = std::min(
      p.size[2] / L,
      floor_div(p.source_size[2] + p.low[2] - p.kernel2 + 1, L * p.stride));
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
    for (int64_t t = 0; t < p.kernel2; t += S, x0 += S, w0 += S * p.w[2]) {
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

template <typename A, int K1, int S>
void rows_band(
    const RowsProblem<A>& p,
    const A* source,
    const A* weight,
    A bias,
    int64_t z,
    int64_t y0,
    int64_t y1,
    A* result) {
  // Seven rows: of the usual heights most are multiples.
  constexpr int R = K1 == 1 ? 1
      : kRegisters == 16    ? 4
      : K1 == 7 && S == 2   ? 4
                            : 7;
  constexpr int kWide = K1 == 1 ? 8 / S : kRegisters == 16 && S == 2 ? 1 : 2;
  int64_t v = 0;
  for (; v + kWide <= p.vectors; v += kWide) {
    rows_column<A, K1, S, R, kWide>(
        p, source, weight, bias, z, y0, y1, v, result);
  }
  if constexpr (kWide > 2) {
    for (; v + 2 <= p.vectors; v += 2) {
      rows_column<A, K1, S, R, 2>(
          p, source, weight, bias, z, y0, y1, v, result);
    }
  }
  if constexpr (kWide > 1) {
    if (v < p.vectors) {
      rows_column<A, K1, S, R, 1>(
          p, source, weight, bias, z, y0, y1, v, result);
    }
  }
}

// The sums of T neighbouring taps of every kernel row over rows y0 .. y1 - 1,
// added to sums[tap of the row][kernel row]: p.source is x, `gradient` gy.
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
  const A* plane = x + from * p.source_plane + t - p.low[2];
  for (int64_t v = 0; v < p.vectors; ++v) {
    const LaneMask<A>* mask = &p.masks[t * p.vectors + v];
    const bool free = K1 == 1 && v >= p.whole[0] && v < p.whole[1];
    for (int64_t y = 0; y < p.size[1]; y += R) {
      const A* gy = gradient + y * p.row + v * L;
      Vec<A> g[R];
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        g[r] = Vec<A>{};
        if (y + r < p.size[1]) {
          g[r] = load_where<A>(gy + r * p.row, p.own[v]);
        }
        g[r] = held<A>(g[r]);
      }
      const int64_t first = y - p.low[1];
      const int rows = static_cast<int>(std::min<int64_t>(R, p.size[1] - y));
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
              free ? load(at + j) : load_where<A>(at + j, mask[j * p.vectors]));
#pragma GCC unroll 8
          for (int k = 0; k < K1; ++k) {
            // Not by zeros where there is no row: x may hold an infinity.
            if (i - k >= 0 && i - k < R && i - k < rows) {
              acc[j][k] += g[i - k] * in;
            }
          }
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < T; ++j) {
#pragma GCC unroll 8
    for (int k = 0; k < K1; ++k) {
      A* sum = sums + (j * K1 + k) * L;
      store(sum, load(sum) + acc[j][k]);
    }
  }
}

// About so many rows of results make one piece of work.
constexpr int64_t kBandRows = 56;

template <typename A>
class InPlace {
 public:
  InPlace(const StripShape& s, const ConvTensors& t) : s_(s), t_(t) {
    const ConvProblem& c = s.p;
    const bool backward = s.pass == Pass::input_grad;
    const Planes &from = s.source, &to = s.dest;
    for (int d = 0; d < 3; ++d) {
      p_.source_size[d] = from.size[d];
      p_.size[d] = to.size[d];
      p_.w[d] = backward ? -c.w.s[d] : c.w.s[d];
      p_.low[d] =
          backward ? (c.kernel[d] - 1) * c.dilation[d] - c.low[d] : c.low[d];
    }
    p_.kernel0 = c.kernel[0];
    p_.kernel2 = c.kernel[2];
    p_.stride0 = backward ? 1 : c.stride[0];
    p_.stride = c.stride[2];
    p_.dilation0 = c.dilation[0];
    p_.source_plane = from.stride.s[0];
    p_.source_row = from.stride.s[1];
    p_.plane = to.stride.s[0];
    p_.row = to.stride.s[1];
    set_masks(p_, s.pass == Pass::weight_grad);
  }

  void run() {
    switch (s_.p.kernel[1]) {
      case 1:
        return run_kernel<1>();
      case 3:
        return run_kernel<3>();
      case 5:
        return run_kernel<5>();
      default:
        return run_kernel<7>();
    }
  }

 private:
  template <int K1>
  void run_kernel() {
    if (s_.pass == Pass::weight_grad) {
      run_grad<K1>();
    } else if (p_.stride == 2) {
      gather<K1, 2>();
    } else {
      gather<K1, 1>();
    }
  }

  template <int K1, int S>
  void gather() {
    const ConvProblem& c = s_.p;
    const bool backward = s_.pass == Pass::input_grad;
    const A* source = static_cast<const A*>(backward ? t_.y : t_.x);
    A* dest = static_cast<A*>(backward ? t_.x : t_.y);
    const A* bias = static_cast<const A*>(t_.bias);
    const A* weight = static_cast<const A*>(t_.w);
    if (backward) { // from its last tap
      for (int d = 0; d < 3; ++d) {
        weight += (c.kernel[d] - 1) * c.w.s[d];
      }
    }
    if (p_.size[1] == 0) {
      return;
    }
    const int64_t bands = ceil_div(p_.size[1], kBandRows);
    const int64_t rows = ceil_div(p_.size[1], bands);
    const int64_t items = c.batch * c.out_channels * p_.size[0] * bands;
    const int64_t grain =
        1 + static_cast<int64_t>(kGrainWork * items / (conv_flops(c) / 2 + 1));
    parallel_for(items, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t band = i % bands, z = i / bands % p_.size[0];
        const int64_t k = i / bands / p_.size[0] % c.out_channels;
        const int64_t n = i / bands / p_.size[0] / c.out_channels;
        const int64_t y0 = band * rows;
        rows_band<A, K1, S>(
            p_,
            source + n * s_.source.stride.n +
                k / s_.dest_group * s_.source.stride.c,
            weight + k * c.w.n,
            bias == nullptr ? A(0) : bias[k],
            z,
            y0,
            std::min(y0 + rows, p_.size[1]),
            dest + n * s_.dest.stride.n + k * s_.dest.stride.c + z * p_.plane);
      }
    });
  }

  template <int K1>
  void run_grad() {
    constexpr int L = kLanes<A>;
    const ConvProblem& c = s_.p;
    const A* x = static_cast<const A*>(t_.x);
    const A* gy = static_cast<const A*>(t_.y);
    A* gw = static_cast<A*>(t_.w);
    const int64_t grain = 1 +
        static_cast<int64_t>(kGrainWork * c.out_channels /
                             (conv_flops(c) / 2 + 1));
    parallel_for(c.out_channels, grain, [&](int64_t begin, int64_t end) {
      std::vector<A> sums(round_up(c.kernel[0] * c.kernel[2] * K1, L) * L);
      for (int64_t k = begin; k < end; ++k) {
        std::fill(sums.begin(), sums.end(), A(0));
        for (int64_t n = 0; n < c.batch; ++n) {
          const A* xs = x + n * c.x.n + k / s_.dest_group * c.x.c;
          const A* gs = gy + n * c.y.n + k * c.y.c;
          for (int64_t z = 0; z < p_.size[0]; ++z) {
            add_plane<K1>(xs, gs + z * p_.plane, z, sums.data());
          }
        }
        int64_t i = 0;
        for (int64_t a = 0; a < c.kernel[0]; ++a) {
          for (int64_t t = 0; t < c.kernel[2]; ++t) {
            for (int64_t b = 0; b < K1; ++b, ++i) {
              if (i % L == 0) {
                sum_all(sums.data() + i * L);
              }
              gw[k * c.w.n + a * c.w.s[0] + b * c.w.s[1] + t * c.w.s[2]] =
                  sums[i / L * L * L + i % L];
            }
          }
        }
      }
    });
  }

  // The sums of L vectors, side by side into the first of them: halves onto
  // halves, as sum_lanes.
  static void sum_all(A* v) {
    constexpr int L = kLanes<A>;
    Vec<A> rows[L];
    for (int l = 0; l < L; ++l) {
      rows[l] = load(v + l * L);
    }
    transpose<A>(rows);
    for (int h = L / 2; h > 0; h /= 2) {
      for (int l = 0; l < h; ++l) {
        rows[l] += rows[l + h];
      }
    }
    store(v, rows[0]);
  }

  template <int K1>
  void add_plane(const A* x, const A* gy, int64_t z, A* sums) const {
    constexpr int L = kLanes<A>;
    // As many sums as registers hold beside four rows of gy.
    constexpr int kMost = kRegisters == 32 ? (K1 == 1       ? 8
                                                  : K1 == 3 ? 5
                                                  : K1 == 5 ? 5
                                                            : 3)
                                           : (K1 == 1       ? 4
                                                  : K1 == 3 ? 3
                                                            : 1);
    for (int64_t a = 0; a < p_.kernel0; ++a) {
      for (int64_t t = 0; t < p_.kernel2;) {
        A* to = sums + (a * p_.kernel2 + t) * K1 * L;
        t += grad_taps<K1, kMost>(x, gy, z, a, t, to);
      }
    }
  }

  // As many taps as are left, up to T; 3, 2 or 1 where fewer are left.
  template <int K1, int T>
  int64_t grad_taps(
      const A* x,
      const A* gy,
      int64_t z,
      int64_t a,
      int64_t t,
      A* to) const {
    if (p_.kernel2 - t >= T) {
      grad_rows<A, K1, T>(p_, x, gy, z, a, t, to);
      return T;
    }
    if constexpr (T > 1) {
      return grad_taps<K1, (K1 > 1 && T > 4 ? 4 : T - 1)>(x, gy, z, a, t, to);
    }
    return 1;
  }

  const StripShape& s_;
  const ConvTensors& t_;
  RowsProblem<A> p_;
};

} // namespace

template <typename A>
void run_in_place(const StripShape& s, const ConvTensors& t) {
  InPlace<A>(s, t).run();
}
template void run_in_place<float>(const StripShape&, const ConvTensors&);
template void run_in_place<double>(const StripShape&, const ConvTensors&);

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

#endif
