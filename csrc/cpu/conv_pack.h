// Bringing operands into the form the tiles read, and tiles back into tensors.
// Read once per instruction set.

namespace torchconv {
namespace cpu {
namespace TC_ISA {

// Transposes an L x L block held in L vectors, by swapping ever larger halves.
// The shuffles' indices must be constants of the instruction stream, hence the
// sequences.
template <typename A, int Half, int... I>
inline void transpose_step(
    Vec<A> (&rows)[kLanes<A>],
    std::integer_sequence<int, I...>) {
  constexpr int L = kLanes<A>;
  using Index = std::conditional_t<sizeof(A) == 4, int32_t, int64_t>;
  const Vec<Index> low = {((I & Half) == 0 ? I : L + (I ^ Half))...};
  const Vec<Index> high = {((I & Half) == 0 ? (I ^ Half) : L + I)...};
#pragma GCC unroll 16
  for (int i = 0; i < L; ++i) {
    if ((i & Half) == 0) {
      const Vec<A> a = rows[i], b = rows[i | Half];
      rows[i] = __builtin_shuffle(a, b, low);
      rows[i | Half] = __builtin_shuffle(a, b, high);
    }
  }
}
template <typename A>
inline void transpose_block(Vec<A> (&rows)[kLanes<A>]) {
  constexpr std::make_integer_sequence<int, kLanes<A>> lanes;
  transpose_step<A, 1>(rows, lanes);
  if constexpr (kLanes<A> > 2) {
    transpose_step<A, 2>(rows, lanes);
  }
  if constexpr (kLanes<A> > 4) {
    transpose_step<A, 4>(rows, lanes);
  }
  if constexpr (kLanes<A> > 8) {
    transpose_step<A, 8>(rows, lanes);
  }
}

// The even lanes of two vectors.
template <typename A, int... I>
inline Vec<A> even_lanes(Vec<A> a, Vec<A> b, std::integer_sequence<int, I...>) {
  using Index = std::conditional_t<sizeof(A) == 4, int32_t, int64_t>;
  const Vec<Index> even = {(2 * I)...};
  return __builtin_shuffle(a, b, even);
}

template <typename S>
void pack_scattered(
    const S* src,
    int64_t lane_stride,
    const int64_t* off,
    int n,
    int valid,
    int width,
    acc_t<S>* out) {
  for (int lane = 0; lane < width; ++lane) {
    const S* from = src + lane * lane_stride;
    for (int i = 0; i < n; ++i) {
      out[i * width + lane] =
          lane < valid ? static_cast<acc_t<S>>(from[off[i]]) : acc_t<S>(0);
    }
  }
}

// out[r * width + lane] = src[lane * lane_stride + off[r]] for r < n; lanes
// from `valid` to `width` (a multiple of the vector) become zero.
template <typename S>
void pack_columns(
    const S* src,
    int64_t lane_stride,
    const int64_t* off,
    int64_t n,
    int valid,
    int width,
    acc_t<S>* out) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  if (lane_stride == 1) {
    for (int64_t r = 0; r < n; ++r) {
      const S* from = src + off[r];
      A* to = out + r * width;
      int lane = 0;
      for (; lane + L <= valid; lane += L) {
        store(to + lane, load_as(from + lane));
      }
      for (; lane < width; lane += L) {
        store(
            to + lane, load_as_partial(from + lane, std::max(0, valid - lane)));
      }
    }
    return;
  }
  // As many streams as there are lanes: more than the hardware follows.
  constexpr int64_t kAhead = 512 / sizeof(S);
  for (int64_t r0 = 0; r0 < n;) {
    // Offsets that rise or fall by one (the taps of a channel, forward or
    // flipped) make a run: it is loaded in vectors and transposed.
    int run = 1;
    const int64_t step = r0 + 1 < n ? off[r0 + 1] - off[r0] : 0;
    if (step == 1 || step == -1) {
      while (run < L && r0 + run < n && off[r0 + run] == off[r0] + run * step) {
        ++run;
      }
    }
    A* to = out + r0 * width;
    if (run < 4) {
      run = static_cast<int>(std::min<int64_t>(L, n - r0));
      pack_scattered(src, lane_stride, off + r0, run, valid, width, to);
      r0 += run;
      continue;
    }
    const S* from = src + std::min(off[r0], off[r0 + run - 1]);
    for (int lane = 0; lane < width; lane += L) {
      const int lanes = std::min(L, std::max(0, valid - lane));
      Vec<A> block[L];
      if (lanes == L && run == L) {
#pragma GCC unroll 16
        for (int i = 0; i < L; ++i) {
          const S* row = from + (lane + i) * lane_stride;
          __builtin_prefetch(row + kAhead);
          block[i] = load_as(row);
        }
      } else {
#pragma GCC unroll 16
        for (int i = 0; i < L; ++i) {
          block[i] = i < lanes
              ? load_as_partial(from + (lane + i) * lane_stride, run)
              : Vec<A>{};
        }
      }
      transpose_block<A>(block);
      const int64_t down = step > 0 ? width : -width;
      A* row = to + lane + (step > 0 ? 0 : (run - 1) * width);
#pragma GCC unroll 16
      for (int i = 0; i < L; ++i) {
        if (i < run) {
          store(row + i * down, block[i]);
        }
      }
    }
    r0 += run;
  }
}

// dst[lane * lane_stride + p * pixel_stride] = acc[p * row + lane] +
// bias[lane] for p < rows, lane < valid. bias may be null.
template <typename S>
void store_tile(
    const acc_t<S>* acc,
    int rows,
    int64_t row,
    int valid,
    const acc_t<S>* bias,
    S* dst,
    int64_t lane_stride,
    int64_t pixel_stride) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  for (int lane = 0; lane < valid; lane += L) {
    const int lanes = std::min(L, valid - lane);
    const Vec<A> add = bias != nullptr ? load(bias + lane) : Vec<A>{};
    if (lane_stride == 1) {
      for (int p = 0; p < rows; ++p) {
        const Vec<A> v = load(acc + p * row + lane) + add;
        S* to = dst + p * pixel_stride + lane;
        if (lanes == L) {
          store_as(to, v);
        } else {
          store_as_partial(to, v, lanes);
        }
      }
    } else if (pixel_stride == 1) {
      for (int p0 = 0; p0 < rows; p0 += L) {
        const int count = std::min(L, rows - p0);
        Vec<A> block[L];
#pragma GCC unroll 16
        for (int i = 0; i < L; ++i) {
          block[i] =
              i < count ? load(acc + (p0 + i) * row + lane) + add : Vec<A>{};
        }
        transpose_block<A>(block);
        S* to = dst + lane * lane_stride + p0;
#pragma GCC unroll 16
        for (int l = 0; l < L; ++l) {
          if (l < lanes) {
            if (count == L) {
              store_as(to + l * lane_stride, block[l]);
            } else {
              store_as_partial(to + l * lane_stride, block[l], count);
            }
          }
        }
      }
    } else {
      for (int l = 0; l < lanes; ++l) {
        for (int p = 0; p < rows; ++p) {
          dst[(lane + l) * lane_stride + p * pixel_stride] =
              S(acc[p * row + lane + l] + add[l]);
        }
      }
    }
  }
}

// How one dimension of a block of the source lies in a strip: the source
// coordinates that `count` positions and all taps read, each once (dense), or
// in one row of `count` for each tap where that is shorter (large dilation or
// stride). Position m and tap j find theirs in slot m * sa + tap(j).
struct StripAxis {
  int64_t count, taps, a, b, c;
  int64_t sa, sb, s0, slots;
  int64_t plane; // slots of a residue modulo a, of split_residues; else 0
  bool dense;

