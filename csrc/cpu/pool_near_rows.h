// Windows of two or three neighbours, one or two apart, along contiguous rows:
// the shape of most pooling layers. The rows of a window are joined column by
// column, then the columns in registers, by shuffles: no buffer, and no vector
// has an edge, because every load and store is masked, which costs nothing.
// What a row costs beyond its vectors is what counts on small planes: rows of
// outputs whose windows are whole and evenly apart are one *run*, a plain loop.
// Read in the AVX-512 region only, after pool_mask_simd.h.

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// Output rows h, h + apart, ... of slice d. The windows of the first are source
// rows first[1], first[1] + 1, ... of slices first[0], ...; each next one's are
// `step` rows further.
struct NearRun {
  int64_t d, h, apart, count, step;
  int64_t first[2], rows[2]; // by depth and height
};

struct NearWindows {
  int64_t in, out, pad; // along the row
  int64_t stride[2]; // of the source, by depth and height
  int64_t to_stride[2]; // of the outputs
  std::vector<NearRun> runs; // all output rows of a plane
};

// The runs of a plane with windows [begin, end) by depth and height; `most`
// rows in a run. Where count is not null, rows of a run have the same of it.
inline std::vector<NearRun> near_runs(
    const int64_t out[2],
    const int64_t* const begin[2],
    const int64_t* const end[2],
    const int64_t* count,
    int64_t most,
    int64_t apart) {
  std::vector<NearRun> runs;
  NearRun* last = nullptr;
  const auto add = [&](int64_t d, int64_t h) {
    const int64_t b = begin[1][h], n = end[1][h] - b;
    if (last != nullptr && n == last->rows[1] &&
        (count == nullptr || count[h] == count[last->h])) {
      const int64_t step = b - begin[1][h - apart];
      if (last->count == 1 || step == last->step) {
        last->step = step;
        ++last->count;
        return;
      }
    }
    const int64_t a = begin[0][d];
    runs.push_back({d, h, apart, 1, 0, {a, b}, {end[0][d] - a, n}});
    last = &runs.back();
  };
  for (int64_t d = 0; d < out[0]; ++d) {
    for (int64_t from = 0; from < out[1]; from += most * apart) {
      const int64_t to = std::min(from + most * apart, out[1]);
      for (int64_t phase = 0; phase < apart; ++phase) {
        last = nullptr;
        for (int64_t h = from + phase; h < to; h += apart) {
          add(d, h);
        }
      }
    }
  }
  return runs;
}

// The vectors of a row of outputs, of windows of K taps, S columns apart.
template <typename A, int K, int S>
struct NearVectors {
  static constexpr int L = kLanes<A>;
  static constexpr unsigned kAll = (1u << L) - 1;
  int64_t count; // of outputs; that many sources too, or one more
  bool ahead; // one more
  unsigned rest; // lanes of the last vector of outputs
  std::vector<uint16_t> inside; // lanes of sources: S vectors for an output's

  explicit NearVectors(const NearWindows& w) : count((w.out + L - 1) / L) {
    const int64_t last = w.out - (count - 1) * L;
    rest = (1u << last) - 1;
    ahead = last + (S == 1 ? K - 1 : K - 2) > L;
    for (int64_t i = 0; i < (count + 1) * S; ++i) {
      inside.push_back(
          static_cast<uint16_t>(lanes_inside(i * L - w.pad, w.in, L)));
    }
  }
};

// A source vector or, S being 2, two of them as even and odd columns.
template <typename A>
struct NearColumns {
  Vec<A> a, b;
};

// Column t of the windows of a vector of outputs.
template <int S, int T, typename A>
inline Vec<A> near_tap(const NearColumns<A>& now, const NearColumns<A>& next) {
  if constexpr (S == 1) {
    return shifted<T, A>(now.a, next.a);
  } else if constexpr (T == 2) {
    return shifted<1, A>(now.a, next.a);
  } else {
    return T == 0 ? now.a : now.b;
  }
}

