// Layers of conv_patch_plan.h: windows and filters as rows of memory. Read
// once per instruction set.
//
// forward is a table of scalar products of windows and filters. Both are read
// in vectors along the reduction, so that neither is packed; an element is
// summed in as many lanes as a vector has, and the lanes by halves. The
// gradients of a kernel that covers the input are products with rows of w or x
// as they lie, each element one chain.

namespace torchconv {
namespace cpu {
namespace TC_ISA {

// How a vector of a window meets a vector of a filter.
template <typename S>
struct LaneProducts {
  using Storage = S;
  using A = acc_t<S>;
  using Factor = Vec<A>;
  static constexpr int kStep = kLanes<A>; // elements of a Factor
  static Factor read(const S* p) {
    return load_as(p);
  }
  static Factor read_partial(const S* p, int n) {
    return load_as_partial(p, n);
  }
  static void step(Vec<A>& acc, Factor x, Factor w) {
    acc += x * w;
  }
};

// rows[0][l] = the sum of the lanes of rows[l]: the steps of transpose_block,
// both halves of each added.
template <typename A, int Half, int... I>
inline void sum_step(
    Vec<A> (&rows)[kLanes<A>],
    std::integer_sequence<int, I...>) {
  constexpr int L = kLanes<A>;
  using Index = std::conditional_t<sizeof(A) == 4, int32_t, int64_t>;
  const Vec<Index> low = {((I & Half) == 0 ? I : L + (I ^ Half))...};
  const Vec<Index> high = {((I & Half) == 0 ? (I ^ Half) : L + I)...};
#pragma GCC unroll 16
  for (int i = 0; i < L; i += 2 * Half) {
    const Vec<A> a = rows[i], b = rows[i | Half];
    rows[i] = __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high);
  }
}
template <typename A>
inline void sum_lanes(Vec<A> (&rows)[kLanes<A>]) {
  constexpr std::make_integer_sequence<int, kLanes<A>> lanes;
  sum_step<A, 1>(rows, lanes);
  if constexpr (kLanes<A> > 2) {
    sum_step<A, 2>(rows, lanes);
  }
  if constexpr (kLanes<A> > 4) {
    sum_step<A, 4>(rows, lanes);
  }
  if constexpr (kLanes<A> > 8) {
    sum_step<A, 8>(rows, lanes);
  }
}

constexpr int kPatchWindows = kRegisters == 32 ? 4 : 2; // of a tile, at most
constexpr int kPatchFilters = kRegisters == 32 ? 6 : 4;
constexpr int kFewWindows = kRegisters / 2; // of a tile of a single filter

// out[k * P + p] = bias[k * P + p] + the product of window p and filter k.
template <typename T>
using PatchFn = void (*)(
    const typename T::Storage* const* x,
    const typename T::Storage* w,
    int64_t filter,
    int64_t n,
    const typename T::A* bias,
    typename T::Storage* out);

template <typename T, int P, int K>
void patch_tile(
    const typename T::Storage* const* x,
    const typename T::Storage* w,
    int64_t filter,
    int64_t n,
    const typename T::A* bias,
    typename T::Storage* out) {
  using A = typename T::A;
  constexpr int L = kLanes<A>;
  Vec<A> c[K][P];
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) {
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
      c[k][p] = Vec<A>{};
    }
  }
  const typename T::Storage* row[P];
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) {
    row[p] = x[p];
  }
  const auto step = [&](auto read, int64_t r) {
    typename T::Factor a[P];
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
      a[p] = read(row[p] + r);
      // The tile waits for memory: the next windows, which mostly follow.
      __builtin_prefetch(row[p] + P * n + r, 0, 2);
    }
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) {
      const typename T::Factor b = read(w + k * filter + r);
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) {
        T::step(c[k][p], a[p], b);
      }
    }
  };
  int64_t r = 0;
  for (; r + T::kStep <= n; r += T::kStep) {
    step([](const typename T::Storage* from) { return T::read(from); }, r);
  }
  if (r < n) {
    const int rest = static_cast<int>(n - r);
    step(
        [&](const typename T::Storage* from) {
          return T::read_partial(from, rest);
        },
        r);
  }
#pragma GCC unroll 8
  for (int i = 0; i < P * K; i += L) {
    Vec<A> rows[L];
#pragma GCC unroll 16
    for (int l = 0; l < L; ++l) {
      rows[l] = i + l < P * K ? c[(i + l) / P][(i + l) % P] : Vec<A>{};
    }
    sum_lanes<A>(rows);
    store_as(out + i, rows[0] + load(bias + i));
  }
}