  // For positions first .. first + count of a run.
  StripAxis(const AxisRun& run, int64_t first, int64_t count)
      : count(count),
        taps(run.taps),
        a(run.a),
        b(run.b),
        c(run.c + first * run.a),
        plane(0) {
    if (taps == 0 || count == 0) {
      sa = sb = s0 = slots = 0;
      dense = true;
      return;
    }
    const int64_t reach = (taps - 1) * (b < 0 ? -b : b);
    slots = (count - 1) * a + reach + 1;
    dense = slots <= count * taps;
    sa = dense ? a : 1;
    sb = dense ? b : count;
    s0 = dense && b < 0 ? reach : 0;
    if (!dense) {
      slots = count * taps;
    }
  }

  // Neighbouring positions in neighbouring slots: dense where the step is 1,
  // else the source's coordinates by their residue modulo the step, or by taps
  // where those are fewer.
  void split_residues() {
    if (a == 1 || taps == 0 || count == 0) {
      return;
    }
    dense = false;
    sa = 1;
    sb = count;
    s0 = 0;
    slots = count * taps;
    const int64_t length = count + (taps - 1) * b / a;
    if (b >= 0 && a * length < slots) {
      plane = length;
      slots = a * length;
    }
  }
  int64_t tap(int64_t j) const {
    return plane > 0 ? j * b % a * plane + j * b / a : j * sb + s0;
  }

