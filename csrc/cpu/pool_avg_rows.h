// Window sums along rows of side-by-side columns (NCHW; channels_last with few
// channels); read once per instruction set, after pool_avg_io.h and shuffle.h.
//
// The rows of a window are added first, at stride 1, into a buffer with zeros
// where the padding is; then the columns of the buffer are added along the
// row. Where no column serves two windows both happen in registers. Rows are
// done in pieces, so that the buffer stays in the first cache.

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// Every lane becomes the sum of all: halves onto each other.
template <int By, typename A>
inline Vec<A> add_lanes(const Vec<A>& v) {
  if constexpr (By == 0) {
    return v;
  } else {
    return add_lanes<By / 2, A>(v + rotate<By, A>(v));
  }
}
template <typename A>
inline A lane_sum(const Vec<A>& v) {
  return add_lanes<kLanes<A> / 2, A>(v)[0];
}

// f(i, lanes) for vectors that cover [0, n): the last one overlaps its
// neighbour where n is long enough for one.
template <int L, typename F>
inline void each_vector(int64_t n, const F& f) {
  int64_t i = 0;
  for (; i + L <= n; i += L) {
    f(i, L);
  }
  if (i < n) {
    n >= L ? f(n - L, L) : f(i, static_cast<int>(n - i));
  }
}

template <typename Src, typename Sink>
class RowSums {
  using A = typename Src::A;
  static constexpr int L = kLanes<A>;
  static constexpr int64_t kPiece = 4096; // elements of the buffer, about

 public:
  RowSums(const WindowSum& w, const Src& src, const Sink& sink)
      : w_(w),
        src_(src),
        sink_(sink),
        weighted_(Sink::kGradient && (w.count[0] || w.count[1] || w.count[2])) {
    most_rows_ = most_sources(w, 0) * most_sources(w, 1);
    const bool whole = w.dst[2] == 1 && w.pattern != WindowPattern::spread;
    direct_sum_ = !weighted_ && whole && w.inner == 1 && src.unit();
    fill_ = !weighted_ && w.pattern == WindowPattern::whole && w.src[2] == 1 &&
        w.inner == 1;
    // One output of each channel, side by side: a vector of them at a time.
    side_by_side_ = direct_sum_ && w.dst[0] * w.dst[1] == 1 &&
        w.channels >= L / 2 && w.dst_c == 1;
    const bool ragged =
        w.pattern == WindowPattern::ragged || w.pattern == WindowPattern::whole;
    const int64_t step = ragged ? w.src[2] / w.dst[2] + 1 : w.step;
    if (w.pattern == WindowPattern::spread) {
      // A piece is a number of sources.
      piece_ = std::max<int64_t>(kPiece / (step * w.inner), 1);
      piece_ = std::min(piece_, sources());
      reach_ = (w.kernel + step - 1) / step;
    } else {
      piece_ = std::max<int64_t>(kPiece / (step * w.inner), 4);
    }
  }

  void run() const {
    if (side_by_side_) {
      return run_side_by_side();
    }
    const int64_t units = w_.batch * w_.channels * w_.dst[0] * w_.dst[1];
    const int64_t work = (most_rows_ * w_.src[2] + w_.dst[2]) * w_.inner + 16;
    const int64_t grain = std::max<int64_t>(1, 32768 / work);
    parallel_for(units, grain, [&](int64_t begin, int64_t end) {
      RowSums self(*this);
      self.rows(begin, end);
    });
  }

 private:
  RowSums(const RowSums&) = default;

  void rows(int64_t begin, int64_t end) {
    std::unique_ptr<A[]> memory(allocate());
    src_.reserve(std::max<int64_t>(most_rows_, 1));
    int64_t h = begin % w_.dst[1], rest = begin / w_.dst[1];
    int64_t d = rest % w_.dst[0];
    rest /= w_.dst[0];
    int64_t c = rest % w_.channels, n = rest / w_.channels;
    bool again = false; // the row sums are those of the row before
    for (int64_t u = begin; u < end; ++u) {
      sink_.row(n, c, d, h);
      if (again) {
        write(0, 0, w_.dst[2] * w_.inner);
      } else {
        list_rows(n, c, d, h);
        row();
      }
      again = false;
      if (++h == w_.dst[1]) {
        h = 0;
        if (++d == w_.dst[0]) {
          d = 0;
          if (++c == w_.channels) {
            c = 0;
            ++n;
          }
        }
      } else {
        again = whole_row_ && w_.begin[1][h] == w_.begin[1][h - 1] &&
            w_.end[1][h] == w_.end[1][h - 1];
      }
    }
  }

