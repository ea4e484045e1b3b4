// Bringing operands into the form the tiles read, and tiles back into tensors.
// Read once per instruction set.
#include "cpu/conv_strip_pack.h"

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
  constexpr int64_t kAhead = 8;
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
          // A channel's weights are a page or more from the last one's.
          for (int l = 0; l < b.valid; l += 64 / static_cast<int>(sizeof(S))) {
            __builtin_prefetch(from + kAhead * v.w_red + lane[l].w);
          }
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
  // Where two phases lie side by side and pixels follow one another, rows of
  // the result: lanes are turned to them, the two phases in turn.
  bool paired = inside && pixel == 2 && b.valid % 2 == 0;
  for (int i = 0; i < b.valid && paired; i += 2) {
    paired = lane[i + 1].dst == lane[i].dst + 1;
  }
  if (paired) {
    for (int i = 0; i < b.valid; i += L) {
      const int lanes = std::min(L, b.valid - i);
      const Vec<A> add = bias == nullptr ? Vec<A>{} : load(bias + i);
      for (int p0 = 0; p0 < rows; p0 += L) {
        const int count = std::min(L, rows - p0);
        Vec<A> block[L];
#pragma GCC unroll 16
        for (int p = 0; p < L; ++p) {
          block[p] =
              p < count ? load(acc + (p0 + p) * width + i) + add : Vec<A>{};
        }
        transpose_block<A>(block);
#pragma GCC unroll 8
        for (int l = 0; l < L; l += 2) {
          if (l < lanes) {
            Vec<A> low, high;
            interleave<A>(block[l], block[l + 1], low, high);
            S* to = dst + lane[i + l].dst + 2 * p0;
            if (2 * count >= L) {
              store_as(to, low);
              store_as_partial(to + L, high, 2 * count - L);
            } else {
              store_as_partial(to, low, 2 * count);
            }
          }
        }
      }
    }
    return;
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

// A run in blocks: their sizes, at most `block`, and numbers. With several threads
// and few blocks, those of one dimension are made nearly equal, and as many for
// each thread: of seven for two threads one would take four.
inline void set_blocks(
    const GatherView& v,
    const AxisRun (&run)[3],
    int threads,
    int64_t (&block)[3],
    int64_t (&blocks)[3]) {
  for (int d = 0; d < 3; ++d) {
    blocks[d] = (run[d].count + block[d] - 1) / block[d];
  }
  const int64_t cells =
      v.p.batch * v.p.groups * blocks[0] * blocks[1] * blocks[2];
  if (threads == 1 || cells >= 8 * threads) {
    return;
  }
  const int d = blocks[1] > 1 ? 1 : 2;
  const int64_t others = blocks[d] == 0 ? 0 : cells / blocks[d];
  int64_t n = blocks[d];
  const int64_t most = std::min(2 * n, run[d].count);
  if (n <= 1) {
    return;
  }
  while (others * n > threads && others * n % threads != 0 && n < most) {
    ++n;
  }
  block[d] = (run[d].count + n - 1) / n;
  blocks[d] = (run[d].count + block[d] - 1) / block[d];
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
