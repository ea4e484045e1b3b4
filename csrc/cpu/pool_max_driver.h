// The loops around a vector kernel of max pooling; read once per instruction
// set. A kernel works on lines: the outputs of one row, of one channel (NCHW)
// or of a block of channels (channels_last). It brings
//
//   using Storage, Acc; static constexpr bool kCodes
//   static constexpr bool kWholeWindows   wants no separable passes
//   int64_t groups(), line()      how many lines side by side, elements of one
//   void enter(group)             go to a plane or block of channels
//   const Storage* row(id, ih)    an input row of the group
//   int64_t out(od, oh)           where a line goes in y and in the codes
//   reduce(rows, labels, n, sink) the maxima over the windows in n rows
//   each(f)                       f(vectors, position in line, offset from
//                                 out, lanes): vectors is std::integral_constant
//
// Either all rows of a window go through reduce at once ("direct"), or, where
// windows overlap, each row is reduced once and kept, then rows are combined
// into slices and slices into lines ("separable"). Both orders keep the first
// of equal maxima, because a row comes wholly before the next one.

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// Where a line of maxima goes: to buffers, or, without them, to y and codes.
template <typename A>
struct Sink {
  A* best;
  Label<A>* code;
  int64_t out;
};

// Writes a vector of finished maxima to y and to codes of any kind.
template <typename S, bool Codes>
struct Finish {
  S* y;
  void* codes;
  CodeKind kind;

  void operator()(
      int64_t at,
      const Vec<acc_t<S>>& best,
      const Vec<Label<acc_t<S>>>& code,
      int n) const {
    store_first(y + at, best, n);
    put_codes(at, code, n);
  }
  void put_codes(int64_t at, const Vec<Label<acc_t<S>>>& code, int n) const {
    if constexpr (Codes) {
      using I = Label<acc_t<S>>;
      if (kind == CodeKind::u8) {
        store_narrow<I>(static_cast<uint8_t*>(codes) + at, code, n);
      } else if (kind == CodeKind::i32) {
        store_narrow<I>(static_cast<int32_t*>(codes) + at, code, n);
      } else if (kind == CodeKind::i64) {
        store_narrow<I>(static_cast<int64_t*>(codes) + at, code, n);
      }
    }
  }
};

struct AxisReach {
  int64_t count = 0, span = 0; // most taps, most input positions of a window
  explicit AxisReach(const PoolAxis& axis) {
    for (const PoolAxis::Window& w : axis.windows) {
      count = std::max(count, w.count);
    }
    span = (count - 1) * axis.step + 1;
  }
};

template <typename Kernel>
class PoolDriver {
  using S = typename Kernel::Storage;
  using A = typename Kernel::Acc;
  using I = Label<A>;
  static constexpr int L = kLanes<A>;
  static constexpr bool kCodes = Kernel::kCodes;

 public:
  PoolDriver(const MaxPool& m, const Kernel& kernel)
      : m_(m),
        kernel_(kernel),
        depth_(m.axis[0]),
        height_(m.axis[1]),
        width_(m.axis[2]) {
    // Loads and comparisons for one vector of outputs, either way.
    const auto fresh = [&](int dim, const AxisReach& r) {
      return std::min<double>(
          r.count, double(m.p.in[dim]) / double(m.p.out[dim]));
    };
    const double d = fresh(0, depth_), h = fresh(1, height_);
    const double direct = depth_.count * height_.count * (width_.count + 1.);
    const double separable = d * h * (width_.count + 3.) +
        d * (height_.count + 2.) + (depth_.count > 1 ? depth_.count + 2. : 0.);
    separable_ = !Kernel::kWholeWindows && separable * 1.1 < direct;
    // A unit of work is a band of output rows of one group, through all
    // depths: enough work for a thread, and buffers that stay in cache.
    const int64_t work =
        kernel.line() * m.p.out[0] * depth_.count * height_.count;
    band_ = std::max<int64_t>(1, 65536 / std::max<int64_t>(work, 1));
    if (separable_) {
      band_ = std::max(band_, 8 * height_.count);
    }
    const int64_t bands = (m.p.out[1] + band_ - 1) / band_;
    band_ = (m.p.out[1] + bands - 1) / bands;
    grain_ = pool_grain(work * band_ * std::max<int64_t>(width_.count, 1));
  }

