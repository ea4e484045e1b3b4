// Parts of vectors under AVX-512's masks: lanes that are not in the mask are
// not touched in memory, so that vectors may hang over the ends of rows. Read
// in the AVX-512 region only, after simd.h and shuffle.h.

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// Lanes [0, L) of a vector that starts at position `at` of a row of n.
inline unsigned lanes_inside(int64_t at, int64_t n, int lanes) {
  const int64_t lo = at < 0 ? -at : 0, hi = n - at;
  if (lo >= lanes || hi <= lo) {
    return 0;
  }
  const unsigned below = hi >= lanes ? (1u << lanes) - 1 : (1u << hi) - 1;
  return below & ~((1u << lo) - 1);
}

// The lanes of the mask; the others are `fill`.
template <typename S>
inline Vec<acc_t<S>> load_lanes(
    const S* p,
    unsigned mask,
    const Vec<acc_t<S>>& fill) {
  if constexpr (std::is_same_v<S, float>) {
    return (Vec<float>)_mm512_mask_loadu_ps(
        (__m512)fill, static_cast<__mmask16>(mask), p);
  } else if constexpr (std::is_same_v<S, double>) {
    return (Vec<double>)_mm512_mask_loadu_pd(
        (__m512d)fill, static_cast<__mmask8>(mask), p);
  } else {
    const __m256i bits =
        _mm256_maskz_loadu_epi16(static_cast<__mmask16>(mask), p);
    __m512 v;
    if constexpr (std::is_same_v<S, half>) {
      v = _mm512_cvtph_ps(bits);
    } else {
      v = _mm512_castsi512_ps(
          _mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
    }
    return (Vec<float>)_mm512_mask_mov_ps(
        (__m512)fill, static_cast<__mmask16>(mask), v);
  }
}

template <typename S>
inline void store_lanes(S* p, const Vec<acc_t<S>>& v, unsigned mask) {
  if constexpr (std::is_same_v<S, float>) {
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>(mask), (__m512)v);
  } else if constexpr (std::is_same_v<S, double>) {
    _mm512_mask_storeu_pd(p, static_cast<__mmask8>(mask), (__m512d)v);
  } else {
    alignas(32) S lanes[16];
    store_as(lanes, v);
    _mm256_mask_storeu_epi16(
        p,
        static_cast<__mmask16>(mask),
        _mm256_load_si256(reinterpret_cast<const __m256i*>(lanes)));
  }
}

// Lanes where one of both is NaN.
template <typename A>
inline unsigned lanes_with_nan(const Vec<A>& a, const Vec<A>& b) {
  if constexpr (sizeof(A) == 4) {
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_UNORD_Q);
  } else {
    return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_UNORD_Q);
  }
}

// The larger of numbers; the second of equal ones.
template <typename A>
inline Vec<A> larger_of(const Vec<A>& a, const Vec<A>& b) {
  if constexpr (sizeof(A) == 4) {
    return (Vec<A>)_mm512_max_ps((__m512)a, (__m512)b);
  } else {
    return (Vec<A>)_mm512_max_pd((__m512d)a, (__m512d)b);
  }
}

// Lanes where a > b.
template <typename A>
inline unsigned lanes_greater(const Vec<A>& a, const Vec<A>& b) {
  if constexpr (sizeof(A) == 4) {
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ);
  } else {
    return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_GT_OQ);
  }
}

// v / d, rounded as a division is, from r = 1 / d: a division takes ten cycles,
// this takes two (Markstein 1990, theorem 8.5 of Muller et al., Handbook of
// Floating-Point Arithmetic). What is not finite has no remainder; quotients
// below the normal numbers may be off in their last bit.
template <typename A>
inline Vec<A> quotient(const Vec<A>& v, A d, A r) {
  const Vec<A> q = v * r;
  if constexpr (sizeof(A) == 4) {
    const __m512 rest =
        _mm512_fnmadd_ps((__m512)q, _mm512_set1_ps(d), (__m512)v);
    return (Vec<A>)_mm512_mask3_fmadd_ps(
        rest,
        _mm512_set1_ps(r),
        (__m512)q,
        _mm512_cmp_ps_mask(rest, rest, _CMP_ORD_Q));
  } else {
    const __m512d rest =
        _mm512_fnmadd_pd((__m512d)q, _mm512_set1_pd(d), (__m512d)v);
    return (Vec<A>)_mm512_mask3_fmadd_pd(
        rest,
        _mm512_set1_pd(r),
        (__m512d)q,
        _mm512_cmp_pd_mask(rest, rest, _CMP_ORD_Q));
  }
}

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