  void list_rows(int64_t n, int64_t c, int64_t d, int64_t h) {
    rows_ = 0;
    for (int64_t i = w_.begin[0][d]; i < w_.end[0][d]; ++i) {
      for (int64_t j = w_.begin[1][h]; j < w_.end[1][h]; ++j) {
        if (weighted_) {
          row_weight_[rows_] = A(1) /
              static_cast<A>((w_.count[0] ? w_.count[0][i] : 1) *
                             (w_.count[1] ? w_.count[1][j] : 1));
        }
        src_.set(rows_++, n, c, i, j);
      }
    }
  }

  // Buffers with slack, so that vectors may reach over their ends.
  std::unique_ptr<A[]> allocate() {
    const int64_t slack = 4 * L;
    const int64_t in = span() * w_.inner + slack;
    const int64_t out = w_.pattern == WindowPattern::spread
        ? piece_ * w_.step * w_.inner
        : std::min(piece_, w_.dst[2]) * w_.inner;
    const int64_t weights = weighted_ ? most_rows_ + w_.src[2] * w_.inner : 0;
    std::unique_ptr<A[]> memory(new A[in + out + slack + weights]);
    buf_ = memory.get();
    out_ = buf_ + in;
    if (weighted_) {
      row_weight_ = out_ + out + slack;
      column_weight_ = row_weight_ + most_rows_;
      for (int64_t i = 0; i < w_.src[2] * w_.inner; ++i) {
        column_weight_[i] = w_.count[2]
            ? A(1) / static_cast<A>(w_.count[2][i / w_.inner])
            : A(1);
      }
    }
    return memory;
  }

  // The most columns that a piece reads.
  int64_t span() const {
    if (direct_sum_ || fill_) {
      return 0;
    }
    const int64_t n = std::min(piece_, w_.dst[2]);
    if (w_.pattern == WindowPattern::slide) {
      return (n - 1) * w_.step + w_.kernel;
    }
    if (w_.pattern == WindowPattern::spread) {
      return piece_ + reach_;
    }
    int64_t most = 0;
    for (int64_t o = 0; o < w_.dst[2]; o += n) {
      const int64_t last = std::min(o + n, w_.dst[2]) - 1;
      most = std::max(most, w_.end[2][last] - w_.begin[2][o]);
    }
    return most;
  }

  void row() {
    whole_row_ = false;
    if (direct_sum_) {
      sink_.part(0, broadcast(lane_sum<A>(sum_directly())), 1);
      return;
    }
    if (fill_) {
      return fill();
    }
    if (w_.pattern == WindowPattern::spread) {
      return spread();
    }
    for (int64_t o = 0; o < w_.dst[2]; o += piece_) {
      const int64_t n = std::min(piece_, w_.dst[2] - o);
      if (w_.pattern == WindowPattern::slide &&
          (w_.step == 1 || (w_.step == 2 && w_.inner == 1))) {
        slide(o, n);
      } else {
        sum_columns(o, n);
      }
    }
  }