  void run() const {
    parallel_for(units(), grain_, [&](int64_t begin, int64_t end) {
      PoolDriver self(*this);
      self.some(begin, end);
    });
  }

  // The same on this thread alone; the driver is used up.
  void run_serial() {
    some(0, units());
  }

 private:
  int64_t bands() const {
    return (m_.p.out[1] + band_ - 1) / band_;
  }
  int64_t units() const {
    return kernel_.groups() * bands();
  }

  void some(int64_t begin, int64_t end) {
    allocate();
    for (int64_t u = begin; u < end; ++u) {
      kernel_.enter(u / bands());
      oh0_ = u % bands() * band_;
      oh1_ = std::min(oh0_ + band_, m_.p.out[1]);
      separable_ ? separable() : direct();
    }
  }

  void allocate() {
    rows_.resize(depth_.count * height_.count);
    best_.resize(rows_.size());
    code_.resize(rows_.size());
    labels_.resize(rows_.size());
    if (!separable_) {
      return;
    }
    line_ = (kernel_.line() + L - 1) / L * L + L;
    const int64_t lines =
        height_.span + (depth_.count > 1 ? depth_.span * band_ : 0);
    values_.resize(lines * line_);
    taps_.resize(kCodes ? lines * line_ : 0);
    row_tag_.resize(height_.span);
    slice_tag_.resize(depth_.span);
  }

  void direct() {
    const PoolAxis &ad = m_.axis[0], &ah = m_.axis[1];
    for (int64_t od = 0; od < m_.p.out[0]; ++od) {
      const PoolAxis::Window& wd = ad.windows[od];
      for (int64_t oh = oh0_; oh < oh1_; ++oh) {
        const PoolAxis::Window& wh = ah.windows[oh];
        int n = 0;
        for (int64_t d = 0; d < wd.count; ++d) {
          for (int64_t h = 0; h < wh.count; ++h, ++n) {
            rows_[n] =
                kernel_.row(wd.begin + d * ad.step, wh.begin + h * ah.step);
            labels_[n] = static_cast<I>(
                wd.label + d * ad.label_step + wh.label + h * ah.label_step);
          }
        }
        kernel_.reduce(
            rows_.data(),
            labels_.data(),
            n,
            Sink<A>{nullptr, nullptr, kernel_.out(od, oh)});
      }
    }
  }

  void separable() {
    const PoolAxis& ad = m_.axis[0];
    std::fill(slice_tag_.begin(), slice_tag_.end(), -1);
    for (int64_t od = 0; od < m_.p.out[0]; ++od) {
      const PoolAxis::Window& wd = ad.windows[od];
      if (depth_.count == 1) {
        slice(wd.begin, wd.label, od);
        continue;
      }
      for (int64_t d = 0; d < wd.count; ++d) {
        const int64_t id = wd.begin + d * ad.step;
        if (slice_tag_[id % depth_.span] != id) {
          slice_tag_[id % depth_.span] = id;
          slice(id, 0, -1);
        }
      }
      for (int64_t oh = oh0_; oh < oh1_; ++oh) {
        for (int64_t d = 0; d < wd.count; ++d) {
          const int64_t id = wd.begin + d * ad.step;
          const Sink<A> line = slice_line(id, oh);
          best_[d] = line.best;
          code_[d] = line.code;
          labels_[d] = static_cast<I>(wd.label + d * ad.label_step);
        }
        combine(wd.count, Sink<A>{nullptr, nullptr, kernel_.out(od, oh)});
      }
    }
  }