template <typename T, int P>
PatchFn<T> patch_function_of(int filters) {
  return filters == kPatchFilters ? patch_tile<T, P, kPatchFilters>
      : filters == 2              ? patch_tile<T, P, 2>
                                  : patch_tile<T, P, 1>;
}
template <typename T>
PatchFn<T> patch_function(int windows, int filters) {
  if (windows > kPatchWindows) {
    return filters == 2 ? patch_tile<T, kFewWindows / 2, 2>
                        : patch_tile<T, kFewWindows, 1>;
  }
  if constexpr (kPatchWindows == 4) {
    if (windows == 4) {
      return patch_function_of<T, 4>(filters);
    }
  }
  return windows == 2 ? patch_function_of<T, 2>(filters)
                      : patch_function_of<T, 1>(filters);
}

// Windows of the next tile, for so many filters: as many as make the sums of
// lanes whole vectors.
inline int patch_windows(int64_t left, int filters) {
  const int few = kFewWindows / filters;
  return filters <= 2 && left >= few ? few
      : left >= kPatchWindows        ? kPatchWindows
      : left >= 2                    ? 2
                                     : 1;
}

// The next tile of what is left: `most`, or two, or one.
inline int patch_part(int64_t left, int most) {
  return left >= most ? most : left >= 2 ? 2 : 1;
}

template <typename T>
struct PatchForward {
  using S = typename T::Storage;
  using A = typename T::A;

  const ConvProblem& p;
  PatchForm form;
  int64_t windows, block; // of all samples; of a block that is gathered once

  PatchForward(const ConvProblem& p, const PatchForm& form)
      : p(p),
        form(form),
        windows(p.batch * p.out_pixels()) {
    const int64_t most = (192 << 10) / (form.n * sizeof(S));
    block = form.in_place ? 64 : std::min<int64_t>(64, most / 4 * 4);
    block = std::min(windows, std::max<int64_t>(4, block));
  }
  int64_t thread_bytes() const {
    Scratch scratch(nullptr);
    scratch.take<S>(form.in_place ? 0 : block * form.n);
    return scratch.used();
  }

  static void copy(const S* from, int64_t stride, int64_t n, S* to) {
    constexpr int64_t kPiece = 16 / sizeof(S);
    int64_t i = 0;
    if (stride == 1) {
      for (; i + kPiece <= n; i += kPiece) {
        std::memcpy(to + i, from + i, 16);
      }
    }
    for (; i < n; ++i) {
      to[i] = from[i * stride];
    }
  }
  void gather(const S* from, S* to) const {
    const int64_t c = p.in_group(), k = p.kernel[2];
    const Strides& s = p.x;
    for (int64_t i = 0; i < (form.inner ? 1 : c); ++i) {
      for (int64_t j0 = 0; j0 < p.kernel[0]; ++j0) {
        for (int64_t j1 = 0; j1 < p.kernel[1]; ++j1) {
          const S* row = from + i * s.c + j0 * s.s[0] + j1 * s.s[1];
          if (!form.inner) {
            copy(row, s.s[2], k, to);
            to += k;
          } else if (s.c == 1 && s.s[2] == c) {
            copy(row, 1, k * c, to);
            to += k * c;
          } else {
            for (int64_t j2 = 0; j2 < k; ++j2, to += c) {
              copy(row + j2 * s.s[2], s.c, c, to);
            }
          }
        }
      }
    }
  }

  void operator()(
      const S* x,
      const S* w,
      const S* bias,
      S* y,
      const Finish& finish,
      void* workspace) const {
    const int64_t k_group = p.out_group(), pixels = p.out_pixels();
    const int64_t cells = p.groups * ((windows + block - 1) / block);
    const int threads = pool_threads();
    const int64_t tiles = (k_group + kPatchFilters - 1) / kPatchFilters;
    const int64_t chunks = threads == 1 || cells >= 2 * threads
        ? 1
        : std::min(tiles, (2 * threads + cells - 1) / cells);
    const int64_t tasks = cells * chunks, bytes = thread_bytes();
    const double work = 1.0 * windows * p.out_channels * form.n;
    parallel_for(
        tasks, task_grain(tasks, work), [&](int64_t begin, int64_t end) {
          S* buffer = reinterpret_cast<S*>(
              static_cast<char*>(workspace) +
              thread_pool().thread_index() * bytes);
          for (int64_t task = begin; task < end; ++task) {
            const int64_t chunk = task % chunks, g = task / chunks % p.groups;
            const int64_t first = task / chunks / p.groups * block;
            const int64_t count = std::min(block, windows - first);
            const S* row[64];
            int64_t place[64];
            int64_t sample = first / pixels, at[3], rest = first % pixels;
            for (int d = 2; d >= 0; --d) {
              at[d] = rest % p.out[d];
              rest /= p.out[d];
            }
            for (int64_t i = 0; i < count;) {
              const S* from = x + sample * p.x.n + g * p.in_group() * p.x.c;
              int64_t to = sample * p.y.n + g * k_group * p.y.c;
              for (int d = 0; d < 3; ++d) {
                from += at[d] * p.stride[d] * p.x.s[d];
                to += at[d] * p.y.s[d];
              }
              // Neighbours along the last dimension.
              const int64_t end = std::min(count, i + p.out[2] - at[2]);
              at[2] += end - i;
              for (; i < end; ++i, to += p.y.s[2]) {
                row[i] = from;
                place[i] = to;
                from += p.stride[2] * p.x.s[2];
              }
              int d = 2;
              while (d >= 0 && at[d] == p.out[d]) {
                at[d--] = 0;
                d < 0 ? ++sample : ++at[d];
              }
            }
            for (int64_t i = 0; i < count; ++i) {
              if (!form.in_place) {
                gather(row[i], buffer + i * form.n);
                row[i] = buffer + i * form.n;
              }
            }
            const int64_t k0 = tiles * chunk / chunks * kPatchFilters;
            const int64_t k1 =
                std::min(k_group, tiles * (chunk + 1) / chunks * kPatchFilters);
            filters(
                k0,
                k1,
                count,
                row,
                place,
                w + g * k_group * p.w.n,
                bias == nullptr ? nullptr : bias + g * k_group,
                y);
            if (finish) {
              finish_windows(place, count, k1 - k0, y + k0 * p.y.c, finish);
            }
          }
        });
  }

