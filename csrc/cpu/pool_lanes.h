// More ways for lanes to change places; read once per instruction set, after
// shuffle.h.

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// Lane j of the result is lane j + By, around the end.
template <int By, typename A, size_t... I>
inline Vec<A> rotate(const Vec<A>& v, std::index_sequence<I...>) {
  constexpr int L = kLanes<A>;
#if defined(__clang__)
  return __builtin_shufflevector(v, v, static_cast<int>((I + By) % L)...);
#else
  return __builtin_shuffle(
      v, Vec<LaneInt<A>>{static_cast<LaneInt<A>>((I + By) % L)...});
#endif
}
template <int By, typename A>
inline Vec<A> rotate(const Vec<A>& v) {
  return rotate<By, A>(v, std::make_index_sequence<kLanes<A>>{});
}

// Lane j of the result is lane at[j] of a and b one after the other; at counts
// modulo twice the lanes.
template <typename A>
inline Vec<A> pick_lanes(
    const Vec<A>& a,
    const Vec<A>& b,
    const Vec<LaneInt<A>>& at) {
#if defined(__clang__)
  constexpr int L = kLanes<A>;
  Vec<A> v;
  for (int j = 0; j < L; ++j) {
    const int i = at[j] & (2 * L - 1);
    v[j] = i < L ? a[i] : b[i - L];
  }
  return v;
#else
  return __builtin_shuffle(a, b, at);
#endif
}

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
