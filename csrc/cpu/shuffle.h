// Vectors kept in registers, and lanes changing places; read once per instruction set, after simd.h (no
// #pragma once on purpose: see foreach_isa.h). The file that reads it includes
// <type_traits> and <utility> itself.

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// Keeps a loaded vector in a register. Without it the compiler makes the load
// an operand of every multiply-add that uses the vector; most of these loads
// straddle two cache lines, and the tile then waits for them.
template <typename A>
inline Vec<A> held(Vec<A> v) {
#if defined(TC_AVX512)
  __asm__("" : "+v"(v));
#elif defined(__x86_64__)
  __asm__("" : "+x"(v));
#endif
  return v;
}

// The integer as wide as A.
template <typename A>
using LaneInt = std::conditional_t<sizeof(A) == 4, int32_t, int64_t>;

// Lanes first, first + 2, ... of a and b one after the other.
template <int First, typename A, size_t... I>
inline Vec<A> every_other(Vec<A> a, Vec<A> b, std::index_sequence<I...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, static_cast<int>(2 * I + First)...);
#else
  return __builtin_shuffle(
      a, b, Vec<LaneInt<A>>{static_cast<LaneInt<A>>(2 * I + First)...});
#endif
}
template <int First, typename A>
inline Vec<A> every_other(Vec<A> a, Vec<A> b) {
  return every_other<First, A>(a, b, std::make_index_sequence<kLanes<A>>{});
}

#if defined(TC_AVX512)
// Lanes By, By + 1, ... of a and b one after the other.
template <int By, typename A>
inline Vec<A> shifted(Vec<A> a, Vec<A> b) {
  if constexpr (By == 0) {
    return a;
  } else if constexpr (sizeof(A) == 4) {
    return (Vec<A>)_mm512_alignr_epi32((__m512i)b, (__m512i)a, By);
  } else {
    return (Vec<A>)_mm512_alignr_epi64((__m512i)b, (__m512i)a, By);
  }
}
#endif

// a and b in turns: lanes a0 b0 a1 b1 ... of their first or second half.
template <int Half, typename A, size_t... I>
inline Vec<A> interleave(Vec<A> a, Vec<A> b, std::index_sequence<I...>) {
  constexpr int L = kLanes<A>;
#if defined(__clang__)
  return __builtin_shufflevector(
      a, b, static_cast<int>(Half * L / 2 + I / 2 + I % 2 * L)...);
#else
  return __builtin_shuffle(
      a,
      b,
      Vec<LaneInt<A>>{
          static_cast<LaneInt<A>>(Half * L / 2 + I / 2 + I % 2 * L)...});
#endif
}
template <int Half, typename A>
inline Vec<A> interleave(Vec<A> a, Vec<A> b) {
  return interleave<Half, A>(a, b, std::make_index_sequence<kLanes<A>>{});
}

// The sums of L vectors, side by side into the first of them: halves onto halves,
// which has the error of a pairwise sum.
template <typename A>
inline void sum_all(A* v) {
  constexpr int L = kLanes<A>;
  Vec<A> rows[L];
#pragma GCC unroll 16
  for (int l = 0; l < L; ++l) {
    rows[l] = load(v + l * L);
  }
#pragma GCC unroll 4
  for (int h = L / 2; h > 0; h /= 2) {
#pragma GCC unroll 16
    for (int l = 0; l < h; ++l) {
      rows[l] = interleave<0, A>(rows[l], rows[l + h]) +
          interleave<1, A>(rows[l], rows[l + h]);
    }
  }
  store(v, rows[0]);
}

// Row i becomes column i: each round of interleaving the first half of the
// rows with the second moves one bit of the row number to the lane number.
template <typename A>
inline void transpose(Vec<A> (&rows)[kLanes<A>]) {
  constexpr int L = kLanes<A>;
#pragma GCC unroll 4
  for (int round = 1; round < L; round *= 2) {
    Vec<A> next[L];
#pragma GCC unroll 16
    for (int i = 0; i < L / 2; ++i) {
      next[2 * i] = interleave<0, A>(rows[i], rows[i + L / 2]);
      next[2 * i + 1] = interleave<1, A>(rows[i], rows[i + L / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i) {
      rows[i] = next[i];
    }
  }
}

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