  // Windows whose places are evenly spaced together.
  void finish_windows(
      const int64_t* place,
      int64_t count,
      int64_t filters,
      S* y,
      const Finish& finish) const {
    for (int64_t i = 0; i < count;) {
      int64_t end = i + 1;
      const int64_t step = end < count ? place[end] - place[i] : 1;
      while (end < count && place[end] - place[end - 1] == step) {
        ++end;
      }
      finish.block(y + place[i], end - i, step, filters, p.y.c);
      i = end;
    }
  }

  void filters(
      int64_t k0,
      int64_t k1,
      int64_t count,
      const S* const* row,
      const int64_t* place,
      const S* w,
      const S* bias,
      S* y) const {
    constexpr int kMost = kPatchWindows * kPatchFilters + kLanes<A>;
    alignas(64) A add[kMost] = {};
    alignas(64) S out[kMost];
    for (int64_t k = k0; k < k1;) {
      const int K = patch_part(k1 - k, kPatchFilters);
      int made_for = 0;
      for (int64_t i = 0; i < count;) {
        const int P = patch_windows(count - i, K);
        if (bias != nullptr && made_for != P) {
          made_for = P;
          for (int l = 0; l < P * K; ++l) {
            add[l] = static_cast<A>(bias[k + l / P]);
          }
        }
        patch_function<T>(P, K)(
            row + i, w + k * p.w.n, p.w.n, form.n, add, out);
        for (int j = 0; j < K; ++j) {
          S* to = y + (k + j) * p.y.c;
          for (int l = 0; l < P; ++l) {
            to[place[i + l]] = out[j * P + l];
          }
        }
        i += P;
      }
      k += K;
    }
  }
};

// dst[p * ds + lane] = bias[lane] + sum_r a[r * as + p * ps] * b[r * bs + lane]
// for lanes below (V - 1) * L + last. bias may be null.
template <typename S, int P, int V>
void cover_tile(
    const S* a,
    int64_t as,
    int64_t ps,
    const S* b,
    int64_t bs,
    int64_t n,
    const acc_t<S>* bias,
    S* dst,
    int64_t ds,
    int last) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  Vec<A> c[P][V];
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) {
      c[p][v] = bias == nullptr ? Vec<A>{} : load(bias + v * L);
    }
  }
  for (int64_t r = 0; r < n; ++r) {
    A x[P];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      x[p] = static_cast<A>(a[r * as + p * ps]);
    }
    const S* row = b + r * bs;
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) {
      const Vec<A> y = V == 1 && last < L ? load_as_partial(row, last)
                                          : load_as(row + v * L);
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) {
        c[p][v] += x[p] * y;
      }
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) {
      if (V == 1 && last < L) {
        store_as_partial(dst + p * ds, c[p][v], last);
      } else {
        store_as(dst + p * ds + v * L, c[p][v]);
      }
    }
  }
}

// Rows of the result, and their elements in the order of a filter.
template <typename S>
struct CoverRows {
  int64_t rows, n, as, ps, bs, ds, lanes;

