// The three passes over strips (conv_depthwise_strip.h): strip by strip, copy
// in, multiply in tiles, hand out; read once per instruction set, after
// conv_depthwise_pack.h and conv_depthwise_tile.h.

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// Forward and input_grad of one type and lane order.
template <typename S, bool Channels>
class Correlation {
  using A = acc_t<S>;
  static constexpr int L = kLanes<A>;

 public:
  Correlation(
      const StripShape& shape,
      const StripTaps& taps,
      const ConvTensors& t,
      A* scratch)
      : s(shape),
        taps(taps),
        backward(s.pass == Pass::input_grad),
        source(static_cast<const S*>(backward ? t.y : t.x)),
        weight(static_cast<const S*>(t.w)),
        bias(static_cast<const S*>(t.bias)),
        dest(static_cast<S*>(backward ? t.x : t.y)),
        finish(s.p.dtype, t.epilogue, dest) {
    const StripScratch at = strip_scratch(s);
    strip = scratch + at.strip;
    packed = scratch + at.weight;
    biases = scratch + at.bias;
    out = scratch + at.out;
    row = scratch + at.row;
    padded = scratch + at.padded;
    staged_source = scratch + at.staged_source;
    staged_dest = scratch + at.staged_dest;
  }

  // Work items: blocks of one unit of one sample; all of them where they are
  // folded together.
  static int64_t items(const StripShape& s) {
    return s.p.batch * s.units * blocks(s);
  }

