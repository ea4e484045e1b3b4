// Vector pieces of the gradient of max pooling; read once per instruction set
// (no #pragma once on purpose: see foreach_isa.h).
#include "cpu/pool_simd.h"

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// A row or pixel of outputs that may have chosen the inputs at hand.
template <typename S>
struct GradSource {
  const S* grad;
  const uint8_t* codes;
  int64_t label;
};

// sum += grad where the code is the label.
template <typename S>
inline void add_chosen(
    Vec<acc_t<S>>& sum,
    const Vec<acc_t<S>>& grad,
    const typename VecOf<uint8_t, kLanes<acc_t<S>>>::type& codes,
    uint8_t label) {
  using A = acc_t<S>;
#if defined(TC_AVX512)
  __m128i bytes = _mm_setzero_si128();
  std::memcpy(&bytes, &codes, sizeof(codes));
  const __mmask16 k =
      _mm_cmpeq_epi8_mask(bytes, _mm_set1_epi8(static_cast<char>(label)));
  if constexpr (std::is_same_v<A, float>) {
    sum = (Vec<A>)_mm512_mask_add_ps((__m512)sum, k, (__m512)sum, (__m512)grad);
  } else {
    sum = (Vec<A>)_mm512_mask_add_pd(
        (__m512d)sum, static_cast<__mmask8>(k), (__m512d)sum, (__m512d)grad);
  }
#else
  const Vec<Label<A>> wide = __builtin_convertvector(codes, Vec<Label<A>>);
  const Vec<Label<A>> chosen = wide == static_cast<Label<A>>(label);
  sum += (Vec<A>)((Vec<Label<A>>)grad & chosen);
#endif
}

// sum += grad where the code, one of as many as sum has lanes, is the label.
template <typename A, typename C>
inline void add_coded(
    Vec<A>& sum,
    const Vec<A>& grad,
    const C* codes,
    C label) {
  constexpr int L = kLanes<A>;
#if defined(TC_AVX512)
  const auto add = [&](unsigned k) {
    if constexpr (std::is_same_v<A, float>) {
      sum = (Vec<A>)_mm512_mask_add_ps(
          (__m512)sum, static_cast<__mmask16>(k), (__m512)sum, (__m512)grad);
    } else {
      sum = (Vec<A>)_mm512_mask_add_pd(
          (__m512d)sum, static_cast<__mmask8>(k), (__m512d)sum, (__m512d)grad);
    }
  };
  if constexpr (std::is_same_v<C, uint8_t>) {
    __m128i bytes = _mm_setzero_si128();
    std::memcpy(&bytes, codes, L);
    add(_mm_cmpeq_epi8_mask(bytes, _mm_set1_epi8(static_cast<char>(label))));
  } else if constexpr (std::is_same_v<C, int32_t> && L == 16) {
    add(_mm512_cmpeq_epi32_mask(
        _mm512_loadu_si512(codes), _mm512_set1_epi32(label)));
  } else if constexpr (std::is_same_v<C, int32_t>) {
    add(_mm256_cmpeq_epi32_mask(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes)),
        _mm256_set1_epi32(label)));
  } else {
    const __m512i wanted = _mm512_set1_epi64(label);
    const __mmask8 low =
        _mm512_cmpeq_epi64_mask(_mm512_loadu_si512(codes), wanted);
    if constexpr (L == 8) {
      add(low);
    } else {
      const __mmask8 high =
          _mm512_cmpeq_epi64_mask(_mm512_loadu_si512(codes + 8), wanted);
      add(_mm512_kunpackb(high, low));
    }
  }
#else
  // Compared in the wider one of the two types: codes may be any numbers.
  using I = std::conditional_t<(sizeof(C) > sizeof(A)), C, Label<A>>;
  typename VecOf<C, L * sizeof(C)>::type narrow;
  std::memcpy(&narrow, codes, sizeof(narrow));
  using Wide = typename VecOf<I, L * sizeof(I)>::type;
  const Wide chosen =
      __builtin_convertvector(narrow, Wide) == static_cast<I>(label);
  sum += (Vec<A>)((Vec<Label<A>>)grad &
                  __builtin_convertvector(chosen, Vec<Label<A>>));
#endif
}

#if defined(TC_AVX512)
// Which of the first L codes in the mask are the label; no others are read.
template <int L, typename C>
inline unsigned lanes_equal(const C* codes, C label, unsigned mask) {
  if constexpr (std::is_same_v<C, uint8_t>) {
    const auto m = static_cast<__mmask16>(mask);
    return _mm_mask_cmpeq_epi8_mask(
        m,
        _mm_maskz_loadu_epi8(m, codes),
        _mm_set1_epi8(static_cast<char>(label)));
  } else if constexpr (std::is_same_v<C, int32_t>) {
    const auto m = static_cast<__mmask16>(mask);
    return _mm512_mask_cmpeq_epi32_mask(
        m, _mm512_maskz_loadu_epi32(m, codes), _mm512_set1_epi32(label));
  } else {
    unsigned equal = 0;
    for (int i = 0; i < L; i += 8) {
      const auto m = static_cast<__mmask8>(mask >> i);
      const unsigned some = _mm512_mask_cmpeq_epi64_mask(
          m, _mm512_maskz_loadu_epi64(m, codes + i), _mm512_set1_epi64(label));
      equal |= some << i;
    }
    return equal;
  }
}
#endif

template <int L>
inline typename VecOf<uint8_t, L>::type load_codes(const uint8_t* p) {
  typename VecOf<uint8_t, L>::type v;
  std::memcpy(&v, p, L);
  return v;
}

// Those of [i, i + L) inside a row of n; the others are 0 and not touched.
template <int L>
inline typename VecOf<uint8_t, L>::type load_codes_window(
    const uint8_t* row,
    int64_t i,
    int64_t n) {
  const LaneRange r = inside(i, n, L);
#if defined(TC_AVX512)
  const unsigned mask = ((1u << r.hi) - 1u) & ~((1u << r.lo) - 1u);
  const __m128i bytes =
      _mm_maskz_loadu_epi8(static_cast<__mmask16>(mask), row + i);
  typename VecOf<uint8_t, L>::type v;
  std::memcpy(&v, &bytes, L);
  return v;
#else
  uint8_t lanes[L] = {};
  for (int j = r.lo; j < r.hi; ++j) {
    lanes[j] = row[i + j];
  }
  return load_codes<L>(lanes);
#endif
}

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
