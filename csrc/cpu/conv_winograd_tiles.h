// Winograd's tiles: where they lie, and how a tile's sources become its values at
// the points. Read once per instruction set.

namespace torchconv {
namespace cpu {
namespace TC_ISA {

// One dimension of a run as tiles.
struct WinogradAxis {
  bool tiled; // in tiles of 4 outputs and pieces of 3 taps, or one by one
  int64_t count, tiles, pieces, taps;
  int64_t step, dilation,
      first; // source = output * step + tap * dilation + first
  int64_t t0, tstep;

  WinogradAxis() = default;
  WinogradAxis(const AxisRun& r, bool tiled) : tiled(tiled), count(r.count) {
    taps = r.taps;
    step = r.a;
    dilation = r.b;
    first = r.c;
    t0 = r.t0;
    tstep = r.tstep;
    if (tiled && dilation < 0) { // tiles read in rising order
      first += (taps - 1) * dilation;
      t0 += (taps - 1) * tstep;
      tstep = -tstep;
      dilation = -dilation;
    }
    if (tiled) {
      const int64_t group = kWinogradOutputs * dilation;
      tiles = (count + group - 1) / group * dilation;
      pieces = (taps + kWinogradTaps - 1) / kWinogradTaps;
    } else {
      tiles = count;
      pieces = taps;
    }
  }
  // The first output of tile i. Outputs of a tile lie `dilation` apart, so that
  // they share their sources; tiles between them are neighbours in the order.
  int64_t output(int64_t i) const {
    return tiled ? i / dilation * kWinogradOutputs * dilation + i % dilation
                 : i;
  }
  int64_t source(int64_t output, int64_t piece) const {
    return output * step + first +
        piece * dilation * (tiled ? kWinogradTaps : 1);
  }
};

// Tiles that are neighbours in a row.
struct WinogradSegment {
  int64_t sample, depth, row; // row: the first output row
  int64_t tile; // the first tile, counted in the row
  int64_t count;
  int64_t at; // of the first tile, counted in the block
};

// The positions of a run, cut into tiles of 4 x 4 outputs or, where the kernel is
// flat, of 1 x 4. Tiles are numbered in the order of samples, depths, rows,
// columns.
struct WinogradGrid {
  WinogradAxis axis[3];
  bool tall;
  int points;
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
      : tall(r1.taps > 1),
        points(tall ? 36 : 6) {
    axis[0] = WinogradAxis(r0, false);
    axis[1] = WinogradAxis(r1, tall);
    axis[2] = WinogradAxis(r2, true);
    pieces = axis[0].pieces * axis[1].pieces * axis[2].pieces;
    unit = axis[2].dilation;
    segment = std::max<int64_t>(1, (tall ? 16 : 64) / unit) * unit;
    tiles = batch * axis[0].tiles * axis[1].tiles * axis[2].tiles;
  }

  // Piece i along each dimension.
  void piece(int64_t i, int64_t (&at)[3]) const {
    at[2] = i % axis[2].pieces;
    at[1] = i / axis[2].pieces % axis[1].pieces;
    at[0] = i / axis[2].pieces / axis[1].pieces;
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

// source_index for tiles: the last ones reach beyond the padding, where it says
// nothing of use (circular would turn more than once) and any value will do.
inline int64_t winograd_source(int64_t q, int64_t size, PaddingMode mode) {
  const int64_t s = source_index(q, size, mode);
  return s < size ? s : -1;
}

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
      const int64_t s = winograd_source(x0 + i * step, size, mode);
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
    if (channel != 1 && stride == 1 && step == 1) {
      for (; i < count && x0 + i < 0; ++i) {
        single(i);
      }
      const int64_t inside = std::min(count, size - x0);
      for (int64_t j = i; j < inside; j += L) {
        const int n = static_cast<int>(std::min<int64_t>(L, inside - j));
        turn(at + x0 + j, n, out + j * L);
      }
      i = std::max(i, inside);
    }
    for (; i < count; ++i) {
      single(i);
    }
  }

