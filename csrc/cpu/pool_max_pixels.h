// Max pooling with a vector of channels of one output: the kernel that
// pool_max_driver.h runs for channels that lie side by side. Read once per
// instruction set, after pool_max_driver.h.

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

template <typename S, bool Codes>
class ChannelKernel {
 public:
  using Storage = S;
  using Acc = acc_t<S>;
  static constexpr bool kCodes = Codes;
  static constexpr bool kWholeWindows = false;

  ChannelKernel(const MaxPool& m, const S* x, S* y, void* codes)
      : finish{y, codes, m.codes},
        m_(m),
        x_(x) {
    // Blocks of channels so large that a row of them stays in cache, and all
    // of about one size.
    constexpr int64_t kBlock = 256;
    const int64_t c = m.p.channels;
    blocks_ = (c + kBlock - 1) / kBlock;
    block_ = ((c + blocks_ - 1) / blocks_ + L - 1) / L * L;
    blocks_ = (c + block_ - 1) / block_;
    width_ = std::min(block_, c);
  }

  int64_t groups() const {
    return m_.p.batch * blocks_;
  }
  int64_t line() const {
    return m_.p.out[2] * width_;
  }
  void enter(int64_t group) {
    const int64_t n = group / blocks_, c = group % blocks_ * block_;
    width_ = std::min(block_, m_.p.channels - c);
    plane_ = x_ + n * m_.p.x_stride_n + c;
    y_plane_ = n * m_.p.y_stride_n + c;
  }
  const S* row(int64_t id, int64_t ih) const {
    return plane_ + id * m_.p.x_stride[0] + ih * m_.p.x_stride[1];
  }
  int64_t out(int64_t od, int64_t oh) const {
    return y_plane_ + od * m_.p.y_stride[0] + oh * m_.p.y_stride[1];
  }

  // The last vector of a pixel of at least one vector ends with the pixel, and
  // does some channels a second time.
  template <typename F>
  void each(const F& f) const {
    const std::integral_constant<int, 4> four;
    const std::integral_constant<int, 1> one;
    for (int64_t o = 0; o < m_.p.out[2]; ++o) {
      const int64_t line = o * width_, out = o * m_.p.y_stride[2];
      int64_t c = 0;
      for (; c + 4 * L <= width_; c += 4 * L) {
        f(four, line + c, out + c, L);
      }
      for (; c < width_; c += L) {
        const int64_t at = std::min(c, std::max<int64_t>(width_ - L, 0));
        f(one,
          line + at,
          out + at,
          static_cast<int>(std::min<int64_t>(L, width_)));
      }
    }
  }

  void reduce(
      const S* const* rows,
      const Label<Acc>* labels,
      int n,
      const Sink<Acc>& sink) const {
    for (int64_t o = 0; o < m_.p.out[2]; ++o) {
      int64_t c = 0;
      for (; c + 4 * L <= width_; c += 4 * L) {
        pixel<4>(rows, labels, n, o, c, L, sink);
      }
      for (; c + L <= width_; c += L) {
        pixel<1>(rows, labels, n, o, c, L, sink);
      }
      if (c < width_ && width_ > L) {
        pixel<1>(rows, labels, n, o, width_ - L, L, sink);
      } else if (c < width_) {
        pixel<1>(rows, labels, n, o, 0, static_cast<int>(width_), sink);
      }
    }
  }

  Finish<S, Codes> finish;

 private:
  using A = Acc;
  using I = Label<A>;
  static constexpr int L = kLanes<A>;

  // V vectors of channels from c on, of output o; or the first `lanes` of one.
  template <int V>
  void pixel(
      const S* const* rows,
      const I* labels,
      int n,
      int64_t o,
      int64_t c,
      int lanes,
      const Sink<A>& sink) const {
    const PoolAxis& axis = m_.axis[2];
    const PoolAxis::Window& w = axis.windows[o];
    const int64_t step = axis.step * m_.p.x_stride[2];
    const I label_step = static_cast<I>(axis.label_step);
    Vec<A> best[V];
    Vec<I> code[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      best[v] = lowest<A>();
      code[v] = Vec<I>{} + static_cast<I>(labels[0] + w.label);
    }
    for (int r = 0; r < n; ++r) {
      const S* p = rows[r] + w.begin * m_.p.x_stride[2] + c;
      Vec<I> label = Vec<I>{} + static_cast<I>(labels[r] + w.label);
      for (int64_t t = 0; t < w.count; ++t) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          take<Codes, A>(
              best[v],
              code[v],
              V > 1 || lanes == L ? load_as(p + v * L)
                                  : load_as_partial(p, lanes),
              label);
        }
        p += step;
        label += label_step;
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      if (sink.best == nullptr) {
        finish(
            sink.out + o * m_.p.y_stride[2] + c + v * L,
            best[v],
            code[v],
            lanes);
      } else {
        store(sink.best + o * width_ + c + v * L, best[v]);
        if constexpr (Codes) {
          store(sink.code + o * width_ + c + v * L, code[v]);
        }
      }
    }
  }

  const MaxPool& m_;
  const S* x_;
  const S* plane_ = nullptr;
  int64_t y_plane_ = 0;
  int64_t blocks_, block_;
  int64_t width_; // channels of the block at hand
};

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
