// What the pooling kernels need of vectors beyond simd.h; read once per
// instruction set (no #pragma once on purpose: see foreach_isa.h). The file
// that reads it includes <limits>, <type_traits> and <utility> itself.
#include "cpu/simd.h"

#include "cpu/shuffle.h"

#include "cpu/pool_lanes.h"

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// The integer as wide as A: lanes of codes go beside lanes of values.
template <typename A>
using Label = LaneInt<A>;

// Replaces the lanes of best (and of code, if Codes) where v is greater or NaN.
template <bool Codes, typename A>
inline void take(
    Vec<A>& best,
    Vec<Label<A>>& code,
    const Vec<A>& v,
    const Vec<Label<A>>& label) {
#if defined(TC_AVX512)
  if constexpr (std::is_same_v<A, float>) {
    const __mmask16 nan =
        _mm512_cmp_ps_mask((__m512)v, (__m512)v, _CMP_UNORD_Q);
    if constexpr (Codes) {
      const __mmask16 k =
          nan | _mm512_cmp_ps_mask((__m512)v, (__m512)best, _CMP_GT_OQ);
      code = (Vec<Label<A>>)_mm512_mask_mov_epi32(
          (__m512i)code, k, (__m512i)label);
    }
    // max returns its second operand unless the first one is greater. Nothing
    // that a next tap waits for goes through a mask that depends on best.
    best = (Vec<A>)_mm512_mask_mov_ps(
        _mm512_max_ps((__m512)v, (__m512)best), nan, (__m512)v);
    return;
  } else {
    const __mmask8 nan =
        _mm512_cmp_pd_mask((__m512d)v, (__m512d)v, _CMP_UNORD_Q);
    if constexpr (Codes) {
      const __mmask8 k =
          nan | _mm512_cmp_pd_mask((__m512d)v, (__m512d)best, _CMP_GT_OQ);
      code = (Vec<Label<A>>)_mm512_mask_mov_epi64(
          (__m512i)code, k, (__m512i)label);
    }
    best = (Vec<A>)_mm512_mask_mov_pd(
        _mm512_max_pd((__m512d)v, (__m512d)best), nan, (__m512d)v);
    return;
  }
#endif
  const Vec<Label<A>> k = (v > best) | (v != v);
  best = k ? v : best;
  if constexpr (Codes) {
    code = k ? label : code;
  }
}

// The larger of two maxima, each with its code: whichever their order in the
// window was, codes grow along it.
template <bool Codes, typename A>
inline void merge(
    Vec<A>& best,
    Vec<Label<A>>& code,
    const Vec<A>& v,
    const Vec<Label<A>>& label) {
  if constexpr (Codes) {
    const Vec<Label<A>> k = (v > best) | ((v == best) & (label < code)) |
        ((v != v) & ((best == best) | (label > code)));
    best = k ? v : best;
    code = k ? label : code;
  } else {
    take<false, A>(best, code, v, label);
  }
}

template <typename A>
inline Vec<A> lowest() {
  return broadcast(-std::numeric_limits<A>::infinity());
}

template <typename T, size_t... I>
inline Vec<T> iota_lanes(std::index_sequence<I...>) {
  return Vec<T>{static_cast<T>(I)...};
}
template <typename T>
inline Vec<T> iota() {
  return iota_lanes<T>(std::make_index_sequence<kLanes<T>>{});
}

// Lanes [lo, hi) of a vector that starts at position i of a row of n.
struct LaneRange {
  int lo, hi;
};
inline LaneRange inside(int64_t i, int64_t n, int lanes) {
  const int64_t lo = i < 0 ? -i : 0, hi = n - i;
  const LaneRange r{
      static_cast<int>(lo < lanes ? lo : lanes),
      static_cast<int>(hi < lanes ? (hi > 0 ? hi : 0) : lanes)};
  return {r.lo, r.hi < r.lo ? r.lo : r.hi};
}

// Elements [i, i + lanes) of a row of n; those outside it read as `fill` and
// are not touched.
template <typename S>
inline Vec<acc_t<S>> load_window(
    const S* row,
    int64_t i,
    int64_t n,
    acc_t<S> fill = -std::numeric_limits<acc_t<S>>::infinity()) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  const LaneRange r = inside(i, n, L);
#if defined(TC_AVX512)
  const unsigned mask = ((1u << r.hi) - 1u) & ~((1u << r.lo) - 1u);
  if constexpr (std::is_same_v<S, float>) {
    return (Vec<A>)_mm512_mask_loadu_ps(
        (__m512)broadcast(fill), static_cast<__mmask16>(mask), row + i);
  } else if constexpr (std::is_same_v<S, double>) {
    return (Vec<A>)_mm512_mask_loadu_pd(
        (__m512d)broadcast(fill), static_cast<__mmask8>(mask), row + i);
  } else {
    alignas(32) S lanes[L];
    _mm256_store_si256(
        reinterpret_cast<__m256i*>(lanes),
        _mm256_mask_loadu_epi16(
            _mm256_set1_epi16(static_cast<short>(S(fill).bits)),
            static_cast<__mmask16>(mask),
            row + i));
    return load_as(lanes);
  }
#else
#if defined(TC_AVX2)
  if constexpr (std::is_same_v<S, float>) {
    const Vec<int32_t> lane = iota<int32_t>();
    const Vec<int32_t> mask = (lane >= r.lo) & (lane < r.hi);
    const Vec<A> v = (Vec<A>)_mm256_maskload_ps(row + i, (__m256i)mask);
    return mask ? v : broadcast(fill);
  }
#endif
  alignas(kVectorBytes) S lanes[L];
  for (int j = 0; j < L; ++j) {
    lanes[j] = S(fill);
  }
  for (int j = r.lo; j < r.hi; ++j) {
    lanes[j] = row[i + j];
  }
  return load_as(lanes);
#endif
}

template <typename S>
inline void store_first(S* p, const Vec<acc_t<S>>& v, int n) {
  if (n == kLanes<acc_t<S>>) {
    store_as(p, v);
  } else {
    store_as_partial(p, v, n);
  }
}

// The first n < L lanes of v; out of line, to keep the loops around it small.
template <typename To, int L>
__attribute__((noinline)) void store_part(
    To* p,
    typename VecOf<To, L * sizeof(To)>::type v,
    int n) {
#if defined(TC_AVX512)
  if constexpr (sizeof(v) <= 16) {
    __m128i bytes = _mm_setzero_si128();
    std::memcpy(&bytes, &v, sizeof(v));
    _mm_mask_storeu_epi8(p, static_cast<__mmask16>((1u << n) - 1u), bytes);
    return;
  }
#endif
  alignas(64) To lanes[L];
  std::memcpy(lanes, &v, sizeof(v));
  for (int j = 0; j < n; ++j) {
    p[j] = lanes[j];
  }
}

// The first n lanes of c as To.
template <typename From, typename To>
inline void store_narrow(To* p, const Vec<From>& c, int n) {
  constexpr int L = kLanes<From>;
  using Narrow = typename VecOf<To, L * sizeof(To)>::type;
  Narrow v = __builtin_convertvector(c, Narrow);
#if defined(TC_AVX512)
  if constexpr (sizeof(To) < sizeof(From)) {
    // Through a register: stores that narrow are microcode on some processors.
    asm("" : "+v"(v));
  }
#endif
  if (n == L) {
    std::memcpy(p, &v, sizeof(v));
  } else {
    store_part<To, L>(p, v, n);
  }
}

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
