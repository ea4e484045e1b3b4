// Winograd's tiles: where they lie, and how a tile's sources become its values at
// the points. Read once per instruction set.

namespace torchconv {
namespace cpu {
namespace TC_ISA {

// A piece of a kernel along one dimension: up to three taps that are neighbours
// in the source, or the single tap of a dimension without tiles.
struct WinogradPiece {
  int64_t taps;
  int64_t first; // tap of the run
  int64_t source; // what place 0 of the tile of output 0 reads
};

// One dimension of a run as tiles.
//
// A strided run sees, in tap j, every stride-th source: taps of the same residue
// modulo the stride are a filter of stride 1 over a phase of the source. Phases
// are pieces like those into which a long filter falls. Pieces of more taps come
// first, so that the first has all points that any has.
struct WinogradAxis {
  bool tiled; // in tiles of 4 outputs and pieces of 3 taps, or one by one
  int64_t count, tiles;
  int64_t taps; // of the longest piece
  int64_t step; // source = output * step + place * pitch + piece.source
  int64_t pitch;
  int64_t dilation; // outputs of a tile lie so far apart
  int64_t t0, tstep, next; // tap i of a piece: t0 + (first + i next) tstep
  std::vector<WinogradPiece> pieces;

  WinogradAxis() = default;
  WinogradAxis(const AxisRun& r, bool tiled)
      : tiled(tiled),
        count(r.count),
        tiles(r.count),
        taps(1),
        step(r.a),
        pitch(r.b),
        dilation(1),
        t0(r.t0),
        tstep(r.tstep),
        next(1) {
    if (!tiled) {
      for (int64_t j = 0; j < r.taps; ++j) {
        pieces.push_back({1, j, r.c + j * r.b});
      }
      return;
    }
    int64_t apart = r.b, start = r.c; // tap j reads start + j * apart
    if (apart < 0) { // tiles read in rising order
      start += (r.taps - 1) * apart;
      t0 += (r.taps - 1) * tstep;
      tstep = -tstep;
      apart = -apart;
    }
    next = step; // 1, or a stride, where taps are neighbours (refusal)
    pitch = next * apart;
    dilation = pitch / step;
    const int64_t group = kWinogradOutputs * dilation;
    tiles = (count + group - 1) / group * dilation;
    taps = 0;
    for (int64_t phase = 0; phase < std::min(next, r.taps); ++phase) {
      const int64_t all = (r.taps - phase + next - 1) / next;
      const int64_t parts = (all + kWinogradTaps - 1) / kWinogradTaps;
      for (int64_t i = 0; i < parts; ++i) {
        const int64_t begin = all * i / parts, end = all * (i + 1) / parts;
        const int64_t first = phase + begin * next;
        const int64_t place = winograd::first_point(end - begin);
        pieces.push_back(
            {end - begin, first, start + first * apart - place * pitch});
        taps = std::max(taps, end - begin);
      }
    }
    std::stable_sort(
        pieces.begin(), pieces.end(), [](const auto& a, const auto& b) {
          return a.taps > b.taps;
        });
  }
  // The first output of tile i. Outputs of a tile lie `dilation` apart, so that
  // they share their sources; tiles between them are neighbours in the order.
  int64_t output(int64_t i) const {
    return tiled ? i / dilation * kWinogradOutputs * dilation + i % dilation
                 : i;
  }
  int64_t first_point() const {
    return tiled ? winograd::first_point(taps) : 0;
  }
  int64_t points() const {
    return tiled ? winograd::point_count(taps) : 1;
  }
  int64_t tap(const WinogradPiece& piece) const {
    return t0 + piece.first * tstep;
  }
};

// Tiles that are neighbours in a row.
struct WinogradSegment {
  int64_t sample, depth, row; // row: the first output row
  int64_t tile; // the first tile, counted in the row
  int64_t count;
  int64_t at; // of the first tile, counted in the block
};

// A choice of a piece in each dimension.
struct WinogradFilter {
  WinogradPiece piece[3];
  // What with_taps() takes.
  int64_t down, across;
  uint64_t points; // those of the grid that it has, a bit each
};

// The positions of a run, cut into tiles of 4 x 4 outputs or, where the kernel is
// flat, of 1 x 4. Tiles are numbered in the order of samples, depths, rows,
// columns.
struct WinogradGrid {
  WinogradAxis axis[3];
  bool tall;
  int64_t down, across; // taps of the longest piece, for with_taps()
  int points; // that any piece has
  int64_t
      pieces; // of the kernel: its depth times the pieces of both dimensions
  int64_t unit; // tiles that stay together
  int64_t segment; // tiles of a segment, at most
  int64_t tiles; // of all samples