  // Neighbouring rows and as many vectors as registers hold, then single ones.
  template <int P>
  void tiles(
      const S* a,
      const S* b,
      int64_t width,
      const acc_t<S>* bias,
      S* dst) const {
    constexpr int L = kLanes<acc_t<S>>, V = kRegisters / 2 / P;
    int64_t i = 0;
    for (; i + V * L <= width; i += V * L) {
      cover_tile<S, P, V>(
          a,
          as,
          ps,
          b + i,
          bs,
          n,
          bias == nullptr ? nullptr : bias + i,
          dst + i,
          ds,
          L);
    }
    for (; i < width; i += L) {
      cover_tile<S, P, 1>(
          a,
          as,
          ps,
          b + i,
          bs,
          n,
          bias == nullptr ? nullptr : bias + i,
          dst + i,
          ds,
          static_cast<int>(std::min<int64_t>(L, width - i)));
    }
  }
  // Lanes first .. first + width of all rows.
  void operator()(
      const S* a,
      const S* b,
      int64_t first,
      int64_t width,
      const acc_t<S>* bias,
      S* dst) const {
    b += first;
    dst += first;
    bias = bias == nullptr ? nullptr : bias + first;
    for (int64_t row = 0; row < rows;) {
      const int P = patch_part(rows - row, 4);
      const S* from = a + row * ps;
      S* to = dst + row * ds;
      if (P == 4) {
        tiles<4>(from, b, width, bias, to);
      } else if (P == 2) {
        tiles<2>(from, b, width, bias, to);
      } else {
        tiles<1>(from, b, width, bias, to);
      }
      row += P;
    }
  }
};

// Lanes of a task: a piece of a filter that stays in L1 for many rows.
constexpr int64_t kCoverLanes = 512;

template <typename S>
void cover_grad(
    const ConvProblem& p,
    Pass pass,
    const PatchForm& form,
    const ConvTensors& t,
    void* workspace) {
  using A = acc_t<S>;
  const bool to_x = pass == Pass::input_grad;
  const int64_t k_group = p.out_group(), c = p.in_group();
  const CoverRows<S> job = to_x
      ? CoverRows<S>{p.batch, k_group, p.y.c, p.y.n, p.w.n, p.x.n, form.n}
      : CoverRows<S>{k_group, p.batch, p.y.n, p.y.c, p.x.n, p.w.n, form.n};
  A* bias = nullptr;
  if (to_x && t.bias != nullptr) {
    bias = static_cast<A*>(workspace);
    for (int64_t i = 0; i < p.groups * form.n; ++i) {
      const int64_t g = i / form.n, l = i % form.n;
      bias[i] = static_cast<A>(static_cast<const S*>(
          t.bias)[g * c + (form.inner ? l % c : l / p.taps())]);
    }
  }
  const Finish finish(p.dtype, t.epilogue, t.x);
  const int64_t pieces = (form.n + kCoverLanes - 1) / kCoverLanes;
  const int64_t tasks = p.groups * pieces;
  parallel_for(
      tasks,
      task_grain(tasks, conv_flops(p) / 2),
      [&](int64_t begin, int64_t end) {
        for (int64_t task = begin; task < end; ++task) {
          const int64_t g = task / pieces;
          const int64_t first = task % pieces * kCoverLanes;
          S* x = static_cast<S*>(t.x) + g * c * p.x.c;
          S* w = static_cast<S*>(t.w) + g * k_group * p.w.n;
          const S* y = static_cast<const S*>(t.y) + g * k_group * p.y.c;
          job(y,
              to_x ? w : x,
              first,
              std::min(kCoverLanes, form.n - first),
              bias == nullptr ? nullptr : bias + g * form.n,
              to_x ? x : w);
          if (to_x) {
            finish.block(
                x + first,
                p.batch,
                p.x.n,
                std::min(kCoverLanes, form.n - first),
                1);
          }
        }
      });
}

// Bytes of both; whole vectors of the last piece of bias may be read.
template <typename S>
int64_t patch_workspace(
    const ConvProblem& p,
    Pass pass,
    const PatchForm& form,
    int threads) {
  if (pass == Pass::forward) {
    return threads * PatchForward<LaneProducts<S>>(p, form).thread_bytes();
  }
  Scratch scratch(nullptr);
  scratch.take<acc_t<S>>(p.groups * form.n + kLanes<acc_t<S>>);
  return pass == Pass::input_grad ? scratch.used() : 0;
}

template <typename S>
void patch_run(
    const ConvProblem& p,
    Pass pass,
    const PatchForm& form,
    const ConvTensors& t,
    void* workspace) {
  if (pass != Pass::forward) {
    cover_grad<S>(p, pass, form, t, workspace);
    return;
  }
  PatchForward<LaneProducts<S>>(p, form)(
      static_cast<const S*>(t.x),
      static_cast<const S*>(t.w),
      static_cast<const S*>(t.bias),
      static_cast<S*>(t.y),
      Finish(p.dtype, t.epilogue, t.y),
      workspace);
}

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