  // buf[0, n) = the sums over the rows of columns [i, i + n), zero outside.
  void add_rows(int64_t i, int64_t n) {
    const int64_t begin = std::min(std::max<int64_t>(i, 0), i + n);
    const int64_t end = std::max(std::min(i + n, w_.src[2]), begin);
    A* out = buf_ + (begin - i) * w_.inner;
    std::fill(buf_, out, A(0));
    std::fill(buf_ + (end - i) * w_.inner, buf_ + n * w_.inner + 2 * L, A(0));
    const int64_t length = (end - begin) * w_.inner;
    const int64_t first = begin * w_.inner;
    if (!src_.unit()) {
      for (int64_t j = 0; j < length; ++j) {
        A sum = 0;
        for (int64_t r = 0; r < rows_; ++r) {
          const A v = src_.one(r, first + j);
          sum += weighted_ ? v * row_weight_[r] : v;
        }
        out[j] = weighted_ ? sum * column_weight_[first + j] : sum;
      }
      return;
    }
    int64_t j = 0;
    for (; j + 4 * L <= length; j += 4 * L) {
      add_rows_at<4>(first + j, out + j);
    }
    for (; j + L <= length; j += L) {
      add_rows_at<1>(first + j, out + j);
    }
    if (j < length && length >= L) {
      add_rows_at<1>(first + length - L, out + length - L);
    } else if (j < length) {
      const int lanes = static_cast<int>(length - j);
      Vec<A> sum{};
      for (int64_t r = 0; r < rows_; ++r) {
        const Vec<A> v = src_.part(r, first + j, 0, lanes);
        sum += weighted_ ? v * row_weight_[r] : v;
      }
      if (weighted_) {
        sum *= load_partial(column_weight_ + first + j, lanes);
      }
      store(out + j, sum); // the lanes above are zero, as is what follows
    }
  }
  template <int V>
  void add_rows_at(int64_t i, A* out) const {
    Vec<A> sum[V] = {};
    if (weighted_) {
      for (int64_t r = 0; r < rows_; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          sum[v] += src_.vec(r, i + v * L, 0) * row_weight_[r];
        }
      }
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        sum[v] *= load(column_weight_ + i + v * L);
      }
    } else {
      for (int64_t r = 0; r < rows_; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          sum[v] += src_.vec(r, i + v * L, 0);
        }
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      store(out + v * L, sum[v]);
    }
  }

  void put(int64_t i, const Vec<A>& v, int lanes) {
    lanes == L ? sink_.put(i, v) : sink_.part(i, v, lanes);
  }
  // Elements [at, at + n) of the row, from out_[from] on.
  void write(int64_t from, int64_t at, int64_t n) {
    each_vector<L>(n, [&](int64_t i, int lanes) {
      put(at + i, load(out_ + from + i), lanes);
    });
  }

  void slide(int64_t o, int64_t n) {
    const int64_t first = o * w_.step - w_.pad;
    const int64_t columns = (n - 1) * w_.step + w_.kernel;
    // Vectors of the last outputs may reach one column further.
    const bool exact = w_.step == 1 || w_.kernel % 2 == 0;
    const bool inside =
        first >= 0 && first + columns + (exact ? 0 : 1) <= w_.src[2];
    const bool once = w_.kernel <= w_.step || rows_ == 1;
    if (!weighted_ && once && inside && n >= L && w_.inner == 1 &&
        src_.unit() && rows_ > 0) {
      if (rows_ == 1) {
        slide_over(o, n, [&](int64_t i) { return src_.vec(0, first + i, 0); });
      } else if (rows_ == 2) {
        slide_over(o, n, [&](int64_t i) {
          return src_.vec(0, first + i, 0) + src_.vec(1, first + i, 0);
        });
      } else {
        slide_over(o, n, [&](int64_t i) {
          Vec<A> sum = src_.vec(0, first + i, 0);
          for (int64_t r = 1; r < rows_; ++r) {
            sum += src_.vec(r, first + i, 0);
          }
          return sum;
        });
      }
      return;
    }
    add_rows(first, columns);
    slide_over(o, n, [&](int64_t i) { return load(buf_ + i); });
  }

  // at(i): the sums of columns i, i + 1, ... of the piece.
  template <typename At>
  void slide_over(int64_t o, int64_t n, const At& at) {
    const int64_t k = w_.kernel;
    if (w_.step == 1) {
      each_vector<L>(n * w_.inner, [&](int64_t i, int lanes) {
        Vec<A> sum = at(i);
        for (int64_t t = 1; t < k; ++t) {
          sum += at(i + t * w_.inner);
        }
        put(o * w_.inner + i, sum, lanes);
      });
      return;
    }
    each_vector<L>(n, [&](int64_t i, int lanes) {
      Vec<A> sum{};
      int64_t t = 0;
      for (; t + 2 <= k; t += 2) {
        const Vec<A> a = at(2 * i + t), b = at(2 * i + t + L);
        sum += every_other<0, A>(a, b) + every_other<1, A>(a, b);
      }
      if (t < k) {
        sum += every_other<0, A>(at(2 * i + t), at(2 * i + t + L));
      }
      put(o + i, sum, lanes);
    });
  }

  // Any windows, one output after the other.
  void sum_columns(int64_t o, int64_t n) {
    const int64_t* begin = w_.begin[2] + o;
    const int64_t* end = w_.end[2] + o;
    const int64_t first = begin[0];
    add_rows(first, end[n - 1] - first);
    if (w_.inner > 1) {
      const int64_t C = w_.inner;
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t c = 0; c < C; ++c) {
          A sum = 0;
          for (int64_t j = begin[i] - first; j < end[i] - first; ++j) {
            sum += buf_[j * C + c];
          }
          out_[i * C + c] = sum;
        }
      }
    } else {
      for (int64_t i = 0; i < n; ++i) {
        const A* p = buf_ + (begin[i] - first);
        const int64_t length = end[i] - begin[i];
        if (length >= L) {
          Vec<A> sum{};
          int64_t j = 0;
          for (; j + L <= length; j += L) {
            sum += load(p + j);
          }
          A total = lane_sum<A>(sum);
          for (; j < length; ++j) {
            total += p[j];
          }
          out_[i] = total;
        } else {
          A sum = length > 0 ? p[0] : A(0);
          for (int64_t j = 1; j < length; ++j) {
            sum += p[j];
          }
          out_[i] = sum;
        }
      }
    }
    whole_row_ = n == w_.dst[2];
    write(0, o * w_.inner, n * w_.inner);
  }

  // Columns [i, end) of row r, `offset` elements further on, in lanes.
  Vec<A> sum_row(int64_t r, int64_t i, int64_t end, int64_t offset) const {
    Vec<A> a{}, b{};
    if (end - i >= 8 * L) {
      Vec<A> c{}, d{};
      for (; i + 4 * L <= end; i += 4 * L) {
        a += src_.vec(r, i, offset);
        b += src_.vec(r, i + L, offset);
        c += src_.vec(r, i + 2 * L, offset);
        d += src_.vec(r, i + 3 * L, offset);
      }
      a += c;
      b += d;
    }
    for (; i + 2 * L <= end; i += 2 * L) {
      a += src_.vec(r, i, offset);
      b += src_.vec(r, i + L, offset);
    }
    if (i + L <= end) {
      a += src_.vec(r, i, offset);
      i += L;
    }
    if (i < end) {
      b += src_.part(r, i, offset, static_cast<int>(end - i));
    }
    return a + b;
  }