  // Up to L neighbouring positions, turned to channel order.
  void turn(const S* from, int n, acc_t<S>* out) const {
    using A = acc_t<S>;
    constexpr int L = kLanes<A>;
    Vec<A> square[L];
#pragma GCC unroll 16
    for (int c = 0; c < L; ++c) {
      square[c] = c < channels
          ? (n == L ? load_as(from + c * channel)
                    : load_as_partial(from + c * channel, n))
          : Vec<A>{};
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

// A tile's From x From elements (From of one row, where it is flat), get(row,
// column), transformed to its points, `stride` apart.
template <int From, bool Tall, typename A, typename G, typename T>
inline __attribute__((always_inline)) void winograd_points(
    G get,
    A* to,
    int64_t stride,
    T transform) {
  winograd::both<From, kWinogradPoints, Tall, Vec<A>>(
      get, winograd::Points<A>{to, stride}, transform);
}

// The same of elements `row` and `pixel` apart. channels: of each vector, that
// may be read.
template <int From, bool Tall, typename A, typename T>
inline void winograd_tile(
    const A* from,
    int64_t row,
    int64_t pixel,
    int channels,
    A* to,
    int64_t stride,
    T transform) {
  if (channels == kLanes<A>) {
    winograd_points<From, Tall>(
        [&](int r, int x) { return load(from + r * row + x * pixel); },
        to,
        stride,
        transform);
  } else {
    winograd_points<From, Tall>(
        [&](int r, int x) {
          return load_partial(from + r * row + x * pixel, channels);
        },
        to,
        stride,
        transform);
  }
}

// The same at a border: rows that lie outside are null, columns outside hold no
// channels.
template <int From, bool Tall, typename A, typename T>
inline void winograd_border_tile(
    const A* const (&rows)[Tall ? From : 1],
    const int64_t (&place)[From],
    const int (&channels)[From],
    A* to,
    int64_t stride,
    T transform) {
  winograd_points<From, Tall>(
      [&](int r, int x) {
        return rows[r] == nullptr
            ? Vec<A>{}
            : load_partial(rows[r] + place[x], channels[x]);
      },
      to,
      stride,
      transform);
}

// All tiles of a segment of one tensor and up to L of its channels, by F(4, 3)'s
// B^T (From = 6: sources, which a padding mode may show) or by F(3, 4)'s G
// (From = 4: gradients of outputs).
template <int From, typename S>
struct WinogradTransform {
  using A = acc_t<S>;
  static constexpr int L = kLanes<A>;

  const WinogradGrid& grid;
  const Strides& strides;
  const int64_t (&size)[3];
  PaddingMode mode;
  bool in_place; // channels lie side by side and need no conversion

  WinogradTransform(
      const WinogradGrid& grid,
      const Strides& strides,
      const int64_t (&size)[3],
      PaddingMode mode)
      : grid(grid),
        strides(strides),
        size(size),
        mode(mode),
        in_place(std::is_same_v<S, A> && strides.c == 1) {}

  // corner: coordinates of the first element of the segment's first tile. Tile i
  // goes to `to` + i * tile, its points `stride` apart.
  void operator()(
      const S* tensor, // at the first channel
      const WinogradSegment& s,
      const int64_t (&corner)[3],
      int channels,
      A* to,
      int64_t tile,
      int64_t stride,
      A* stage) const {
    grid.tall
        ? transform<true>(tensor, s, corner, channels, to, tile, stride, stage)
        : transform<false>(
              tensor, s, corner, channels, to, tile, stride, stage);
  }

  template <bool Tall>
  void transform(
      const S* tensor,
      const WinogradSegment& s,
      const int64_t (&corner)[3],
      int channels,
      A* to,
      int64_t tile,
      int64_t stride,
      A* stage) const {
    constexpr int high = Tall ? From : 1;
    const int64_t dy = grid.axis[1].dilation, dx = grid.unit;
    const auto apply = [](const auto& a, auto& b) {
      if constexpr (From == 6) {
        winograd::source(a, b);
      } else {
        winograd::filter4(a, b);
      }
    };
    const int64_t z = source_index(corner[0], size[0], mode);
    WinogradRow<S> rows[high];
    bool inside = z >= 0;
    for (int r = 0; r < high; ++r) {
      const int64_t at = corner[1] + r * dy;
      const int64_t y = winograd_source(at, size[1], mode);
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
    if (!in_place) {
      const int64_t slots = kWinogradOutputs * s.count + (From - 4) * dx;
      for (int r = 0; r < high; ++r) {
        rows[r].stage(corner[2], 1, slots, stage + r * slots * L);
      }
      for (int64_t i = 0; i < s.count; ++i) {
        winograd_tile<From, Tall>(
            stage + grid.column(i) * L,
            slots * L,
            dx * L,
            L,
            to + i * tile,
            stride,
            apply);
      }
      return;
    }
    for (int64_t i = 0; i < s.count; ++i) {
      const int64_t x = corner[2] + grid.column(i);
      if constexpr (std::is_same_v<S, A>) {
        if (inside && x >= 0 && x + (From - 1) * dx < size[2]) {
          winograd_tile<From, Tall>(
              rows[0].at + x * strides.s[2],
              dy * strides.s[1],
              dx * strides.s[2],
              channels,
              to + i * tile,
              stride,
              apply);
          continue;
        }
      }
      if constexpr (std::is_same_v<S, A>) {
        if (mode == PaddingMode::zeros) {
          const A* lines[high];
          int64_t place[From];
          int filled[From];
          for (int r = 0; r < high; ++r) {
            lines[r] = rows[r].at;
          }
          for (int j = 0; j < From; ++j) {
            const int64_t at = x + j * dx;
            const bool seen = at >= 0 && at < size[2];
            place[j] = seen ? at * strides.s[2] : 0;
            filled[j] = seen ? channels : 0;
          }
          winograd_border_tile<From, Tall>(
              lines, place, filled, to + i * tile, stride, apply);
          continue;
        }
      }
      for (int r = 0; r < high; ++r) {
        rows[r].stage(x, dx, From, stage + r * From * L);
      }
      winograd_tile<From, Tall>(
          stage, From * L, L, L, to + i * tile, stride, apply);
    }
  }
};

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