  WinogradGrid(
      const AxisRun& r0,
      const AxisRun& r1,
      const AxisRun& r2,
      int64_t batch)
      : tall(r1.taps > 1) {
    axis[0] = WinogradAxis(r0, false);
    axis[1] = WinogradAxis(r1, tall);
    axis[2] = WinogradAxis(r2, true);
    down = tall ? axis[1].taps : 0;
    across = axis[2].taps;
    points = static_cast<int>(axis[1].points() * axis[2].points());
    pieces = 1;
    for (const WinogradAxis& a : axis) {
      pieces *= static_cast<int64_t>(a.pieces.size());
    }
    unit = axis[2].dilation;
    segment = std::max<int64_t>(1, (tall ? 16 : 64) / unit) * unit;
    tiles = batch * axis[0].tiles * axis[1].tiles * axis[2].tiles;
  }

  // Piece i of the kernel.
  WinogradFilter filter(int64_t i) const {
    WinogradFilter f;
    for (int d = 2; d >= 0; --d) {
      const int64_t n = static_cast<int64_t>(axis[d].pieces.size());
      f.piece[d] = axis[d].pieces[i % n];
      i /= n;
    }
    f.down = tall ? f.piece[1].taps : 0;
    f.across = f.piece[2].taps;
    f.points = 0;
    const int64_t high = tall ? winograd::point_count(f.down) : 1;
    for (int64_t y = 0; y < high; ++y) {
      for (int64_t x = 0; x < winograd::point_count(f.across); ++x) {
        f.points |= uint64_t{1}
            << (first_point(f.down, f.across) + y * axis[2].points() + x);
      }
    }
    return f;
  }
  // The first point of such a filter, counted among those of the grid, and the
  // points from the end of one of its rows to its next.
  int64_t first_point(int64_t down, int64_t across) const {
    const int64_t y =
        tall ? winograd::first_point(down) - axis[1].first_point() : 0;
    const int64_t x = winograd::first_point(across) - axis[2].first_point();
    return y * axis[2].points() + x;
  }
  int64_t gap(int64_t across) const {
    return axis[2].points() - winograd::point_count(across);
  }
  // The points of such a filter, for results of `both`, when the points of the
  // grid begin at `to` and lie `stride` apart.
  template <int Down, int Across, typename A>
  winograd::Points<A, winograd::point_count(Across)> to_points(
      A* to,
      int64_t stride) const {
    return {
        to + first_point(Down, Across) * stride, stride, gap(Across) * stride};
  }
  // Where point (row, column) of the six by six, or one by six, lies among those
  // of the grid.
  int64_t point(int64_t row, int64_t column) const {
    return (row - axis[1].first_point()) * axis[2].points() + column -
        axis[2].first_point();
  }
  // The coordinates of the source that place 0 of a segment's first tile reads.
  void corner(
      const WinogradSegment& s,
      const WinogradFilter& f,
      int64_t (&at)[3]) const {
    const int64_t output[3] = {s.depth, s.row, axis[2].output(s.tile)};
    for (int d = 0; d < 3; ++d) {
      at[d] = output[d] * axis[d].step + f.piece[d].source;
    }
  }
  // The place of tile i of a segment among its columns.
  int64_t column(int64_t i) const {
    return i / unit * kWinogradOutputs * unit + i % unit;
  }
  // Vectors of a staged segment: its sources are more than its outputs.
  int64_t stage() const {
    return (tall ? 6 : 1) * (kWinogradOutputs * segment + 2 * unit);
  }

  template <typename F>
  void each_segment(int64_t first, int64_t count, F f) const {
    for (int64_t at = 0; at < count;) {
      int64_t rest = first + at;
      WinogradSegment s;
      s.at = at;
      s.tile = rest % axis[2].tiles;
      rest /= axis[2].tiles;
      s.row = axis[1].output(rest % axis[1].tiles);
      rest /= axis[1].tiles;
      s.depth = rest % axis[0].tiles;
      s.sample = rest / axis[0].tiles;
      s.count = std::min({segment, axis[2].tiles - s.tile, count - at});
      f(s);
      at += s.count;
    }
  }
};

// One row of a tensor, for some channels.
template <typename S>
struct WinogradRow {
  const S* at; // null: all of it is padding
  int64_t size, stride, channel;
  int channels;
  PaddingMode mode;

