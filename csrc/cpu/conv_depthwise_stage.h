// Channels into the lanes and out of them, by turning squares of vectors; read
// once per instruction set, after shuffle.h.

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

template <typename S>
inline Vec<acc_t<S>> load_lanes(const S* p, int n) {
  return n == kLanes<acc_t<S>> ? load_as(p) : load_as_partial(p, n);
}
template <typename S>
inline void store_lanes(S* p, Vec<acc_t<S>> v, int n) {
  if (n == kLanes<acc_t<S>>) {
    store_as(p, v);
  } else {
    store_as_partial(p, v, n);
  }
}

// Up to L vectors, `step` apart, turned: lane i of vector j goes to lane j of
// the i-th vector out, which `put` takes.
template <typename S, typename F>
inline void turn(const S* src, int64_t step, int n, int lanes, const F& put) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  Vec<A> v[L];
  if (n == L && lanes == L) {
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i) {
      v[i] = load_as(src + i * step);
    }
  } else {
    for (int i = 0; i < L; ++i) {
      v[i] = i < n ? load_lanes(src + i * step, lanes) : Vec<A>{};
    }
  }
  transpose<A>(v);
#pragma GCC unroll 16
  for (int i = 0; i < L; ++i) {
    put(i, v[i]);
  }
}

// Calls run(i, n) for stretches [i, i + n) of [0, total), as long as a vector
// where total is: the last one then overlaps the one before.
template <int L, typename F>
inline void for_vectors(int64_t total, const F& run) {
  for (int64_t i = 0; i < total; i += L) {
    const int64_t at = i + L <= total || total < L ? i : total - L;
    run(at, static_cast<int>(std::min<int64_t>(L, total - at)));
  }
}

// Whether the pixels of planes follow one another without gaps.
inline bool gapless(const Strides& s, const int64_t (&size)[3]) {
  return s.s[2] == 1 && (size[1] == 1 || s.s[1] == size[2]) &&
      (size[0] == 1 || s.s[0] == size[1] * size[2]);
}

// Whole planes of `lanes` channels into the order of channels_last.
template <typename S>
void stage_in(
    const S* src,
    const Strides& from,
    const int64_t (&size)[3],
    int lanes,
    acc_t<S>* to) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  const bool one = gapless(from, size);
  const int64_t n = one ? size[0] * size[1] * size[2] : size[2];
  const int64_t rows = one ? 1 : size[0] * size[1];
  for (int64_t r = 0; r < rows; ++r, to += n * L) {
    const S* row = src + r / size[1] * from.s[0] + r % size[1] * from.s[1];
    if (from.s[2] == 1) {
      for_vectors<L>(n, [&](int64_t at, int count) {
        turn(row + at, from.c, lanes, count, [&](int i, Vec<A> v) {
          if (i < count) {
            store(to + (at + i) * L, v);
          }
        });
      });
      continue;
    }
    for (int64_t i = 0; i < n; ++i) {
      for (int l = 0; l < L; ++l) {
        to[i * L + l] =
            l < lanes ? static_cast<A>(row[l * from.c + i * from.s[2]]) : A(0);
      }
    }
  }
}

// And back.
template <typename S>
void stage_out(
    const acc_t<S>* from,
    const Strides& to,
    const int64_t (&size)[3],
    int lanes,
    S* dst) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  const bool one = gapless(to, size);
  const int64_t n = one ? size[0] * size[1] * size[2] : size[2];
  const int64_t rows = one ? 1 : size[0] * size[1];
  for (int64_t r = 0; r < rows; ++r, from += n * L) {
    S* row = dst + r / size[1] * to.s[0] + r % size[1] * to.s[1];
    if (to.s[2] == 1) {
      for_vectors<L>(n, [&](int64_t at, int count) {
        turn(from + at * L, L, count, L, [&](int i, Vec<A> v) {
          if (i < lanes) {
            store_lanes(row + i * to.c + at, v, count);
          }
        });
      });
      continue;
    }
    for (int64_t i = 0; i < n; ++i) {
      for (int l = 0; l < lanes; ++l) {
        row[l * to.c + i * to.s[2]] = S(from[i * L + l]);
      }
    }
  }
}

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