  int64_t source(int64_t slot) const {
    if (plane > 0) {
      // Slots that no tap reads show the last coordinate that one does.
      return std::min(
                 slot % plane * a + slot / plane,
                 (count - 1) * a + (taps - 1) * b) +
          c;
    }
    return dense ? slot - s0 + c : slot % count * a + slot / count * b + c;
  }
  // The range of source coordinates, for telling whether all lie inside.
  bool inside(int64_t size) const {
    const int64_t reach = taps > 0 ? (taps - 1) * b : 0;
    const int64_t low = c + std::min<int64_t>(0, reach);
    const int64_t high = c + (count - 1) * a + std::max<int64_t>(0, reach);
    return low >= 0 && high < size;
  }
};

// Where element (channel, slots) of a strip, or of the tensor itself where it
// serves as the strip, lies.
struct StripLayout {
  int64_t c, s[3];
};

// Strips keep the source's own order of channels and pixels, so that packing
// is copying.
inline StripLayout strip_layout(
    int64_t channels,
    bool channels_inner,
    const StripAxis (&axis)[3]) {
  StripLayout l;
  if (channels_inner) {
    l.c = 1;
    l.s[2] = channels;
    l.s[1] = l.s[2] * axis[2].slots;
    l.s[0] = l.s[1] * axis[1].slots;
  } else {
    l.s[2] = 1;
    l.s[1] = axis[2].slots;
    l.s[0] = l.s[1] * axis[1].slots;
    // An odd number of cache lines, so that channels do not share L1 sets.
    l.c = ((l.s[0] * axis[0].slots + 15) / 16 | 1) * 16;
  }
  return l;
}

inline int64_t strip_elements(
    int64_t channels,
    bool channels_inner,
    const StripAxis (&axis)[3]) {
  const int64_t pixels = axis[0].slots * axis[1].slots * axis[2].slots;
  return channels * (channels_inner ? pixels : (pixels / 16 + 2) * 16);
}

template <typename S>
inline void convert_row(const S* from, int64_t n, acc_t<S>* to) {
  constexpr int L = kLanes<acc_t<S>>;
  int64_t i = 0;
  for (; i + L <= n; i += L) {
    store(to + i, load_as(from + i));
  }
  if (i < n) {
    const int rest = static_cast<int>(n - i);
    store_partial(to + i, load_as_partial(from + i, rest), rest);
  }
}

template <typename A>
inline void zero_row(A* to, int64_t n) {
  constexpr int L = kLanes<A>;
  int64_t i = 0;
  for (; i + L <= n; i += L) {
    store(to + i, Vec<A>{});
  }
  if (i < n) {
    store_partial(to + i, Vec<A>{}, static_cast<int>(n - i));
  }
}

// to[i] = from[i * step] for i < n.
template <typename S>
inline void copy_strided(const S* from, int64_t step, int64_t n, acc_t<S>* to) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  int64_t i = 0;
  if (step == 2) {
    for (; i + L < n; i += L) { // the second load ends within the elements
      store(
          to + i,
          even_lanes<A>(
              load_as(from + 2 * i),
              load_as(from + 2 * i + L),
              std::make_integer_sequence<int, L>()));
    }
  }
  for (; i < n; ++i) {
    to[i] = static_cast<A>(from[i * step]);
  }
}