#if defined(TC_AVX512)
  // n elements side by side, in lanes: nothing but loads and additions.
  template <typename S>
  static Vec<A> sum_line(const S* p, int64_t n) {
    const typename Plain<S>::Near from;
    const unsigned all = (1u << L) - 1;
    Vec<A> a{}, b{};
    if (n >= 4 * L) {
      Vec<A> c{}, d{};
      for (; n >= 4 * L; n -= 4 * L, p += 4 * L) {
        a += from.lanes(p, all);
        b += from.lanes(p + L, all);
        c += from.lanes(p + 2 * L, all);
        d += from.lanes(p + 3 * L, all);
      }
      a += c;
      b += d;
    }
    for (; n >= L; n -= L, p += L) {
      a += from.lanes(p, all);
    }
    return a + (b + from.lanes(p, (1u << n) - 1));
  }
#endif

  // One output for the whole row: no buffer, several running sums. The sum is
  // that of the lanes.
  Vec<A> sum_directly() const {
    const int64_t begin = w_.begin[2][0], end = w_.end[2][0];
    Vec<A> sum[4] = {};
    for (int64_t r = 0; r < rows_; ++r) {
      int64_t i = begin;
      for (; i + 4 * L <= end; i += 4 * L) {
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          sum[j] += src_.vec(r, i + j * L, 0);
        }
      }
      for (; i + L <= end; i += L) {
        sum[0] += src_.vec(r, i, 0);
      }
      if (i < end) {
        sum[1] += src_.part(r, i, 0, static_cast<int>(end - i));
      }
    }
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
  }

  // Such rows of as many channels as a vector has lanes: their lanes are added
  // up together.
  void run_side_by_side() const {
    const int64_t blocks = (w_.channels + L - 1) / L;
    const int64_t work = (most_rows_ * w_.src[2] + 16) * L;
    const int64_t grain = std::max<int64_t>(1, 32768 / work);
    parallel_for(w_.batch * blocks, grain, [&](int64_t begin, int64_t end) {
      RowSums self(*this);
      self.src_.reserve(std::max<int64_t>(most_rows_, 1));
      for (int64_t u = begin; u < end; ++u) {
        const int64_t c = u % blocks * L;
        self.sum_channels(u / blocks, c, std::min(w_.channels - c, int64_t{L}));
      }
    });
  }
  void sum_channels(int64_t n, int64_t c, int64_t channels) {
    Vec<A> sum[L];
    for (int64_t j = channels; j < L; ++j) {
      sum[j] = Vec<A>{};
    }
    if (most_rows_ == 1) {
      // Short rows by the thousand: the loop around them is what counts.
      list_rows(n, c, 0, 0);
      const int64_t begin = w_.begin[2][0], end = w_.end[2][0];
#if defined(TC_AVX512)
      if constexpr (std::is_same_v<Src, Plain<typename Src::Storage>>) {
        const auto* p = src_.x.at(0, begin, 0);
        for (int64_t j = 0; j < channels; ++j, p += w_.src_c) {
          sum[j] = sum_line(p, end - begin);
        }
      } else
#endif
        for (int64_t j = 0; j < channels; ++j) {
          sum[j] = sum_row(0, begin, end, j * w_.src_c);
        }
    } else {
      for (int64_t j = 0; j < channels; ++j) {
        list_rows(n, c + j, 0, 0);
        sum[j] = sum_directly();
      }
    }
    transpose<A>(sum);
#pragma GCC unroll 4
    for (int step = L / 2; step > 0; step /= 2) {
      for (int j = 0; j < step; ++j) {
        sum[j] += sum[j + step];
      }
    }
    sink_.row(n, 0, 0, 0);
    sink_.pixel(0);
    channels == L ? sink_.put_at(c, sum[0])
                  : sink_.part_at(c, sum[0], static_cast<int>(channels));
  }

  // One source for the whole row.
  void fill() {
    A sum = 0;
    for (int64_t r = 0; r < rows_; ++r) {
      sum += src_.one(r, 0);
    }
    const Vec<A> v = broadcast(sum);
    const int64_t n = w_.dst[2];
    if constexpr (Sink::kRepeats) {
      // Planes of a few vectors, one after the other: the loop is what counts.
      if (sink_.stride[2] == 1 && n >= L) {
        const Vec<A> scaled = v * sink_.factor;
        for (int64_t i = 0; i + L <= n; i += L) {
          store_as(sink_.p + i, scaled);
        }
        store_as(sink_.p + n - L, scaled);
        return;
      }
    }
    each_vector<L>(n, [&](int64_t i, int lanes) { put(i, v, lanes); });
  }

  // Source positions, real or not, that windows of the row start from.
  int64_t sources() const {
    return (w_.dst[2] + w_.pad + w_.step - 1) / w_.step;
  }

  // Every source column to its destinations, in out_; then to the row.
  void spread() {
    const int64_t s = w_.step, k = w_.kernel, length = w_.dst[2];
    const int64_t all = sources();
    for (int64_t q = 0; q < all; q += piece_) {
      const int64_t n = std::min(piece_, all - q);
      const int64_t begin = std::max<int64_t>(q * s - w_.pad, 0);
      const int64_t end = std::min((q + n) * s - w_.pad, length);
      if (w_.inner == 1 && (s == 2 || k <= s)) {
        add_rows(q - (reach_ - 1), n + reach_ - 1);
        s == 2 ? spread_by_two(n) : repeat(n);
        write(begin - (q * s - w_.pad), begin, end - begin);
        whole_row_ = n == all && w_.pad == 0;
      } else {
        sum_columns(begin, end - begin);
      }
    }
  }
  void spread_by_two(int64_t n) {
    const int64_t odd = w_.kernel / 2, last = reach_ - 1;
    for (int64_t q = 0; q < n; q += L) {
      Vec<A> a{}, b{};
      for (int64_t m = 0; m < odd; ++m) {
        const Vec<A> v = load(buf_ + q + last - m);
        a += v;
        b += v;
      }
      if (odd < reach_) {
        a += load(buf_ + q + last - odd);
      }
      store(out_ + 2 * q, interleave<0, A>(a, b));
      store(out_ + 2 * q + L, interleave<1, A>(a, b));
    }
  }
  void repeat(int64_t n) {
    const int64_t s = w_.step, k = w_.kernel;
    for (int64_t q = 0; q < n; ++q) {
      const Vec<A> v = broadcast(buf_[q]);
      A* out = out_ + q * s;
      // What a vector writes too much, the next one puts right.
      for (int64_t r = 0; r < k; r += L) {
        store(out + r, v);
      }
      for (int64_t r = k; r < s; r += L) {
        store(out + r, Vec<A>{});
      }
    }
  }

  const WindowSum& w_;
  Src src_;
  Sink sink_;
  int64_t most_rows_, piece_, reach_ = 1, rows_ = 0;
  bool weighted_, direct_sum_, fill_, side_by_side_, whole_row_ = false;
  A *buf_ = nullptr, *out_ = nullptr;
  A *row_weight_ = nullptr, *column_weight_ = nullptr;
};

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