  // Positions x0, x0 + step, ... as vectors of channels.
  void stage(int64_t x0, int64_t step, int64_t count, acc_t<S>* out) const {
    using A = acc_t<S>;
    constexpr int L = kLanes<A>;
    if (at == nullptr) {
      std::fill_n(out, count * L, A(0));
      return;
    }
    const auto single = [&](int64_t i) {
      const int64_t s = source_index(x0 + i * step, size, mode);
      Vec<A> lanes{};
      if (s >= 0) {
        if (channel == 1) {
          lanes = load_as_partial(at + s * stride, channels);
        } else {
          for (int c = 0; c < channels; ++c) {
            lanes[c] = at[s * stride + c * channel];
          }
        }
      }
      store(out + i * L, lanes);
    };
    int64_t i = 0;
    if (channel != 1 && stride == 1 && step <= 2) {
      for (; i < count && x0 + i * step < 0; ++i) {
        single(i);
      }
      const int64_t inside = std::min(count, (size - x0 + step - 1) / step);
      for (int64_t j = i; j < inside; j += L) {
        const int n = static_cast<int>(std::min<int64_t>(L, inside - j));
        const S* from = at + x0 + j * step;
        step == 1 ? turn<1>(from, n, out + j * L)
                  : turn<2>(from, n, out + j * L);
      }
      i = std::max(i, inside);
    }
    for (; i < count; ++i) {
      single(i);
    }
  }

  // Up to L positions, neighbours or every second one, turned to channel order.
  template <int Step>
  void turn(const S* from, int n, acc_t<S>* out) const {
    using A = acc_t<S>;
    constexpr int L = kLanes<A>;
    const int reach = Step * (n - 1) + 1; // elements from the first to the last
    const auto some = [&](const S* p, int count) {
      return count >= L ? load_as(p) : load_as_partial(p, std::max(count, 0));
    };
    Vec<A> square[L];
#pragma GCC unroll 16
    for (int c = 0; c < L; ++c) {
      const S* p = from + c * channel;
      if (c >= channels) {
        square[c] = Vec<A>{};
      } else if constexpr (Step == 1) {
        square[c] = some(p, reach);
      } else {
        square[c] = every_other<0, A>(some(p, reach), some(p + L, reach - L));
      }
    }
    transpose_block<A>(square);
#pragma GCC unroll 16
    for (int p = 0; p < L; ++p) {
      if (p < n) {
        store(out + p * L, square[p]);
      }
    }
  }
};

// A tile whose rows and columns lie `row` and `pixel` apart, transformed. from:
// the first place that is read. channels: of each vector, that may be read.
template <typename Down, typename Across, typename A, typename P>
inline void winograd_tile(
    const A* from,
    int64_t row,
    int64_t pixel,
    int channels,
    P points) {
  const auto at = [&](int r, int x) {
    return from + (r - Down::first) * row + (x - Across::first) * pixel;
  };
  if (channels == kLanes<A>) {
    winograd::both<Down, Across, Vec<A>>(
        [&](int r, int x) { return load(at(r, x)); }, points);
  } else {
    winograd::both<Down, Across, Vec<A>>(
        [&](int r, int x) { return load_partial(at(r, x), channels); }, points);
  }
}

// The same at a border: rows that lie outside are null, columns outside hold no
// channels.
template <typename Down, typename Across, typename A, typename P>
inline void winograd_border_tile(
    const A* const (&rows)[Down::from],
    const int64_t (&place)[Across::from],
    const int (&channels)[Across::from],
    P points) {
  winograd::both<Down, Across, Vec<A>>(
      [&](int r, int x) {
        return rows[r] == nullptr
            ? Vec<A>{}
            : load_partial(rows[r] + place[x], channels[x]);
      },
      points);
}

// All tiles of a segment of one tensor and up to L of its channels, by
// winograd::Source (sources, which a padding mode may show) or
// winograd::Gradients (those of outputs).
template <template <int> class T, typename S>
struct WinogradTransform {
  using A = acc_t<S>;
  static constexpr int L = kLanes<A>;

  const WinogradGrid& grid;
  const Strides& strides;
  const int64_t (&size)[3];
  PaddingMode mode;
  int64_t step[2], pitch[2]; // rows and columns, from tile to tile and in one
  bool in_place; // channels lie side by side and need no conversion