// One row of slots of one channel.
template <typename S>
inline void pack_row(
    const S* src,
    int64_t stride,
    int64_t size,
    PaddingMode mode,
    const StripAxis& axis,
    acc_t<S>* to) {
  using A = acc_t<S>;
  int64_t slot = 0;
  if (axis.dense) {
    const int64_t start = axis.source(0);
    const auto edge = [&](int64_t end) {
      for (; slot < end; ++slot) {
        const int64_t i = source_index(start + slot, size, mode);
        to[slot] = i < 0 ? acc_t<S>(0) : static_cast<acc_t<S>>(src[i * stride]);
      }
    };
    const int64_t slots = axis.slots;
    edge(std::min(slots, std::max<int64_t>(0, -start)));
    const int64_t end = std::min(slots, size - start);
    if (slot < end) {
      const S* from = src + (start + slot) * stride;
      if (stride == 1) {
        convert_row(from, end - slot, to + slot);
      } else {
        for (int64_t i = slot; i < end; ++i) {
          to[i] = static_cast<acc_t<S>>(from[(i - slot) * stride]);
        }
      }
      slot = end;
    }
    edge(slots);
    return;
  }
  if (axis.plane > 0) {
    // What lies inside is copied by vectors where every second element is
    // wanted; the borders one by one.
    for (int64_t r = 0; r < axis.a; ++r) {
      const int64_t start = axis.c + r;
      const int64_t first =
          std::min(axis.plane, start < 0 ? (axis.a - 1 - start) / axis.a : 0);
      const int64_t last = std::max(
          first, std::min(axis.plane, (size - start + axis.a - 1) / axis.a));
      A* row = to + r * axis.plane;
      const auto edge = [&](int64_t q, int64_t end) {
        for (; q < end; ++q) {
          const int64_t i =
              source_index(axis.source(r * axis.plane + q), size, mode);
          row[q] = i < 0 ? A(0) : static_cast<A>(src[i * stride]);
        }
      };
      edge(0, first);
      copy_strided(
          src + (start + first * axis.a) * stride,
          axis.a * stride,
          last - first,
          row + first);
      edge(last, axis.plane);
    }
    return;
  }
  for (int64_t j = 0; j < axis.taps; ++j) {
    for (int64_t m = 0; m < axis.count; ++m, ++slot) {
      const int64_t i =
          source_index(m * axis.a + j * axis.b + axis.c, size, mode);
      to[slot] = i < 0 ? acc_t<S>(0) : static_cast<acc_t<S>>(src[i * stride]);
    }
  }
}

// Copies what the axes name of `channels` channels into a strip.
template <typename S>
void pack_strip(
    const S* src,
    const Strides& stride,
    const int64_t (&size)[3],
    PaddingMode mode,
    int64_t channels,
    bool channels_inner,
    const StripAxis (&axis)[3],
    const StripLayout& layout,
    acc_t<S>* strip) {
  using A = acc_t<S>;
  if (!channels_inner) {
    // Channel by channel, so that what is read and written stays in L1.
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t d = 0; d < axis[0].slots; ++d) {
        const int64_t sd = source_index(axis[0].source(d), size[0], mode);
        for (int64_t h = 0; h < axis[1].slots; ++h) {
          const int64_t sh = source_index(axis[1].source(h), size[1], mode);
          A* to = strip + c * layout.c + d * layout.s[0] + h * layout.s[1];
          if (sd < 0 || sh < 0) {
            zero_row(to, axis[2].slots);
          } else {
            pack_row(
                src + c * stride.c + sd * stride.s[0] + sh * stride.s[1],
                stride.s[2],
                size[2],
                mode,
                axis[2],
                to);
          }
        }
      }
    }
    return;
  }
  for (int64_t d = 0; d < axis[0].slots; ++d) {
    const int64_t sd = source_index(axis[0].source(d), size[0], mode);
    for (int64_t h = 0; h < axis[1].slots; ++h) {
      const int64_t sh = source_index(axis[1].source(h), size[1], mode);
      const int64_t slots = axis[2].slots;
      A* to = strip + d * layout.s[0] + h * layout.s[1];
      if (sd < 0 || sh < 0) {
        std::fill_n(to, slots * channels, A(0));
        continue;
      }
      const S* row = src + sd * stride.s[0] + sh * stride.s[1];
      int64_t w = 0;
      const auto pixels = [&](int64_t end) {
        for (; w < end; ++w) {
          const int64_t sw = source_index(axis[2].source(w), size[2], mode);
          if (sw < 0) {
            std::fill_n(to + w * channels, channels, A(0));
          } else {
            convert_row(row + sw * stride.s[2], channels, to + w * channels);
          }
        }
      };
      if (axis[2].dense && stride.s[2] == channels) {
        // Pixels without gaps: all that lie inside are one row.
        const int64_t start = axis[2].source(0);
        const int64_t first = std::min(slots, std::max<int64_t>(0, -start));
        const int64_t last = std::max(first, std::min(slots, size[2] - start));
        pixels(first);
        convert_row(
            row + (start + first) * channels,
            (last - first) * channels,
            to + first * channels);
        w = last;
      }
      pixels(slots);
    }
  }
}

