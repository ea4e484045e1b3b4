// Turning planes into channels and back: a vector's worth of planes, their
// elements side by side. Read once per instruction set, after pool_simd.h and
// shuffle.h.

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// Whole vectors of L rows, at `offset` of each, turned: v[i] has element i of
// every row. In float32 quarters of vectors come from memory to where they
// belong, and the rest is two rounds of interleaving inside quarters.
template <typename S>
inline void load_turned(
    const S* const (&from)[kLanes<acc_t<S>>],
    int64_t offset,
    Vec<acc_t<S>> (&v)[kLanes<acc_t<S>>]) {
  constexpr int L = kLanes<acc_t<S>>;
#if defined(TC_AVX512)
  if constexpr (std::is_same_v<S, float>) {
#pragma GCC unroll 4
    for (int q = 0; q < L; q += 4) {
      __m512 r[4];
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const int64_t at = offset + q;
        r[j] = _mm512_castps128_ps512(_mm_loadu_ps(from[j] + at));
        r[j] = _mm512_insertf32x4(r[j], _mm_loadu_ps(from[j + 4] + at), 1);
        r[j] = _mm512_insertf32x4(r[j], _mm_loadu_ps(from[j + 8] + at), 2);
        r[j] = _mm512_insertf32x4(r[j], _mm_loadu_ps(from[j + 12] + at), 3);
      }
      const __m512d a = (__m512d)_mm512_unpacklo_ps(r[0], r[1]);
      const __m512d b = (__m512d)_mm512_unpackhi_ps(r[0], r[1]);
      const __m512d c = (__m512d)_mm512_unpacklo_ps(r[2], r[3]);
      const __m512d d = (__m512d)_mm512_unpackhi_ps(r[2], r[3]);
      v[q] = (Vec<float>)_mm512_unpacklo_pd(a, c);
      v[q + 1] = (Vec<float>)_mm512_unpackhi_pd(a, c);
      v[q + 2] = (Vec<float>)_mm512_unpacklo_pd(b, d);
      v[q + 3] = (Vec<float>)_mm512_unpackhi_pd(b, d);
    }
    return;
  }
#elif defined(TC_AVX2)
  if constexpr (std::is_same_v<S, float>) {
#pragma GCC unroll 2
    for (int q = 0; q < L; q += 4) {
      __m256 r[4];
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const int64_t at = offset + q;
        r[j] = _mm256_insertf128_ps(
            _mm256_castps128_ps256(_mm_loadu_ps(from[j] + at)),
            _mm_loadu_ps(from[j + 4] + at),
            1);
      }
      const __m256d a = (__m256d)_mm256_unpacklo_ps(r[0], r[1]);
      const __m256d b = (__m256d)_mm256_unpackhi_ps(r[0], r[1]);
      const __m256d c = (__m256d)_mm256_unpacklo_ps(r[2], r[3]);
      const __m256d d = (__m256d)_mm256_unpackhi_ps(r[2], r[3]);
      v[q] = (Vec<float>)_mm256_unpacklo_pd(a, c);
      v[q + 1] = (Vec<float>)_mm256_unpackhi_pd(a, c);
      v[q + 2] = (Vec<float>)_mm256_unpacklo_pd(b, d);
      v[q + 3] = (Vec<float>)_mm256_unpackhi_pd(b, d);
    }
    return;
  }
#endif
  for (int j = 0; j < L; ++j) {
    v[j] = load_as(from[j] + offset);
  }
  transpose<acc_t<S>>(v);
}

// to[i * L + j] = from[j][i] for i < n; all L pointers are valid.
template <typename S>
inline void planes_to_lanes(
    const S* const (&from)[kLanes<acc_t<S>>],
    int64_t offset,
    int64_t n,
    acc_t<S>* to) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  for (int64_t next = 0; next < n; next += L) {
    const int64_t i = n >= L ? std::min(next, n - L) : 0;
    Vec<A> v[L];
    if (n >= L) {
      load_turned<S>(from, offset + i, v);
    } else {
      for (int j = 0; j < L; ++j) {
        v[j] = load_as_partial(from[j] + offset, static_cast<int>(n));
      }
      transpose<A>(v);
    }
    const int rows = static_cast<int>(std::min<int64_t>(n, L));
    for (int j = 0; j < rows; ++j) {
      store(to + (i + j) * L, v[j]);
    }
  }
}

// put(j, i, v, lanes): elements i, i + 1, ... of plane j, for j < planes, from
// a buffer of n * L.
template <typename T, typename Put>
inline void lanes_to_planes(
    const T* from,
    int64_t n,
    int planes,
    const Put& put) {
  constexpr int L = kLanes<T>;
  for (int64_t next = 0; next < n; next += L) {
    const int64_t i = n >= L ? std::min(next, n - L) : 0;
    const int rows = static_cast<int>(std::min<int64_t>(n, L));
    const T* at[L];
    for (int j = 0; j < L; ++j) {
      at[j] = from + (i + (j < rows ? j : 0)) * L;
    }
    Vec<T> v[L];
    load_turned<T>(at, 0, v);
    for (int j = 0; j < planes; ++j) {
      put(j, i, v[j], rows);
    }
  }
}

// The same from n pixels of `channels` elements, at most a vector of them,
// `stride` apart: plane j begins at to + j * size.
template <typename S>
inline void pixels_to_planes(
    const S* from,
    int64_t stride,
    int64_t n,
    int channels,
    S* to,
    int64_t size) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  for (int64_t i = 0; i < n; i += L) {
    const int rows = static_cast<int>(std::min<int64_t>(n - i, L));
    Vec<A> v[L] = {};
    for (int j = 0; j < rows; ++j) {
      const S* p = from + (i + j) * stride;
      v[j] = channels == L ? load_as(p) : load_as_partial(p, channels);
    }
    transpose<A>(v);
    for (int j = 0; j < channels; ++j) {
      store_first(to + j * size + i, v[j], rows);
    }
  }
}

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