  WinogradTransform(
      const WinogradGrid& grid,
      const Strides& strides,
      const int64_t (&size)[3],
      PaddingMode mode,
      bool outputs) // which the grid counts, or sources
      : grid(grid),
        strides(strides),
        size(size),
        mode(mode),
        in_place(std::is_same_v<S, A> && strides.c == 1) {
    for (int i = 0; i < 2; ++i) {
      const WinogradAxis& axis = grid.axis[i + 1];
      step[i] = outputs ? 1 : axis.step;
      pitch[i] = outputs ? axis.dilation : axis.pitch;
    }
  }

  // corner: coordinates of place 0 of the segment's first tile. Tile i goes to
  // `to` + i * tile, the points of the grid `stride` apart.
  void operator()(
      const S* tensor, // at the first channel
      const WinogradSegment& s,
      const int64_t (&corner)[3],
      int64_t down,
      int64_t across,
      int channels,
      A* to,
      int64_t tile,
      int64_t stride,
      A* stage) const {
    winograd::with_taps(down, across, [&](auto d, auto a) {
      transform<d(), a()>(tensor, s, corner, channels, to, tile, stride, stage);
    });
  }

  template <int DownTaps, int AcrossTaps>
  void transform(
      const S* tensor,
      const WinogradSegment& s,
      const int64_t (&corner)[3],
      int channels,
      A* to,
      int64_t tile,
      int64_t stride,
      A* stage) const {
    using Down = winograd::Along<T, DownTaps>;
    using Across = winograd::Along<T, AcrossTaps>;
    const auto points = [&](int64_t i) {
      return grid.template to_points<DownTaps, AcrossTaps>(
          to + i * tile, stride);
    };
    const int64_t dx = grid.unit;
    const int64_t z = source_index(corner[0], size[0], mode);
    WinogradRow<S> rows[Down::from];
    bool inside = z >= 0;
    for (int r = Down::first; r < Down::end; ++r) {
      const int64_t at = corner[1] + r * pitch[0];
      const int64_t y = source_index(at, size[1], mode);
      rows[r] = {
          z < 0 || y < 0 ? nullptr
                         : tensor + s.sample * strides.n + z * strides.s[0] +
                  y * strides.s[1],
          size[2],
          strides.s[2],
          strides.c,
          channels,
          mode};
      inside = inside && at >= 0 && at < size[1];
    }
    constexpr int first = Across::first, places = Across::end - first;
    const int64_t left = corner[2] + first * pitch[1]; // of what is read
    if (!in_place) {
      const int64_t slots = kWinogradOutputs * s.count + (places - 4) * dx;
      for (int r = Down::first; r < Down::end; ++r) {
        rows[r].stage(
            left, step[1], slots, stage + (r - Down::first) * slots * L);
      }
      for (int64_t i = 0; i < s.count; ++i) {
        winograd_tile<Down, Across>(
            stage + grid.column(i) * L, slots * L, dx * L, L, points(i));
      }
      return;
    }
    for (int64_t i = 0; i < s.count; ++i) {
      const int64_t x = left + grid.column(i) * step[1];
      if constexpr (std::is_same_v<S, A>) {
        if (inside && x >= 0 && x + (places - 1) * pitch[1] < size[2]) {
          winograd_tile<Down, Across>(
              rows[Down::first].at + x * strides.s[2],
              pitch[0] * strides.s[1],
              pitch[1] * strides.s[2],
              channels,
              points(i));
          continue;
        }
        if (mode == PaddingMode::zeros) {
          const A* lines[Down::from];
          int64_t place[Across::from];
          int filled[Across::from];
          for (int r = Down::first; r < Down::end; ++r) {
            lines[r] = rows[r].at;
          }
          for (int j = 0; j < places; ++j) {
            const int64_t at = x + j * pitch[1];
            const bool seen = at >= 0 && at < size[2];
            place[first + j] = seen ? at * strides.s[2] : 0;
            filled[first + j] = seen ? channels : 0;
          }
          winograd_border_tile<Down, Across>(lines, place, filled, points(i));
          continue;
        }
      }
      for (int r = Down::first; r < Down::end; ++r) {
        rows[r].stage(
            x, pitch[1], places, stage + (r - Down::first) * places * L);
      }
      winograd_tile<Down, Across>(stage, places * L, L, L, points(i));
    }
  }
};

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