// Visits the reduction of a gather in order: channels outside, taps inside, or
// (inner) the other way round, as the source's own layout has it.
template <typename F>
void each_reduction(
    int64_t channels,
    const AxisRun (&run)[3],
    bool inner,
    F f) {
  for (int64_t c = 0; c < (inner ? 1 : channels); ++c) {
    for (int64_t j0 = 0; j0 < run[0].taps; ++j0) {
      for (int64_t j1 = 0; j1 < run[1].taps; ++j1) {
        for (int64_t j2 = 0; j2 < run[2].taps; ++j2) {
          if (inner) {
            for (int64_t k = 0; k < channels; ++k) {
              f(k, j0, j1, j2);
            }
          } else {
            f(c, j0, j1, j2);
          }
        }
      }
    }
  }
}

// Where in a group's weights the operand of each step of the reduction lies.
inline void weight_offsets(
    const GatherView& v,
    const AxisRun (&run)[3],
    bool inner,
    int64_t* off) {
  each_reduction(
      v.red, run, inner, [&](int64_t c, int64_t j0, int64_t j1, int64_t j2) {
        *off++ = c * v.w_red + (run[0].t0 + j0 * run[0].tstep) * v.w_tap[0] +
            (run[1].t0 + j1 * run[1].tstep) * v.w_tap[1] +
            (run[2].t0 + j2 * run[2].tstep) * v.w_tap[2];
      });
}

// Whether tap j of a lane of a folded view lies in the kernel: where that is no
// multiple of the stride, some phases have fewer taps than others.
inline bool tap_exists(
    const GatherView& v,
    const AxisRun (&run)[3],
    const FoldedLane& lane,
    const int64_t (&j)[3]) {
  bool inside = true;
  for (int d = 0; d < 3; ++d) {
    inside = inside &&
        lane.phase[d] + run[d].t0 + j[d] * run[d].tstep < v.p.kernel[d];
  }
  return inside;
}

// Two vectors to one of twice the length, in turn.
template <typename A, int... I>
inline void interleave_lanes(
    Vec<A> a,
    Vec<A> b,
    Vec<A>& low,
    Vec<A>& high,
    std::integer_sequence<int, I...>) {
  constexpr int L = kLanes<A>;
  using Index = std::conditional_t<sizeof(A) == 4, int32_t, int64_t>;
  const Vec<Index> first = {(I / 2 + (I % 2) * L)...};
  const Vec<Index> second = {(L / 2 + I / 2 + (I % 2) * L)...};
  low = __builtin_shuffle(a, b, first);
  high = __builtin_shuffle(a, b, second);
}
template <typename A>
inline void interleave(Vec<A> a, Vec<A> b, Vec<A>& low, Vec<A>& high) {
  interleave_lanes<A>(
      a, b, low, high, std::make_integer_sequence<int, kLanes<A>>());
}

// The same for a folded view: the taps of a lane start at its phase, and where
// the kernel is no multiple of the stride some end before those of others.
template <typename S>
void pack_folded(
    const GatherView& v,
    const S* w,
    const AxisRun (&run)[3],
    bool inner,
    const ColumnBlock& b,
    acc_t<S>* panel) {
  using A = acc_t<S>;
  const FoldedLane* lane = v.folded.data() + b.first;
  const int width = b.vectors * kLanes<A>;
  bool ragged = false, gapless = true;
  for (int d = 0; d < 3; ++d) {
    ragged = ragged || (v.fold[d] > 1 && v.p.kernel[d] % v.fold[d] != 0);
  }
  for (int i = 1; i < b.valid; ++i) {
    gapless = gapless && lane[i].w == lane[0].w + i;
  }
  each_reduction(
      v.red, run, inner, [&](int64_t c, int64_t j0, int64_t j1, int64_t j2) {
        const int64_t j[3] = {j0, j1, j2};
        const S* from = w + c * v.w_red;
        for (int d = 0; d < 3; ++d) {
          from += (run[d].t0 + j[d] * run[d].tstep) * v.w_tap[d];
        }
        int i = 0;
        if (gapless && !ragged) {
          convert_row(from + lane[0].w, b.valid, panel);
          i = b.valid;
        }
        for (; i < b.valid; ++i) {
          panel[i] = !ragged || tap_exists(v, run, lane[i], j)
              ? static_cast<A>(from[lane[i].w])
              : A(0);
        }
        std::fill(panel + i, panel + width, A(0));
        panel += width;
      });
}