  // The band's rows of input slice id, to the slice's buffer or to output od.
  void slice(int64_t id, int64_t label, int64_t od) {
    const PoolAxis& ah = m_.axis[1];
    const I none = 0;
    std::fill(row_tag_.begin(), row_tag_.end(), -1);
    for (int64_t oh = oh0_; oh < oh1_; ++oh) {
      const PoolAxis::Window& wh = ah.windows[oh];
      for (int64_t h = 0; h < wh.count; ++h) {
        const int64_t ih = wh.begin + h * ah.step;
        const int64_t slot = ih % height_.span;
        const Sink<A> line = buffer(slot);
        if (row_tag_[slot] != ih) {
          row_tag_[slot] = ih;
          const S* row = kernel_.row(id, ih);
          kernel_.reduce(&row, &none, 1, line);
        }
        best_[h] = line.best;
        code_[h] = line.code;
        labels_[h] = static_cast<I>(label + wh.label + h * ah.label_step);
      }
      combine(
          wh.count,
          od < 0 ? slice_line(id, oh)
                 : Sink<A>{nullptr, nullptr, kernel_.out(od, oh)});
    }
  }

  Sink<A> buffer(int64_t i) {
    return {
        values_.data() + i * line_,
        kCodes ? taps_.data() + i * line_ : nullptr,
        -1};
  }
  Sink<A> slice_line(int64_t id, int64_t oh) {
    return buffer(height_.span + id % depth_.span * band_ + oh - oh0_);
  }

  // The maxima of n lines of maxima.
  void combine(int64_t n, const Sink<A>& sink) {
    if (sink.best != nullptr) {
      const auto keep = [&](auto vectors, int64_t i) {
        constexpr int V = decltype(vectors)::value;
        Vec<A> best[V];
        Vec<I> code[V] = {};
        combine_at<V>(n, i, best, code);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          store(sink.best + i + v * L, best[v]);
          if constexpr (kCodes) {
            store(sink.code + i + v * L, code[v]);
          }
        }
      };
      int64_t i = 0;
      for (; i + 4 * L <= kernel_.line(); i += 4 * L) {
        keep(std::integral_constant<int, 4>(), i);
      }
      for (; i < kernel_.line(); i += L) {
        keep(std::integral_constant<int, 1>(), i);
      }
    } else {
      kernel_.each([&](auto vectors, int64_t i, int64_t offset, int lanes) {
        constexpr int V = decltype(vectors)::value;
        Vec<A> best[V];
        Vec<I> code[V] = {};
        combine_at<V>(n, i, best, code);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          kernel_.finish(sink.out + offset + v * L, best[v], code[v], lanes);
        }
      });
    }
  }

  // V vectors side by side, from position i of the lines on.
  template <int V>
  void combine_at(int64_t n, int64_t i, Vec<A>* best, Vec<I>* code) const {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      best[v] = load(best_[0] + i + v * L);
      if constexpr (kCodes) {
        code[v] = load(code_[0] + i + v * L) + labels_[0];
      }
    }
    for (int64_t j = 1; j < n; ++j) {
      const A* from = best_[j] + i;
      const I* names = kCodes ? code_[j] + i : nullptr;
      const I label = labels_[j];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        Vec<I> other{};
        if constexpr (kCodes) {
          other = load(names + v * L) + label;
        }
        take<kCodes, A>(best[v], code[v], load(from + v * L), other);
      }
    }
  }

  const MaxPool& m_;
  Kernel kernel_;
  AxisReach depth_, height_, width_;
  bool separable_;
  int64_t band_, grain_;
  int64_t oh0_ = 0, oh1_ = 0; // the band at hand
  int64_t line_ = 0; // elements between two buffered lines
  std::vector<const S*> rows_;
  std::vector<const A*> best_;
  std::vector<const I*> code_;
  std::vector<I> labels_;
  std::vector<A> values_; // rows of the slice at hand, then slices
  std::vector<I> taps_;
  std::vector<int64_t> row_tag_, slice_tag_; // what a buffer holds
};

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
