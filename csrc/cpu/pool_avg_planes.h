// Window sums over small planes (NCHW): a vector's worth of planes is turned
// to channel order, summed there and turned back. Rows that are short leave
// most of a vector empty, and cost more than turning does. Read once per
// instruction set, after pool_avg_pixels.h and pool_planes_simd.h.

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// Whether planes are gapless, small enough to stay in cache, and many. The
// batch has no say: a result must not depend on it.
template <typename A>
bool worth_turning(const WindowSum& w) {
  const auto gapless = [](const int64_t size[3], const int64_t stride[3]) {
    return (size[2] == 1 || stride[2] == 1) &&
        (size[1] == 1 || stride[1] == size[2]) &&
        (size[0] == 1 || stride[0] == size[2] * size[1]);
  };
  constexpr int64_t kBytes = 640 * 1024, kShort = 48;
  const int64_t pixels =
      w.src[0] * w.src[1] * w.src[2] + w.dst[0] * w.dst[1] * w.dst[2];
  return w.inner == 1 && w.channels >= kLanes<A> / 2 && w.src[2] <= kShort &&
      w.dst[2] <= kShort && w.src[1] * w.src[0] > 1 &&
      w.dst[1] * w.dst[0] > 1 && pixels * kVectorBytes <= kBytes &&
      gapless(w.src, w.src_s) && gapless(w.dst, w.dst_s);
}

// Sink: of the sums in channel order; make(y, problem) is one.
template <typename S, typename Make>
void turned_sums(
    const WindowSum& w,
    const void* xv,
    void* yv,
    const Make& make) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  const S* x = static_cast<const S*>(xv);
  S* y = static_cast<S*>(yv);
  const int64_t in = w.src[0] * w.src[1] * w.src[2];
  const int64_t out = w.dst[0] * w.dst[1] * w.dst[2];
  const int64_t planes = w.batch * w.channels;
  const auto groups = [&](int64_t begin, int64_t end) {
    std::unique_ptr<A[]> memory(new A[(in + out) * L]);
    A *xs = memory.get(), *ys = xs + in * L;
    WindowSum t = w.view();
    t.batch = 1;
    t.channels = L;
    t.src_n = t.dst_n = 0;
    t.src_c = t.dst_c = 1;
    t.src_s[2] = t.dst_s[2] = L;
    for (int i = 1; i >= 0; --i) {
      t.src_s[i] = t.src_s[i + 1] * t.src[i + 1];
      t.dst_s[i] = t.dst_s[i + 1] * t.dst[i + 1];
    }
    const Plain<A> source{RowList<A>(xs, t)};
    const auto sink = make(ys, t);
    using Sink = std::decay_t<decltype(sink)>;
    PixelSums<Plain<A>, Sink> sums(t, source, sink);
    for (int64_t g = begin; g < end; ++g) {
      const int64_t first = g * L;
      const int count = static_cast<int>(std::min<int64_t>(L, planes - first));
      const S* from[L];
      S* to[L];
      for (int j = 0; j < L; ++j) {
        const int64_t plane = first + (j < count ? j : 0);
        const int64_t n = plane / w.channels, c = plane % w.channels;
        from[j] = x + n * w.src_n + c * w.src_c;
        to[j] = y + n * w.dst_n + c * w.dst_c;
      }
      planes_to_lanes<S>(from, 0, in, xs);
      sums.run_serial();
      lanes_to_planes(
          ys, out, count, [&](int j, int64_t i, const Vec<A>& v, int lanes) {
            lanes == L ? store_as(to[j] + i, v)
                       : store_as_partial(to[j] + i, v, lanes);
          });
    }
  };
  const int64_t grain = std::max<int64_t>(1, 65536 / ((in + out) * L));
  parallel_for((planes + L - 1) / L, grain, groups);
}

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