// Tiles of a folded view to their places: at is the position of the first
// pixel's phase 0, dst its place, and pixels follow in steps along the last
// dimension. Lanes whose places follow one another are stored together.
template <typename S>
void store_folded(
    const GatherView& v,
    const acc_t<S>* acc,
    int rows,
    int width,
    const ColumnBlock& b,
    const acc_t<S>* bias,
    const int64_t (&at)[3],
    int64_t step,
    S* dst) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  const FoldedLane* lane = v.folded.data() + b.first;
  const int64_t pixel = step * v.dst.s[2];
  bool inside = at[2] >= 0 && at[2] + rows * step <= v.p.in[2];
  for (int d = 0; d < 2; ++d) {
    inside = inside && at[d] >= 0 && at[d] + v.fold[d] <= v.p.in[d];
  }
  for (int i = 0; i < b.valid;) {
    int end = i + 1;
    while (inside && end < b.valid && lane[end].dst == lane[i].dst + end - i) {
      ++end;
    }
    const int count = end - i;
    S* to = dst + lane[i].dst;
    const A* from = acc + i;
    if (!inside) {
      const int64_t* phase = lane[i].phase;
      bool in_row = true;
      for (int d = 0; d < 2; ++d) {
        const int64_t q = at[d] + phase[d];
        in_row = in_row && q >= 0 && q < v.p.in[d];
      }
      for (int p = 0; in_row && p < rows; ++p) {
        const int64_t q = at[2] + p * step + phase[2];
        if (q >= 0 && q < v.p.in[2]) {
          to[p * pixel] =
              S(from[p * width] + (bias == nullptr ? A(0) : bias[i]));
        }
      }
    } else if (count == 2 && sizeof(S) == sizeof(A)) {
      const A add0 = bias == nullptr ? A(0) : bias[i];
      const A add1 = bias == nullptr ? A(0) : bias[i + 1];
      for (int p = 0; p < rows; ++p) {
        to[p * pixel] = S(from[p * width] + add0);
        to[p * pixel + 1] = S(from[p * width + 1] + add1);
      }
    } else {
      for (int k = 0; k < count; k += L) {
        const int lanes = std::min(L, count - k);
        const Vec<A> add =
            bias == nullptr ? Vec<A>{} : load_partial(bias + i + k, lanes);
        for (int p = 0; p < rows; ++p) {
          store_as_partial(
              to + p * pixel + k,
              load_partial(from + p * width + k, lanes) + add,
              lanes);
        }
      }
    }
    i = end;
  }
}

// The weights of one block of columns, as the tiles read them.
template <typename S>
void pack_panel(
    const GatherView& v,
    const S* w,
    const AxisRun (&run)[3],
    bool inner,
    int64_t group,
    const ColumnBlock& b,
    int64_t n,
    const int64_t* w_off,
    acc_t<S>* panel) {
  if (!v.folded.empty()) {
    pack_folded(v, w + group * v.w_group, run, inner, b, panel);
    return;
  }
  pack_columns(
      w + group * v.w_group + b.first * v.w_lane,
      v.w_lane,
      w_off,
      n,
      b.valid,
      b.vectors * kLanes<acc_t<S>>,
      panel);
}

// All weights: the panel of group g and block b starts at
// (g * cut.vectors * L + b.first) * n.
template <typename S>
void pack_all_panels(
    const GatherView& v,
    const S* w,
    const AxisRun (&run)[3],
    bool inner,
    const ColumnCut<acc_t<S>>& cut,
    int64_t n,
    const int64_t* w_off,
    acc_t<S>* panels) {
  const int64_t lanes = cut.vectors * kLanes<acc_t<S>>;
  const int64_t panel = n * cut.wide * kLanes<acc_t<S>>;
  parallel_for(
      v.p.groups * cut.blocks,
      std::max<int64_t>(1, 65536 / std::max<int64_t>(1, panel)),
      [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t g = i / cut.blocks;
          const ColumnBlock b = cut.block(i % cut.blocks);
          pack_panel<S>(
              v,
              w,
              run,
              inner,
              g,
              b,
              n,
              w_off,
              panels + (g * lanes + b.first) * n);
        }
      });
}

// Tasks for one thread at least, when all of them are `work` multiply-adds: a
// thread is worth waking for some 20 microseconds.
inline int64_t task_grain(int64_t tasks, double work) {
  const double least = 5e5 * tasks / (work + 1);
  return static_cast<int64_t>(
      std::max(1.0, std::min(static_cast<double>(tasks), least)));
}

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
