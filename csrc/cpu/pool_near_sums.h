// Window sums over the windows of pool_near_rows.h, and the gradients of those
// that lie two apart. Read in the AVX-512 region only, after pool_near_rows.h
// and pool_avg_io.h.
//
// Src and Sink of pool_avg_io.h give what a run needs of them, small enough to
// stay in registers:
//
//   Src::near()                 lanes(p, mask): a vector of the source
//   Sink::near(d, h)            finished(p, i, v, mask): element i of the row
//                               at p, from its sum

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

template <typename Src, typename Sink>
struct NearSum {
  using Storage = typename Src::Storage;
  using A = acc_t<Storage>;
  decltype(std::declval<const Src&>().near()) src;
  decltype(std::declval<Sink&>().near(0, 0)) sink;

  Vec<A> fill() const {
    return Vec<A>{};
  }
  Vec<A> load(const Storage* p, unsigned mask) const {
    return src.lanes(p, mask);
  }
  Vec<A> join(const Vec<A>& a, const Vec<A>& b) const {
    return a + b;
  }
  void check(const Vec<A>&, const Vec<A>&) const {}
  void put(Storage* to, int64_t i, const Vec<A>& v, unsigned mask) const {
    store_lanes(to + i, sink.finished(to, i, v, mask), mask);
  }
};

// Every source goes to K destinations, two apart, of which P lie outside.
template <typename Op, int K, int P>
class NearSpreadRows {
  using T = typename Op::Storage;
  using A = acc_t<T>;
  using Spread = NearSpread<K, 2, P>;
  static constexpr int L = kLanes<A>;
  static constexpr int kFirst = Spread::kFirst, kShifts = Spread::kShifts;

 public:
  explicit NearSpreadRows(const NearWindows& w)
      : w_(w),
        vectors_((w.out + 2 * L - 1) / (2 * L)) {
    for (int64_t i = 0; i < vectors_; ++i) {
      for (int s = 0; s < kShifts; ++s) {
        inside_.push_back(
            static_cast<uint16_t>(lanes_inside(i * L + kFirst + s, w.in, L)));
      }
      for (int s = 0; s < 2; ++s) {
        write_.push_back(
            static_cast<uint16_t>(lanes_inside((2 * i + s) * L, w.out, L)));
      }
    }
  }

  void run(const Op& op, const NearRun& r, const T* plane, T* to) const {
    plane += r.first[0] * w_.stride[0] + r.first[1] * w_.stride[1] + kFirst;
    to += r.d * w_.to_stride[0] + r.h * w_.to_stride[1];
    const int64_t advance = r.step * w_.stride[1];
    if constexpr (std::is_same_v<T, float>) { // others less: build time
      if (r.rows[0] == 1 && r.rows[1] == 1) {
        return some<1>(op, r, plane, advance, to);
      }
      if (r.rows[0] == 1 && r.rows[1] == 2) {
        return some<2>(op, r, plane, advance, to);
      }
    }
    some<0>(op, r, plane, advance, to);
  }

 private:
  // H rows of sources in one slice; 0: any number in any number of slices.
  template <int H>
  __attribute__((noinline)) void some(
      Op op,
      const NearRun& run,
      const T* from,
      int64_t advance,
      T* to) const {
    const int64_t depth = H > 0 ? 1 : run.rows[0], height = run.rows[1];
    const int64_t step_d = w_.stride[0], step_h = w_.stride[1];
    const int64_t count = run.count, to_step = run.apart * w_.to_stride[1];
    const uint16_t *inside = inside_.data(), *write = write_.data();
    const int64_t vectors = vectors_;
    for (int64_t row = 0; row < count; ++row) {
      for (int64_t i = 0; i < vectors; ++i) {
        Vec<A> sum[2] = {};
#pragma GCC unroll 2
        for (int s = 0; s < kShifts; ++s) {
          const T* p = from + i * L + s;
          const unsigned mask = inside[i * kShifts + s];
          Vec<A> v{};
          if constexpr (H > 0) {
            v = op.load(p, mask);
            if constexpr (H > 1) {
              v = v + op.load(p + step_h, mask);
            }
          } else {
            for (int64_t d = 0; d < depth; ++d) {
              for (int64_t h = 0; h < height; ++h) {
                v = v + op.load(p + d * step_d + h * step_h, mask);
              }
            }
          }
#pragma GCC unroll 2
          for (int phase = 0; phase < 2; ++phase) {
            if (Spread::sees(phase, s)) {
              sum[phase] = sum[phase] + v;
            }
          }
        }
        op.put(to, 2 * i * L, interleave<0, A>(sum[0], sum[1]), write[2 * i]);
        op.put(
            to,
            2 * i * L + L,
            interleave<1, A>(sum[0], sum[1]),
            write[2 * i + 1]);
      }
      from += advance;
      to += to_step;
    }
  }