// f(K, S) as constants: taps and stride along the row.
template <typename F>
void with_near(int64_t taps, int64_t stride, const F& f) {
  const std::integral_constant<int, 1> one;
  const std::integral_constant<int, 2> two;
  const std::integral_constant<int, 3> three;
  if (taps == 2) {
    stride == 1 ? f(two, one) : f(two, two);
  } else {
    stride == 1 ? f(three, one) : f(three, two);
  }
}

// f(D, H) as constants: the rows of a run's windows by depth and height; 0 is
// any number, and all there is for types that are less used (build time).
template <typename T, typename F>
inline void with_rows(const NearRun& run, const F& f) {
  const std::integral_constant<int, 0> any;
  if constexpr (std::is_same_v<T, float>) {
    const std::integral_constant<int, 1> one;
    const std::integral_constant<int, 2> two;
    const std::integral_constant<int, 3> three;
    const int64_t d = run.rows[0], h = run.rows[1];
    if (d == 1 && h == 3) {
      return f(one, three);
    }
    if (d == 1 && h == 2) {
      return f(one, two);
    }
    if (d == 1 && h == 1) {
      return f(one, one);
    }
    if (d == 2 && h == 2) {
      return f(two, two);
    }
  }
  f(any, any);
}

// f(runs): on all threads; runs(g) calls g(n, c, run) for the thread's share.
template <typename F>
void each_near_run(
    int64_t batch,
    int64_t channels,
    const NearWindows& w,
    int64_t grain,
    const F& f) {
  const int64_t runs = static_cast<int64_t>(w.runs.size());
  parallel_for(batch * channels * runs, grain, [&](int64_t begin, int64_t end) {
    f([&](const auto& g) {
      int64_t plane = begin / runs, i = begin % runs;
      for (int64_t u = begin; u < end; ++plane, i = 0) {
        const int64_t n = plane / channels, c = plane % channels;
        for (; i < runs && u < end; ++i, ++u) {
          g(n, c, w.runs[i]);
        }
      }
    });
  });
}

// Joins windows by an operation. Op has
//
//   using Storage
//   fill()                what is read outside a row
//   load(p, mask)         a vector of the source
//   join(a, b)            the operation
//   check(a, b)           sees every vector that was loaded
//   put(to, i, v, mask)   outputs i, i + 1, ... of the row at `to`
//
// and is copied for a run.
template <typename Op, int K, int S>
class NearRows {
  using T = typename Op::Storage;
  using A = acc_t<T>;
  using V = NearVectors<A, K, S>;
  static constexpr int L = kLanes<A>;
  static_assert((K == 2 || K == 3) && (S == 1 || S == 2), "near");

 public:
  explicit NearRows(const NearWindows& w) : w_(w), vectors_(w) {}

  // One run of the source plane to the plane `to`.
  void run(Op& op, const NearRun& r, const T* plane, T* to) const {
    plane += r.first[0] * w_.stride[0] + r.first[1] * w_.stride[1] - w_.pad;
    to += r.d * w_.to_stride[0] + r.h * w_.to_stride[1];
    with_rows<T>(r, [&](auto d, auto h) {
      const Rows<d, h> rows{
          plane,
          w_.stride[0],
          w_.stride[1],
          static_cast<int>(r.rows[0]),
          static_cast<int>(r.rows[1])};
      op = some(
          op,
          rows,
          r.step * w_.stride[1],
          to,
          r.apart * w_.to_stride[1],
          r.count);
    });
  }

 private:
  template <int D, int H>
  struct Rows {
    const T* first;
    int64_t step_d, step_h;
    int depth, height;
  };

