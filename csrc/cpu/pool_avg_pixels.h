// Window sums with a vector of channels per column (channels_last); read once
// per instruction set, after pool_avg_io.h.

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

template <typename Src, typename Sink>
class PixelSums {
  using A = typename Src::A;
  static constexpr int L = kLanes<A>;
  static constexpr int V = 4; // vectors of channels side by side

 public:
  PixelSums(const WindowSum& w, const Src& src, const Sink& sink)
      : w_(w),
        src_(src),
        sink_(sink),
        weighted_(Sink::kGradient && (w.count[0] || w.count[1] || w.count[2])) {
    most_rows_ = most_sources(w, 0) * most_sources(w, 1);
    // Few rows, as in global pooling: channels are shared out as well.
    const int64_t rows = w.batch * w.dst[0] * w.dst[1];
    block_ = rows < 64 ? std::min<int64_t>(w.channels, 16 * L) : w.channels;
    blocks_ = (w.channels + block_ - 1) / block_;
  }

  int64_t units() const {
    return w_.batch * w_.dst[0] * w_.dst[1] * blocks_;
  }

  // On this thread alone.
  void run_serial() {
    rows(0, units());
  }

  void run() const {
    const int64_t taps = most_rows_ * most_sources(w_, 2);
    const int64_t work = (taps + 1) * w_.dst[2] * block_ + 16;
    const int64_t grain = std::max<int64_t>(1, 65536 / work);
    parallel_for(units(), grain, [&](int64_t begin, int64_t end) {
      PixelSums self(*this);
      self.rows(begin, end);
    });
  }

 private:
  PixelSums(const PixelSums&) = default;

  void rows(int64_t begin, int64_t end) {
    src_.reserve(std::max<int64_t>(most_rows_, 1));
    std::unique_ptr<A[]> weights(new A[weighted_ ? most_rows_ + w_.src[2] : 0]);
    column_weight_ = weights.get() + most_rows_;
    for (int64_t i = 0; weighted_ && i < w_.src[2]; ++i) {
      weights[most_rows_ + i] =
          w_.count[2] ? A(1) / static_cast<A>(w_.count[2][i]) : A(1);
    }
    for (int64_t u = begin; u < end; ++u) {
      const int64_t block = u % blocks_;
      int64_t rest = u / blocks_;
      const int64_t h = rest % w_.dst[1];
      rest /= w_.dst[1];
      const int64_t d = rest % w_.dst[0];
      const int64_t n = rest / w_.dst[0];
      rows_ = 0;
      for (int64_t i = w_.begin[0][d]; i < w_.end[0][d]; ++i) {
        for (int64_t j = w_.begin[1][h]; j < w_.end[1][h]; ++j) {
          if (weighted_) {
            weights[rows_] = A(1) /
                static_cast<A>((w_.count[0] ? w_.count[0][i] : 1) *
                               (w_.count[1] ? w_.count[1][j] : 1));
          }
          src_.set(rows_++, n, 0, i, j);
        }
      }
      sink_.row(n, 0, d, h);
      const int64_t c = block * block_;
      row(weights.get(), c, std::min(c + block_, w_.channels));
    }
  }

  void row(const A* weights, int64_t c0, int64_t c1) {
    for (int64_t o = 0; o < w_.dst[2]; ++o) {
      if constexpr (Sink::kRepeats) {
        if (o > 0 && w_.begin[2][o] == w_.begin[2][o - 1] &&
            w_.end[2][o] == w_.end[2][o - 1]) {
          sink_.repeat(o - 1, o, c0, c1 - c0);
          continue;
        }
      }
      sink_.pixel(o);
      int64_t c = c0;
      for (; c + V * L <= c1; c += V * L) {
        sum_at<V>(weights, o, c);
      }
      for (; c + L <= c1; c += L) {
        sum_at<1>(weights, o, c);
      }
      if (c < c1 && c1 - c0 >= L) {
        sum_at<1>(weights, o, c1 - L);
      } else if (c < c1) {
        sum_part(weights, o, c, static_cast<int>(c1 - c));
      }
    }
  }

  template <int N>
  void sum_at(const A* weights, int64_t o, int64_t c) const {
    Vec<A> sum[N] = {};
    for (int64_t r = 0; r < rows_; ++r) {
      for (int64_t i = w_.begin[2][o]; i < w_.end[2][o]; ++i) {
        if (weighted_) {
          const A weight = weights[r] * column_weight_[i];
#pragma GCC unroll 4
          for (int v = 0; v < N; ++v) {
            sum[v] += src_.vec(r, i, c + v * L) * weight;
          }
        } else {
#pragma GCC unroll 4
          for (int v = 0; v < N; ++v) {
            sum[v] += src_.vec(r, i, c + v * L);
          }
        }
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) {
      sink_.put_at(c + v * L, sum[v]);
    }
  }
  void sum_part(const A* weights, int64_t o, int64_t c, int lanes) const {
    Vec<A> sum{};
    for (int64_t r = 0; r < rows_; ++r) {
      for (int64_t i = w_.begin[2][o]; i < w_.end[2][o]; ++i) {
        const A weight = weighted_ ? weights[r] * column_weight_[i] : A(1);
        sum += src_.part(r, i, c, lanes) * weight;
      }
    }
    sink_.part_at(c, sum, lanes);
  }

  const WindowSum& w_;
  Src src_;
  Sink sink_;
  bool weighted_; // a gradient with uneven counts: weights of its sources
  int64_t most_rows_, block_, blocks_, rows_ = 0;
  const A* column_weight_ = nullptr;
};

// Vectors of channels, or rows? Chooses the form of the problem as well.
template <typename A>
bool prefer_pixels(WindowSum& w) {
  if (channels_innermost(w) && (w.channels >= kLanes<A> || !join_channels(w))) {
    merge_rows(w);
    return true;
  }
  if (w.inner == 1) {
    merge_rows(w);
  }
  return false;
}

// The divisors along a row, with slack for whole vectors, or null.
template <typename A>
std::unique_ptr<A[]> row_counts(const WindowSum& w) {
  if (!w.count[2]) {
    return nullptr;
  }
  const int64_t n = w.dst[2] * w.inner;
  std::unique_ptr<A[]> width(new A[n + kLanes<A>]);
  for (int64_t i = 0; i < n; ++i) {
    width[i] = static_cast<A>(w.count[2][i / w.inner]);
  }
  std::fill(width.get() + n, width.get() + n + kLanes<A>, A(1));
  return width;
}

template <typename Src, typename Sink>
void run_sums(
    const WindowSum& w,
    const Src& src,
    const Sink& sink,
    bool pixels) {
  pixels ? PixelSums<Src, Sink>(w, src, sink).run()
         : RowSums<Src, Sink>(w, src, sink).run();
}

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