  void run(int64_t begin, int64_t end) {
    const int64_t per_unit = blocks(s);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t n = i / per_unit / s.units;
      enter(i / per_unit % s.units);
      const Strides& from = backward ? s.p.y : s.p.x;
      const S* src = source + n * from.n + first * s.source_group * from.c;
      const Strides& to = backward ? s.p.x : s.p.y;
      S* dst = dest + n * to.n + first * s.dest_group * to.c;
      if (!s.whole()) {
        const Block b = block_at(i % per_unit);
        compute(b, src, dst);
        if (finish) {
          int64_t start[3], size[3];
          for (int d = 0; d < 3; ++d) {
            start[d] = at(b, d, 0, 0);
            size[d] = b.count[d] * s.phases[d];
          }
          finish_region(start, size, to, dst);
        }
        continue;
      }
      if (s.staged_source) {
        stage_in(src, from, s.source.size, lanes, staged_source);
        run_whole(static_cast<const A*>(staged_source), dst);
      } else {
        run_whole(src, dst);
      }
      if (finish) {
        const int64_t start[3] = {};
        finish_region(start, backward ? s.p.in : s.p.out, to, dst);
      }
    }
  }

 private:
  static int64_t blocks(const StripShape& s) {
    return s.whole() ? 1 : s.blocks[0] * s.blocks[1] * s.blocks[2];
  }

  Block block_at(int64_t i) const {
    return strip_block(s, i);
  }

  // The current unit's results at the positions from start on that exist.
  void finish_region(
      const int64_t (&start)[3],
      const int64_t (&size)[3],
      const Strides& to,
      S* dst) const {
    const int64_t* all = backward ? s.p.in : s.p.out;
    int64_t first[3], n[3];
    for (int d = 0; d < 3; ++d) {
      first[d] = std::max<int64_t>(0, start[d]);
      n[d] = std::min(all[d], start[d] + size[d]) - first[d];
    }
    const int64_t channels = Channels ? lanes : groups * s.dest_group;
    for (int64_t i = 0; i < n[0]; ++i) {
      S* plane = dst + (first[0] + i) * to.s[0] + first[1] * to.s[1] +
          first[2] * to.s[2];
      if (to.c == 1 && channels > 1) {
        for (int64_t j = 0; j < n[1]; ++j) {
          finish.block(plane + j * to.s[1], n[2], to.s[2], channels, 1);
        }
      } else {
        for (int64_t c = 0; c < channels; ++c) {
          finish.block(plane + c * to.c, n[1], to.s[1], n[2], to.s[2]);
        }
      }
    }
  }

  // All the blocks of the current unit, and what follows them.
  template <typename X>
  void run_whole(const X* src, S* dst) {
    const Strides& to = backward ? s.p.x : s.p.y;
    for (int64_t b = 0; b < s.blocks[0] * s.blocks[1] * s.blocks[2]; ++b) {
      if (s.folds) {
        compute(block_at(b), src, padded);
      } else if (s.staged_dest) {
        compute(block_at(b), src, staged_dest);
      } else {
        compute(block_at(b), src, dst);
      }
    }
    if (s.folds && s.staged_dest) {
      Planes dense{{s.p.in[0], s.p.in[1], s.p.in[2]}, {}};
      make_dense(dense, L);
      fold(staged_dest, dense.stride);
    } else if (s.folds) {
      fold(dst, to);
    }
    if (s.staged_dest) {
      const ConvProblem& p = s.p;
      stage_out(staged_dest, to, backward ? p.in : p.out, lanes, dst);
    }
  }

  // Makes `unit` the current one: its weights and biases.
  void enter(int64_t u) {
    if (u == unit) {
      return;
    }
    unit = u;
    first = u * s.unit_groups;
    const int64_t here = std::min(s.unit_groups, s.p.groups - first);
    groups = Channels ? 1 : here;
    lanes = Channels ? static_cast<int>(here) : L;
    const Strides& ws = s.p.w;
    const S* w = weight + first * s.p.out_group() * ws.n;
    const int64_t total = static_cast<int64_t>(taps.weight.size());
    if constexpr (Channels) {
      for (int64_t i = 0; i < total; ++i) {
        for (int l = 0; l < L; ++l) {
          packed[i * L + l] =
              l < lanes ? static_cast<A>(w[l * ws.n + taps.weight[i]]) : A(0);
        }
      }
    } else if (!used_in_place()) {
      A* to = packed;
      for (int64_t g = 0; g < groups; ++g, w += s.p.out_group() * ws.n) {
        for (int64_t k = 0; k < s.dest_group;) {
          const int64_t wide = tile_channels(k);
          for (int64_t i = 0; i < total; ++i) {
            for (int64_t j = 0; j < wide; ++j) {
              *to++ = static_cast<A>(
                  w[(k + j) * (backward ? ws.c : ws.n) + taps.weight[i]]);
            }
          }
          k += wide;
        }
      }
    }
    const int64_t count = Channels ? L : groups * s.dest_group;
    const int64_t given = Channels ? lanes : count;
    for (int64_t k = 0; k < count; ++k) {
      biases[k] = bias != nullptr && k < given
          ? static_cast<A>(bias[first * s.dest_group + k])
          : A(0);
    }
  }

  // Channels of the next tile: 4, 2 or 1.
  int64_t tile_channels(int64_t k) const {
    const int64_t left = s.dest_group - k;
    return left >= 4 ? 4 : left >= 2 ? 2 : 1;
  }

  bool used_in_place() const {
    return std::is_same_v<S, A> && !Channels && s.dest_group == 1 && taps.dense;
  }
  const A* weights(int64_t g, int64_t k) const {
    if constexpr (std::is_same_v<S, A>) {
      if (used_in_place()) {
        return weight + (first + g) * s.p.out_group() * s.p.w.n;
      }
    }
    const int64_t total = static_cast<int64_t>(taps.weight.size());
    return packed + (g * s.dest_group + k) * total;
  }

  // One block of the current unit, to planes of the strides in s.dest.
  template <typename X, typename D>
  void compute(const Block& b, const X* src, D* dst) {
    if constexpr (Channels) {
      pack_channels(s, b, src, lanes, strip);
    } else {
      pack_positions(s, b, src, groups * s.source_group, strip);
    }
    const bool direct = std::is_same_v<D, A> && !s.flat &&
        (Channels || (s.dest_scale[2] == 1 && s.dest.stride.s[2] == 1));
    const A* planes = strip;
    if (turned()) {
      return compute_turned(b, dst);
    }
    for (int64_t g = 0; g < groups; ++g, planes += s.source_group * s.plane()) {
      for (int64_t k = 0; k < s.dest_group;) {
        const int64_t wide = tile_channels(k);
        D* to = dst + (g * s.dest_group + k) * s.dest.stride.c;
        for (int64_t p0 = 0; p0 < s.phases[0]; ++p0) {
          for (int64_t p1 = 0; p1 < s.phases[1]; ++p1) {
            const Valid z(s, b, 0, p0), y(s, b, 1, p1);
            for (int64_t p2 = 0; p2 < s.phases[2]; ++p2) {
              const int64_t phase = (p0 * s.phases[1] + p1) * s.phases[2] + p2;
              if (direct) {
                if constexpr (std::is_same_v<D, A>) {
                  phase_direct(b, planes, g, k, wide, phase, z, y, p2, to);
                }
              } else {
                phase_scratch(
                    b,
                    planes,
                    g,
                    k,
                    wide,
                    phase,
                    z,
                    y,
                    out + p2 * wide * s.out_size());
              }
            }
            if (!direct) {
              emit(b, wide, p0, p1, z, y, to);
            }
          }
        }
        k += wide;
      }
    }
  }

  // Whether results, with positions in the lanes, go where channels lie side
  // by side.
  bool turned() const {
    return !Channels && groups * s.dest_group > 1 && s.dest.stride.c == 1;
  }

  // All channels of the unit first, so that they can be written together.
  template <typename D>
  void compute_turned(const Block& b, D* dst) {
    const int64_t channels = groups * s.dest_group;
    const Strides& to = s.dest.stride;
    const int64_t phases = s.phases[0] * s.phases[1] * s.phases[2];
    for (int64_t phase = 0; phase < phases; ++phase) {
      const int64_t p0 = phase / (s.phases[1] * s.phases[2]);
      const int64_t p1 = phase / s.phases[2] % s.phases[1];
      const int64_t p2 = phase % s.phases[2];
      const Valid z(s, b, 0, p0), y(s, b, 1, p1), x(s, b, 2, p2);
      for (int64_t g = 0; g < groups; ++g) {
        for (int64_t k = 0; k < s.dest_group;) {
          const int64_t wide = tile_channels(k);
          phase_scratch(
              b,
              strip + g * s.source_group * s.plane(),
              g,
              k,
              wide,
              phase,
              z,
              y,
              out + (g * s.dest_group + k) * s.out_size());
          k += wide;
        }
      }
      for (int64_t i = z.begin; i < z.end; ++i) {
        for (int64_t j = y.begin; j < y.end; ++j) {
          const A* from = out + (i * s.out_rows() + j) * s.out_row() + x.begin;
          D* line = dst + at(b, 0, p0, i) * to.s[0] +
              at(b, 1, p1, j) * to.s[1] + at(b, 2, p2, x.begin) * to.s[2];
          turn_row(
              from, channels, x.end - x.begin, to.s[2] * s.dest_scale[2], line);
        }
      }
    }
  }

  // n results of each channel to pixels `step` apart.
  template <typename D>
  void turn_row(
      const A* from,
      int64_t channels,
      int64_t n,
      int64_t step,
      D* line) const {
    for_vectors<L>(n, [&](int64_t x, int count) {
      for (int64_t c = 0; c < channels; c += L) {
        const int wide = static_cast<int>(std::min<int64_t>(L, channels - c));
        turn(
            from + c * s.out_size() + x,
            s.out_size(),
            wide,
            count,
            [&](int i, Vec<A> v) {
              if (i < count) {
                store_lanes(line + (x + i) * step + c, v, wide);
              }
            });
      }
    });
  }

  TapTile<A> tile(int64_t g, int64_t k, int64_t wide, int64_t phase) const {
    const StripTaps::Phase& list = taps.phases[phase];
    TapTile<A> t;
    t.offset = taps.offset.data() + list.first;
    t.taps = list.count;
    t.run = taps.run;
    t.weight = weights(g, k) + list.first * (Channels ? L : wide);
    t.bias = s.folds ? zeros() : biases + (g * s.dest_group + k);
    t.src_row = s.extent[2] * s.unit();
    return t;
  }
  const A* zeros() const {
    static constexpr A none[L < 4 ? 4 : L] = {};
    return none;
  }

  void multiply(
      const TapTile<A>& t,
      int64_t wide,
      const A* src,
      A* to,
      int64_t ny,
      int64_t nv) const {
    if constexpr (!Channels) {
      if (wide == 4) {
        return tile_block<A, 4, false>(t, src, to, ny, nv);
      }
      if (wide == 2) {
        return tile_block<A, 2, false>(t, src, to, ny, nv);
      }
    }
    tile_block<A, 1, Channels>(t, src, to, ny, nv);
  }

  // Straight into dest.
  void phase_direct(
      const Block& b,
      const A* planes,
      int64_t g,
      int64_t k,
      int64_t wide,
      int64_t phase,
      const Valid& z,
      const Valid& y,
      int64_t p2,
      A* dst) const {
    const Valid x(s, b, 2, p2);
    const int64_t nx = x.end - x.begin;
    const Strides& to = s.dest.stride;
    TapTile<A> t = tile(g, k, wide, phase);
    t.out_row = to.s[1] * s.dest_scale[1];
    t.out_vector = Channels ? to.s[2] * s.dest_scale[2] : L;
    t.out_channel = to.c;
    t.lanes = Channels ? lanes : static_cast<int>((nx - 1) % L + 1);
    const int64_t p0 = phase / (s.phases[1] * s.phases[2]);
    const int64_t p1 = phase / s.phases[2] % s.phases[1];
    for (int64_t i = z.begin; i < z.end; ++i) {
      multiply(
          t,
          wide,
          planes +
              ((i * s.extent[1] + y.begin) * s.extent[2] + x.begin) * s.unit(),
          dst + at(b, 0, p0, i) * to.s[0] + at(b, 1, p1, y.begin) * to.s[1] +
              at(b, 2, p2, x.begin) * to.s[2],
          y.end - y.begin,
          Channels ? nx : ceil_div(nx, L));
    }
  }

  // The dest coordinate of position i of a block.
  int64_t at(const Block& b, int d, int64_t phase, int64_t i) const {
    return s.dest_at(d, phase) + (b.first[d] + i) * s.dest_scale[d];
  }

  // Into rows of scratch memory.
  void phase_scratch(
      const Block& b,
      const A* planes,
      int64_t g,
      int64_t k,
      int64_t wide,
      int64_t phase,
      const Valid& z,
      const Valid& y,
      A* to) const {
    TapTile<A> t = tile(g, k, wide, phase);
    t.out_row = s.out_row();
    t.out_vector = L;
    t.out_channel = s.out_size();
    t.lanes = L;
    if (z.begin == z.end || y.begin == y.end) {
      return;
    }
    if (s.flat) {
      const int64_t n =
          ((z.end - 1) * s.extent[1] + y.end - 1) * s.extent[2] + b.count[2];
      return multiply(t, wide, planes, to, 1, ceil_div(n, L));
    }
    for (int64_t i = z.begin; i < z.end; ++i) {
      multiply(
          t,
          wide,
          planes + (i * s.extent[1] + y.begin) * s.extent[2] * s.unit(),
          to + (i * s.out_rows() + y.begin) * s.out_row(),
          y.end - y.begin,
          Channels ? b.count[2] : ceil_div(b.count[2], L));
    }
  }

  // Rows of `out` to dest, the phases of the last dimension side by side.
  template <typename D>
  void emit(
      const Block& b,
      int64_t wide,
      int64_t p0,
      int64_t p1,
      const Valid& z,
      const Valid& y,
      D* dst) const {
    const Strides& to = s.dest.stride;
    for (int64_t k = 0; k < wide; ++k) {
      for (int64_t i = z.begin; i < z.end; ++i) {
        for (int64_t j = y.begin; j < y.end; ++j) {
          D* line = dst + k * to.c + at(b, 0, p0, i) * to.s[0] +
              at(b, 1, p1, j) * to.s[1];
          emit_row(
              b,
              out + k * s.out_size() + (i * s.out_rows() + j) * s.out_row(),
              wide * s.out_size(),
              line);
        }
      }
    }
  }

  template <typename D>
  void emit_row(const Block& b, const A* from, int64_t step, D* line) const {
    const int64_t phases = s.phases[2], to = s.dest.stride.s[2];
    if constexpr (Channels) {
      for (int64_t p2 = 0; p2 < phases; ++p2, from += step) {
        const Valid x(s, b, 2, p2);
        for (int64_t i = x.begin; i < x.end; ++i) {
          store_lanes(line + at(b, 2, p2, i) * to, load(from + i * L), lanes);
        }
      }
    } else {
      const int64_t n = b.count[2] * phases;
      if (phases > 1) {
        spread(from, step, b.count[2], phases, row);
        from = row;
      }
      const int64_t start = at(b, 2, 0, 0);
      const int64_t lo = std::max<int64_t>(0, -start);
      const int64_t hi = std::min(n, s.dest.size[2] - start);
      if (hi > lo) {
        narrow(from + lo, hi - lo, line + (start + lo) * to, to);
      }
    }
  }

  // Rows `step` apart, element by element in turns.
  static void spread(
      const A* from,
      int64_t step,
      int64_t n,
      int64_t rows,
      A* to) {
    if (rows == 2) {
      for (int64_t i = 0; i < n; i += L) { // rows are padded to full vectors
        const Vec<A> a = load(from + i), b = load(from + step + i);
        store(to + 2 * i, interleave<0, A>(a, b));
        store(to + 2 * i + L, interleave<1, A>(a, b));
      }
      return;
    }
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = 0; i < n; ++i) {
        to[i * rows + r] = from[r * step + i];
      }
    }
  }

  // Adds the padding of the padded planes to the elements it shows, dimension
  // by dimension, and writes what is inside.
  template <typename D>
  void fold(D* dst, const Strides& to) const {
    const ConvProblem& p = s.p;
    const int64_t u = s.unit();
    const int64_t* size = s.dest.size;
    const Strides& from = s.dest.stride;
    for (int64_t c = 0; c < groups * s.dest_group; ++c) {
      A* plane = padded + c * from.c;
      for (int d = 2; d >= 0; --d) {
        const int e = d == 0 ? 1 : 0, f = d == 2 ? 1 : 2; // the other two
        for (int64_t q = 0; q < size[d]; ++q) {
          const int64_t i = source_index(q - p.low[d], p.in[d], p.mode);
          if (i + p.low[d] == q) {
            continue;
          }
          for (int64_t a = 0; a < size[e]; ++a) {
            for (int64_t b = 0; b < size[f]; ++b) {
              A* x = plane + a * from.s[e] + b * from.s[f];
              for (int64_t l = 0; l < u; ++l) {
                x[(i + p.low[d]) * from.s[d] + l] += x[q * from.s[d] + l];
              }
            }
          }
        }
      }
      for (int64_t i = 0; i < p.in[0]; ++i) {
        for (int64_t j = 0; j < p.in[1]; ++j) {
          A* x = plane + (i + p.low[0]) * from.s[0] +
              (j + p.low[1]) * from.s[1] + p.low[2] * from.s[2];
          for (int64_t v = 0; v < p.in[2] * u; ++v) {
            x[v] += biases[Channels ? v % L : c];
          }
          D* line = dst + c * to.c + i * to.s[0] + j * to.s[1];
          if constexpr (Channels) {
            for (int64_t v = 0; v < p.in[2]; ++v) {
              store_lanes(line + v * to.s[2], load(x + v * L), lanes);
            }
          } else {
            narrow(x, p.in[2], line, to.s[2]);
          }
        }
      }
    }
  }

  const StripShape& s;
  const StripTaps& taps;
  const bool backward;
  const S* source;
  const S* weight;
  const S* bias;
  S* dest;
  const Finish finish;
  A *strip, *packed, *biases, *out, *row, *padded, *staged_source, *staged_dest;

  int64_t unit = -1, first = 0, groups = 0;
  int lanes = 0;
};

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
