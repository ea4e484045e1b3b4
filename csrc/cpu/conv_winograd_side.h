// Winograd of small groups: groups side by side in the lanes of a vector, so
// that transforms, which do not mix channels, see full vectors. Read once per
// instruction set.
//
// With `channels` of each group in and as many out, lane l is output l of its
// group and needs, in step r, source channel r of the same group. That is lane
// l - l % channels + r of V: a shuffle of the one vector that holds a tile's
// sources, and neither a broadcast nor a product with another group.

namespace torchconv {
namespace cpu {
namespace TC_ISA {

template <typename A>
using SideIndex = std::conditional_t<sizeof(A) == 4, int32_t, int64_t>;

// lane -> the first lane of its group. channels is a power of two.
template <typename A, int... I>
inline Vec<SideIndex<A>> group_starts(
    int channels,
    std::integer_sequence<int, I...>) {
  const Vec<SideIndex<A>> lane = {I...};
  return lane & -static_cast<SideIndex<A>>(channels);
}
template <typename A>
inline Vec<SideIndex<A>> group_starts(int channels) {
  return group_starts<A>(
      channels, std::make_integer_sequence<int, kLanes<A>>());
}

constexpr int kSideRows = kRegisters == 32 ? 12 : 5;

// As WinogradProduct: m[tile] (+)= sum over blocks of V and their steps r of
//   channel r of source[tile] * weights[r]
template <typename Job, int P>
void side_product_tile(
    const typename Job::A* __restrict source,
    int64_t source_block,
    const Job& job,
    int64_t,
    uint64_t seen,
    const typename Job::A* __restrict weights,
    typename Job::A* __restrict m,
    bool add) {
  using A = typename Job::A;
  const int64_t channels = job.channels;
  constexpr int L = kLanes<A>;
  const Vec<SideIndex<A>> start = group_starts<A>(static_cast<int>(channels));
  Vec<A> c[P];
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) {
    c[p] = add ? load(m + p * L) : Vec<A>{};
  }
  for (; seen != 0; seen >>= 1, source += source_block) {
    if ((seen & 1) == 0) {
      weights += channels * L;
      continue;
    }
    Vec<A> x[P];
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
      x[p] = load(source + p * L);
    }
    Vec<SideIndex<A>> at = start;
    for (int64_t r = 0; r < channels; ++r, at += 1, weights += L) {
      const Vec<A> y = load(weights);
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) {
        c[p] += __builtin_shuffle(x[p], at) * y;
      }
    }
  }
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) {
    store(m + p * L, c[p]);
  }
}
template <typename Job, int... P>
inline WinogradProductFn<Job> side_product_of(
    int rows,
    std::integer_sequence<int, P...>) {
  static constexpr WinogradProductFn<Job> table[] = {
      side_product_tile<Job, P + 1>...};
  return table[rows - 1];
}
template <typename Job>
inline WinogradProductFn<Job> side_product(int rows) {
  return side_product_of<Job>(
      rows, std::make_integer_sequence<int, kSideRows>());
}

// weight_grad: m[r] = sum over tiles of channel r of v[tile] * w[tile], for
// all channels r of a group.
template <typename A, int R>
void side_rows_tile(
    const A* __restrict v,
    int64_t v_step,
    const A* __restrict w,
    int64_t n,
    A* __restrict m) {
  constexpr int L = kLanes<A>;
  const Vec<SideIndex<A>> start = group_starts<A>(R);
  Vec<A> c[R] = {};
  for (int64_t i = 0; i < n; ++i, v += v_step, w += L) {
    const Vec<A> x = load(v), y = load(w);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      c[r] += __builtin_shuffle(x, start + r) * y;
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    store(m + r * L, c[r]);
  }
}
template <typename A>
inline void side_rows(
    int channels,
    const A* v,
    int64_t v_step,
    const A* w,
    int64_t n,
    A* m) {
  switch (channels) {
    case 2:
      return side_rows_tile<A, 2>(v, v_step, w, n, m);
    case 4:
      return side_rows_tile<A, 4>(v, v_step, w, n, m);
    default:
      return side_rows_tile<A, 8>(v, v_step, w, n, m);
  }
}

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
