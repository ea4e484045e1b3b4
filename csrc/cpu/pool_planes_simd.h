// Turning planes into channels and back: a vector's worth of planes, their
// elements side by side. Read once per instruction set, after pool_simd.h and
// shuffle.h.

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

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
      for (int j = 0; j < L; ++j) {
        v[j] = load_as(from[j] + offset + i);
      }
    } else {
      for (int j = 0; j < L; ++j) {
        v[j] = load_as_partial(from[j] + offset, static_cast<int>(n));
      }
    }
    transpose<A>(v);
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
    Vec<T> v[L] = {};
    for (int j = 0; j < rows; ++j) {
      v[j] = load(from + (i + j) * L);
    }
    transpose<T>(v);
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
