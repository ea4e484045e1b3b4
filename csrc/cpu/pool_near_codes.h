// The maxima of the same windows with the place of each: the taps of a window
// in their order, so that a later one must be greater. What was chosen is one
// byte for a lane, the number of the tap, blended under the comparison's mask.
// Read after pool_near_rows.h.

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

template <typename T, int K, int S>
class NearCodes {
  using A = acc_t<T>;
  using V = NearVectors<A, K, S>;
  static constexpr int L = kLanes<A>;

 public:
  // height: taps of a window in that dimension.
  NearCodes(const NearWindows& w, int64_t height)
      : w_(w),
        vectors_(w),
        first_tap_(vectors_.count * L + 16),
        slice_(static_cast<int>(height * K)) {
    for (int64_t o = 0; o < w.out && o * S < w.pad; ++o) {
      first_tap_[o] = static_cast<uint8_t>(w.pad - o * S);
    }
  }

  // One run of the source plane; label: the tap that its windows begin with.
  // The rows of codes are code_step apart. Lanes that saw a NaN are returned.
  unsigned run(
      const NearRun& r,
      const T* plane,
      int label,
      T* y,
      uint8_t* codes,
      int64_t code_step) const {
    plane += r.first[0] * w_.stride[0] + r.first[1] * w_.stride[1] - w_.pad;
    y += r.d * w_.to_stride[0] + r.h * w_.to_stride[1];
    unsigned nan = 0;
    with_rows<T>(r, [&](auto d, auto h) {
      const Rows<d, h> rows{
          plane,
          w_.stride[0],
          w_.stride[1],
          static_cast<int>(r.rows[0]),
          static_cast<int>(r.rows[1])};
      nan = some(
          rows, label, r.step * w_.stride[1], y, codes, code_step, r.count);
    });
    return nan;
  }

 private:
  template <int D, int H>
  struct Rows {
    static constexpr int kMost = D == 0 ? 4 : D * H;
    const T* first;
    int64_t step_d, step_h;
    int depth, height;
  };

  template <int D, int H>
  __attribute__((noinline)) unsigned some(
      Rows<D, H> rows,
      int label,
      int64_t advance,
      T* y,
      uint8_t* codes,
      int64_t code_step,
      int64_t n) const {
    constexpr bool kAlone = K <= S; // no vector of outputs sees the next one's
    constexpr int kMost = Rows<D, H>::kMost;
    const uint16_t* table = vectors_.inside.data();
    const uint8_t* first_tap = first_tap_.data();
    const int64_t last = vectors_.count - 1, y_step = w_.to_stride[1];
    const bool ahead = !kAlone && vectors_.ahead;
    const unsigned rest = vectors_.rest;
    const int depth = D > 0 ? D : rows.depth, height = H > 0 ? H : rows.height;
    const int slice = slice_;
    const Vec<A> lowest = broadcast(-std::numeric_limits<A>::infinity());
    unsigned nan = 0;
    NearColumns<A> now[kMost], next[kMost];
    const auto load =
        [&](int64_t i, NearColumns<A>(&to)[kMost])
            __attribute__((always_inline)) {
              const unsigned m0 = table[i * S], m1 = table[i * S + S - 1];
              const T* p = rows.first + i * S * L;
              int r = 0;
#pragma GCC unroll 2
              for (int d = 0; d < depth; ++d) {
#pragma GCC unroll 3
                for (int h = 0; h < height; ++h, ++r) {
                  const T* q = p + d * rows.step_d + h * rows.step_h;
                  const Vec<A> a = load_lanes(q, m0, lowest);
                  if constexpr (S == 1) {
                    nan |= lanes_with_nan<A>(a, a);
                    to[r].a = a;
                  } else {
                    const Vec<A> b = load_lanes(q + L, m1, lowest);
                    nan |= lanes_with_nan<A>(a, b);
                    to[r] = {every_other<0, A>(a, b), every_other<1, A>(a, b)};
                  }
                }
              }
            };
    const auto output = [&](int64_t i,
                            unsigned mask) __attribute__((always_inline)) {
      Vec<A> best = near_tap<S, 0, A>(now[0], next[0]);
      __m128i code = _mm_add_epi8(
          _mm_loadu_si128(reinterpret_cast<const __m128i*>(first_tap + i * L)),
          _mm_set1_epi8(static_cast<char>(label)));
      const auto take = [&](const Vec<A>& v, int name)
                            __attribute__((always_inline)) {
                              const unsigned k = lanes_greater<A>(v, best);
                              best = larger_of<A>(v, best);
                              code = _mm_mask_mov_epi8(
                                  code,
                                  static_cast<__mmask16>(k),
                                  _mm_set1_epi8(static_cast<char>(name)));
                            };
      int r = 0;
#pragma GCC unroll 2
      for (int d = 0; d < depth; ++d) {
#pragma GCC unroll 3
        for (int h = 0; h < height; ++h, ++r) {
          const int name = label + d * slice + h * K;
          if (r > 0) {
            take(near_tap<S, 0, A>(now[r], next[r]), name);
          }
          take(near_tap<S, 1, A>(now[r], next[r]), name + 1);
          if constexpr (K == 3) {
            take(near_tap<S, 2, A>(now[r], next[r]), name + 2);
          }
        }
      }
      store_lanes(y + i * L, best, mask);
      _mm_mask_storeu_epi8(codes + i * L, static_cast<__mmask16>(mask), code);
    };
    for (int64_t row = 0; row < n; ++row) {
      load(0, now);
      for (int64_t i = 0; i < last; ++i) {
        load(i + 1, next);
        output(i, V::kAll);
#pragma GCC unroll 4
        for (int r = 0; r < depth * height; ++r) {
          now[r] = next[r];
        }
      }
      if (ahead) {
        load(last + 1, next);
      } else {
#pragma GCC unroll 4
        for (int r = 0; r < depth * height; ++r) {
          next[r] = now[r];
        }
      }
      output(last, rest);
      rows.first += advance;
      y += y_step;
      codes += code_step;
    }
    return nan;
  }

