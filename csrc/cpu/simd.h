// Vectors by compiler vector extensions; read once per instruction set (no
// #pragma once on purpose: see foreach_isa.h).
//
// Vec<T> holds kVectorBytes of T and takes + - * / < ?: and casts as a scalar
// does (an arithmetic a * b + c is contracted to one FMA where there is one).
// load_as / store_as move a storage type S through the type it computes in,
// acc_t<S>: for half and bfloat16 that is float.

namespace torchconv {
namespace cpu {
namespace TC_ISA {

constexpr int kVectorBytes = TC_VECTOR_BYTES;
constexpr int kRegisters = TC_REGISTERS;

template <typename T, int Bytes = kVectorBytes>
struct VecOf {
  typedef T type __attribute__((vector_size(Bytes), may_alias));
  typedef T unaligned
      __attribute__((vector_size(Bytes), aligned(alignof(T)), may_alias));
};
template <typename T>
using Vec = typename VecOf<T>::type;
template <typename T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

template <typename T>
inline Vec<T> load(const T* p) {
  return *reinterpret_cast<const typename VecOf<T>::unaligned*>(p);
}
template <typename T>
inline void store(T* p, Vec<T> v) {
  *reinterpret_cast<typename VecOf<T>::unaligned*>(p) = v;
}
template <typename T>
inline Vec<T> broadcast(T x) {
  return x - Vec<T>{}; // x - 0: exact for every x, also -0
}

#if defined(TC_AVX2) && !defined(TC_AVX512)
template <typename I>
inline __m256i first_lanes(int n) {
  Vec<I> lane;
  for (int i = 0; i < kLanes<I>; ++i) {
    lane[i] = i;
  }
  return (__m256i)(lane < static_cast<I>(n));
}
#endif

// The first n lanes (0 <= n <= kLanes), the others zero / untouched.
template <typename T>
inline Vec<T> load_partial(const T* p, int n) {
#if defined(TC_AVX512)
  if constexpr (sizeof(T) == 4) {
    return (Vec<T>)_mm512_maskz_loadu_epi32((__mmask16)((1u << n) - 1u), p);
  } else if constexpr (sizeof(T) == 8) {
    return (Vec<T>)_mm512_maskz_loadu_epi64((__mmask8)((1u << n) - 1u), p);
  }
#elif defined(TC_AVX2)
  if constexpr (sizeof(T) == 4) {
    return (Vec<T>)_mm256_maskload_epi32(
        reinterpret_cast<const int*>(p), first_lanes<int32_t>(n));
  } else if constexpr (sizeof(T) == 8) {
    return (Vec<T>)_mm256_maskload_epi64(
        reinterpret_cast<const long long*>(p), first_lanes<int64_t>(n));
  }
#endif
  alignas(kVectorBytes) T lanes[kLanes<T>] = {};
  for (int i = 0; i < n; ++i) {
    lanes[i] = p[i];
  }
  return load(lanes);
}
template <typename T>
inline void store_partial(T* p, Vec<T> v, int n) {
#if defined(TC_AVX512)
  if constexpr (sizeof(T) == 4) {
    _mm512_mask_storeu_epi32(p, (__mmask16)((1u << n) - 1u), (__m512i)v);
    return;
  } else if constexpr (sizeof(T) == 8) {
    _mm512_mask_storeu_epi64(p, (__mmask8)((1u << n) - 1u), (__m512i)v);
    return;
  }
#elif defined(TC_AVX2)
  if constexpr (sizeof(T) == 4) {
    _mm256_maskstore_epi32(
        reinterpret_cast<int*>(p), first_lanes<int32_t>(n), (__m256i)v);
    return;
  } else if constexpr (sizeof(T) == 8) {
    _mm256_maskstore_epi64(
        reinterpret_cast<long long*>(p), first_lanes<int64_t>(n), (__m256i)v);
    return;
  }
#endif
  alignas(kVectorBytes) T lanes[kLanes<T>];
  store(lanes, v);
  for (int i = 0; i < n; ++i) {
    p[i] = lanes[i];
  }
}

// Storage <-> compute. For float, double and the integers they are the same.
template <typename S>
inline Vec<acc_t<S>> load_as(const S* p) {
  return load(p);
}
template <typename S>
inline void store_as(S* p, Vec<acc_t<S>> v) {
  store(p, v);
}

template <>
inline Vec<float> load_as<bfloat16>(const bfloat16* p) {
#if defined(TC_AVX512)
  // Every word to the upper half of a lane, in one step.
  const __m512i words = _mm512_castsi256_si512(
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  const __m512i upper = (__m512i)Vec<int16_t>{
      0, 0, 0, 1, 0, 2,  0, 3,  0, 4,  0, 5,  0, 6,  0, 7,
      0, 8, 0, 9, 0, 10, 0, 11, 0, 12, 0, 13, 0, 14, 0, 15};
  return (Vec<float>)_mm512_maskz_permutexvar_epi16(0xaaaaaaaau, upper, words);
#else
  constexpr int n = kLanes<float>;
  typename VecOf<uint16_t, kVectorBytes / 2>::type bits;
  std::memcpy(&bits, p, n * 2);
  return (Vec<float>)(__builtin_convertvector(bits, Vec<uint32_t>) << 16);
#endif
}
template <>
inline void store_as<bfloat16>(bfloat16* p, Vec<float> v) {
#if defined(TC_AVX512)
  // To nearest even, NaN stays NaN; the upper halves side by side.
  const __m512i bits = (__m512i)v;
  const __mmask16 odd =
      _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x10000));
  const __m512i half = _mm512_mask_blend_epi32(
      odd, _mm512_set1_epi32(0x7fff), _mm512_set1_epi32(0x8000));
  const __m512i rounded = _mm512_mask_or_epi32(
      _mm512_add_epi32(bits, half),
      _mm512_cmp_ps_mask((__m512)v, (__m512)v, _CMP_UNORD_Q),
      bits,
      _mm512_set1_epi32(0x400000));
  const __m512i upper = (__m512i)Vec<int16_t>{
      1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31};
  _mm256_storeu_si256(
      reinterpret_cast<__m256i*>(p),
      _mm512_castsi512_si256(_mm512_permutexvar_epi16(upper, rounded)));
#else
  const Vec<uint32_t> u = (Vec<uint32_t>)v;
  const Vec<uint32_t> even = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const Vec<uint32_t> nan = (u >> 16) | 0x40u;
  const Vec<uint32_t> bits = ((u & 0x7fffffffu) > 0x7f800000u) ? nan : even;
  const auto narrow = __builtin_convertvector(
      bits, typename VecOf<uint16_t, kVectorBytes / 2>::type);
  std::memcpy(p, &narrow, kLanes<float> * 2);
#endif
}

template <>
inline Vec<float> load_as<half>(const half* p) {
#if defined(TC_AVX512)
  return (Vec<float>)_mm512_cvtph_ps(
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(TC_AVX2)
  return (Vec<float>)_mm256_cvtph_ps(
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
  Vec<float> v;
  for (int i = 0; i < kLanes<float>; ++i) {
    v[i] = p[i];
  }
  return v;
#endif
}
template <>
inline void store_as<half>(half* p, Vec<float> v) {
#if defined(TC_AVX512)
  _mm256_storeu_si256(
      reinterpret_cast<__m256i*>(p),
      _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
#elif defined(TC_AVX2)
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(p),
      _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
#else
  for (int i = 0; i < kLanes<float>; ++i) {
    p[i] = half(v[i]);
  }
#endif
}

template <typename S>
inline Vec<acc_t<S>> load_as_partial(const S* p, int n) {
  if constexpr (sizeof(S) == sizeof(acc_t<S>)) {
    return load_partial(p, n);
  } else {
    alignas(kVectorBytes) S lanes[kLanes<float>] = {};
    for (int i = 0; i < n; ++i) {
      lanes[i] = p[i];
    }
    return load_as(lanes);
  }
}
template <typename S>
inline void store_as_partial(S* p, Vec<acc_t<S>> v, int n) {
  if constexpr (sizeof(S) == sizeof(acc_t<S>)) {
    store_partial(p, v, n);
  } else {
    alignas(kVectorBytes) S lanes[kLanes<float>];
    store_as(lanes, v);
    for (int i = 0; i < n; ++i) {
      p[i] = lanes[i];
    }
  }
}

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