  // All rows of a vector of columns.
  template <int D, int H>
  __attribute__((always_inline)) static Vec<A> join_rows(
      Op& op,
      const Rows<D, H>& rows,
      int64_t at,
      unsigned mask) {
    const T* p = rows.first + at;
    if constexpr (D == 0) {
      Vec<A> v = op.fill(); // there may be no rows
      for (int d = 0; d < rows.depth; ++d) {
        for (int h = 0; h < rows.height; ++h) {
          const Vec<A> u = op.load(p + d * rows.step_d + h * rows.step_h, mask);
          op.check(u, u);
          v = op.join(v, u);
        }
      }
      return v;
    }
    Vec<A> v = op.load(p, mask);
    if constexpr (H == 1) {
      op.check(v, v);
    }
#pragma GCC unroll 2
    for (int d = 0; d < D; ++d) {
      if constexpr (H > 1) {
        const T* q = p + d * rows.step_d;
        const Vec<A> u = op.load(q + rows.step_h, mask);
        if (d > 0) {
          const Vec<A> t = op.load(q, mask);
          op.check(t, u);
          v = op.join(v, t);
        } else {
          op.check(v, u);
        }
        v = op.join(v, u);
        if constexpr (H > 2) {
          const Vec<A> t = op.load(q + 2 * rows.step_h, mask);
          op.check(t, t);
          v = op.join(v, t);
        }
      }
    }
    return v;
  }

  template <int D, int H>
  __attribute__((always_inline)) static NearColumns<A> columns(
      Op& op,
      const Rows<D, H>& rows,
      int64_t i,
      const unsigned (&inside)[2]) {
    const int64_t at = i * S * L;
    const Vec<A> a = join_rows(op, rows, at, inside[0]);
    if constexpr (S == 1) {
      return {a, a};
    } else {
      const Vec<A> b = join_rows(op, rows, at + L, inside[1]);
      return {every_other<0, A>(a, b), every_other<1, A>(a, b)};
    }
  }

  __attribute__((always_inline)) static Vec<A> output(
      const Op& op,
      const NearColumns<A>& now,
      const NearColumns<A>& next) {
    Vec<A> v =
        op.join(near_tap<S, 0, A>(now, next), near_tap<S, 1, A>(now, next));
    if constexpr (K == 3) {
      v = op.join(v, near_tap<S, 2, A>(now, next));
    }
    return v;
  }

  template <int D, int H>
  __attribute__((noinline)) Op some(
      Op op,
      Rows<D, H> rows,
      int64_t advance,
      T* to,
      int64_t to_step,
      int64_t n) const {
    constexpr bool kAlone = K <= S; // no vector of outputs sees the next one's
    const uint16_t* table = vectors_.inside.data();
    const int64_t last = vectors_.count - 1;
    const bool ahead = !kAlone && vectors_.ahead;
    const unsigned rest = vectors_.rest;
    const auto inside = [table](int64_t i, unsigned (&mask)[2])
                            __attribute__((always_inline)) {
                              mask[0] = table[i * S];
                              mask[1] = table[i * S + S - 1];
                            };
    unsigned mask[2];
    if (last == 0 && !ahead) {
      inside(0, mask);
      for (int64_t row = 0; row < n; ++row) {
        const NearColumns<A> now = columns(op, rows, 0, mask);
        op.put(to, 0, output(op, now, now), rest);
        rows.first += advance;
        to += to_step;
      }
      return op;
    }
    for (int64_t row = 0; row < n; ++row) {
      inside(0, mask);
      NearColumns<A> now = columns(op, rows, 0, mask);
      for (int64_t i = 0; i < last; ++i) {
        inside(i + 1, mask);
        const NearColumns<A> next = columns(op, rows, i + 1, mask);
        op.put(to, i * L, output(op, now, next), V::kAll);
        now = next;
      }
      NearColumns<A> next = now;
      if (ahead) {
        inside(last + 1, mask);
        next = columns(op, rows, last + 1, mask);
      }
      op.put(to, last * L, output(op, now, next), rest);
      rows.first += advance;
      to += to_step;
    }
    return op;
  }

  const NearWindows& w_;
  const V vectors_;
};

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