  const NearWindows& w_;
  int64_t vectors_; // of destinations, two side by side
  std::vector<uint16_t> inside_; // lanes of sources: one for each shift
  std::vector<uint16_t> write_; // lanes of destinations
};

// Whether the sums are for the kernels here. Those with weights are not.
template <typename Sink>
bool near_sums(const WindowSum& w) {
  const bool weighted =
      Sink::kGradient && (w.count[0] || w.count[1] || w.count[2]);
  const bool slide =
      w.pattern == WindowPattern::slide && w.step <= (Sink::kGradient ? 1 : 2);
  const bool spread =
      w.pattern == WindowPattern::spread && w.step == 2 && w.pad <= 1;
  return !weighted && (slide || spread) && (w.kernel == 2 || w.kernel == 3) &&
      w.src_s[2] == 1 && w.dst_s[2] == 1 && w.inner == 1;
}

template <typename Src, typename Sink>
void run_near_sums(const WindowSum& w, const Src& src, const Sink& sink) {
  using Op = NearSum<Src, Sink>;
  const bool spread = w.pattern == WindowPattern::spread;
  constexpr int64_t kRun = 8192; // elements
  NearWindows near;
  near.in = w.src[2];
  near.out = w.dst[2];
  near.pad = w.pad;
  std::copy(w.src_s, w.src_s + 2, near.stride);
  std::copy(w.dst_s, w.dst_s + 2, near.to_stride);
  near.runs = near_runs(
      w.dst,
      w.begin,
      w.end,
      w.count[1],
      std::max<int64_t>(kRun / w.dst[2], 1),
      spread && w.dst[1] > 1 ? 2 : 1);
  const int64_t run =
      (w.src[0] * w.src[1] * w.src[2] + w.dst[0] * w.dst[1] * w.dst[2]) /
      static_cast<int64_t>(near.runs.size());
  const auto all = [&](const auto& rows) {
    each_near_run(
        w.batch,
        w.channels,
        near,
        std::max<int64_t>(1, 65536 / (run + 1)),
        [&](const auto& runs) {
          Sink to(sink);
          const auto from = src.near();
          runs([&](int64_t n, int64_t c, const NearRun& r) {
            Op op{from, to.near(r.d, r.h)};
            rows.run(
                op,
                r,
                src.x.base + n * w.src_n + c * w.src_c,
                sink.base + n * w.dst_n + c * w.dst_c);
          });
        });
  };
  // Gradients slide one by one, or spread.
  if constexpr (!Sink::kGradient) {
    with_near(w.kernel, w.step, [&](auto taps, auto stride) {
      all(NearRows<Op, taps, stride>(near));
    });
  } else if (!spread) {
    w.kernel == 2 ? all(NearRows<Op, 2, 1>(near))
                  : all(NearRows<Op, 3, 1>(near));
  } else if (w.kernel == 2) {
    w.pad == 0 ? all(NearSpreadRows<Op, 2, 0>(near))
               : all(NearSpreadRows<Op, 2, 1>(near));
  } else {
    w.pad == 0 ? all(NearSpreadRows<Op, 3, 0>(near))
               : all(NearSpreadRows<Op, 3, 1>(near));
  }
}

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