  const NearWindows& w_;
  const V vectors_;
  std::vector<uint8_t> first_tap_; // inside the row, by output
  int slice_; // taps of a slice of the window
};

// Flat positions from the numbers of taps: those of a window's taps from a
// table, which starts lie `step` apart.
class NearPositions {
 public:
  static constexpr int64_t kTaps = 32; // that have a place in the table

  explicit NearPositions(const PoolProblem& p)
      : step_(static_cast<int32_t>(p.stride[2])) {
    const int64_t kh = p.kernel[1], kw = p.kernel[2];
    for (int64_t t = 0; t < pool_taps(p) && t < kTaps; ++t) {
      table_[t] = static_cast<int32_t>(
          (t / (kh * kw) * p.in[1] + t / kw % kh) * p.in[2] + t % kw);
    }
  }

  // n codes of windows from position `start` on.
  template <typename I>
  void expand(const uint8_t* codes, int64_t n, int32_t start, I* to) const {
    const __m512i low = _mm512_loadu_si512(table_);
    const __m512i high = _mm512_loadu_si512(table_ + 16);
    const __m512i lane =
        _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __m512i from = _mm512_add_epi32(
        _mm512_set1_epi32(start),
        _mm512_mullo_epi32(lane, _mm512_set1_epi32(step_)));
    const __m512i step = _mm512_set1_epi32(16 * step_);
    for (int64_t i = 0; i < n; i += 16) {
      const unsigned mask = lanes_inside(i, n, 16);
      const __m128i code =
          _mm_maskz_loadu_epi8(static_cast<__mmask16>(mask), codes + i);
      const __m512i position = _mm512_add_epi32(
          from,
          _mm512_permutex2var_epi32(low, _mm512_cvtepu8_epi32(code), high));
      from = _mm512_add_epi32(from, step);
      if constexpr (sizeof(I) == 4) {
        _mm512_mask_storeu_epi32(
            to + i, static_cast<__mmask16>(mask), position);
      } else {
        _mm512_mask_storeu_epi64(
            to + i,
            static_cast<__mmask8>(mask),
            _mm512_cvtepi32_epi64(_mm512_castsi512_si256(position)));
        _mm512_mask_storeu_epi64(
            to + i + 8,
            static_cast<__mmask8>(mask >> 8),
            _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(position, 1)));
      }
    }
  }

 private:
  int32_t table_[kTaps] = {};
  int32_t step_;
};

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
