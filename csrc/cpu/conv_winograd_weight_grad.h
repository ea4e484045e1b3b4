// weight_grad with stride 1 by Winograd's F(3, 4): each tile's 4 x 4 gradients
// are the taps that slide over its 6 x 6 sources and give 3 x 3 outputs, the
// tile's share of the weight's gradient. Read once per instruction set.
//
//   x  --B--> V[point][tile][channel, piece]
//   gy --G--> W[point][tile][lane]              lanes: output channels
//   M[point][channel, piece][lane] = sum over tiles of V * W
//   M --A--> 3 x 3 taps, added up over blocks of tiles
//
// Blocks follow from the problem alone and are walked in order, so that no sum
// depends on the number of threads.

namespace torchconv {
namespace cpu {
namespace TC_ISA {

template <typename S>
struct WinogradWeightGrad {
  using A = acc_t<S>;
  static constexpr int L = kLanes<A>;

  int64_t side; // groups that share the lanes of a vector
  ConvProblem p; // with so many groups as one
  int64_t channels; // of one of them
  GatherView view; // of forward
  WinogradGrid grid;
  WinogradTransform<6, S> x_transform;
  WinogradTransform<4, S> y_transform;
  int64_t channel_blocks, columns; // of V: channels in blocks, piece by piece
  int64_t vectors, lane_blocks;
  int wide;
  int taps; // of a piece
  int64_t block, blocks; // tiles that are multiplied at a time
  TileCut rows; // channels as rows of the register tile

  explicit WinogradWeightGrad(const ConvProblem& problem)
      : side(groups_side_by_side(problem, kLanes<A>)),
        p(side_by_side(problem, side)),
        channels(p.in_group() / side),
        view(gather_view(p, Pass::forward)),
        grid(view.runs[0][0], view.runs[1][0], view.runs[2][0], p.batch),
        x_transform(grid, p.x, p.in, p.mode),
        y_transform(grid, p.y, p.out, PaddingMode::zeros),
        rows(1, 1) {
    channel_blocks = (p.in_group() + L - 1) / L;
    columns = channel_blocks * grid.pieces * L;
    vectors = (p.out_group() + L - 1) / L;
    wide = static_cast<int>(std::min<int64_t>(2, vectors));
    lane_blocks = (vectors + wide - 1) / wide;
    taps = grid.tall ? 9 : 3;
    rows = TileCut(channels, tile_rows<A>(wide));
    // V and W take up to three times the weights and half a megabyte, and 8 MB.
    // More than 64 tiles would not make the outputs' transform much rarer, and
    // the sums of products longer and less exact.
    const int64_t tile_bytes =
        grid.points * (columns + vectors * L) * static_cast<int64_t>(sizeof(A));
    const int64_t most = (512 << 10) +
        3 * channels * p.taps() * p.out_group() *
            static_cast<int64_t>(sizeof(A));
    block =
        std::min<int64_t>(64, std::min<int64_t>(most, 8 << 20) / tile_bytes);
    block = std::max<int64_t>(16, block);
    block = std::max<int64_t>(1, block / grid.unit) * grid.unit;
    block = std::min(block, grid.tiles);
    blocks = (grid.tiles + block - 1) / block;
  }

  // One line more than a block needs: see WinogradJob.
  int64_t v_stride() const {
    return block * columns + L;
  }
  int64_t w_stride() const {
    return block * wide * L + L;
  }
  int64_t m_stride() const {
    return tile_rows<A>(wide) * wide * L;
  }
  int64_t sum_size() const { // of a piece and block of lanes
    return channels * taps * wide * L;
  }

  struct Shared {
    A* v;
    A* w; // [block of lanes][point][tile][lane]
    A* sum; // [block of lanes][piece][channel][tap][lane], of several blocks
    int64_t* v_off; // of each tile in V
  };
  Shared take_shared(Scratch& scratch) const {
    Shared s;
    s.v = scratch.take<A>(grid.points * v_stride());
    s.w = scratch.take<A>(lane_blocks * grid.points * w_stride());
    s.sum = scratch.take<A>(
        blocks > 1 ? lane_blocks * grid.pieces * sum_size() : 0);
    s.v_off = scratch.take<int64_t>(block);
    return s;
  }
  struct Thread {
    A* stage;
    A* m; // [point][row][lane]
    A* sum; // where one block of tiles is all
  };
  Thread take_thread(Scratch& scratch) const {
    Thread t;
    t.stage = scratch.take<A>(grid.stage() * L);
    t.m = scratch.take<A>(grid.points * m_stride());
    t.sum = scratch.take<A>(blocks > 1 ? 0 : sum_size());
    return t;
  }
  // Where there are groups for all threads, each has some to itself, and waits
  // for no other.
  int64_t teams(int threads) const {
    return p.groups >= threads ? threads : 1;
  }
  int64_t workspace(int threads) const {
    Scratch shared(nullptr), thread(nullptr);
    take_shared(shared);
    take_thread(thread);
    return teams(threads) * shared.used() + threads * thread.used();
  }

  int block_vectors(int64_t k) const {
    return static_cast<int>(std::min<int64_t>(wide, vectors - k * wide));
  }

  // V of up to L channels of one piece.
  void transform_x(
      const S* x, // of the group
      int64_t i,
      int64_t first,
      int64_t count,
      const Shared& shared,
      const Thread& t) const {
    const int64_t c = i % channel_blocks * L;
    int64_t piece[3];
    grid.piece(i / channel_blocks, piece);
    grid.each_segment(first, count, [&](const WinogradSegment& s) {
      const int64_t corner[3] = {
          grid.axis[0].source(s.depth, piece[0]),
          grid.axis[1].source(s.row, piece[1]),
          grid.axis[2].source(grid.axis[2].output(s.tile), piece[2])};
      x_transform(
          x + c * p.x.c,
          s,
          corner,
          static_cast<int>(std::min<int64_t>(L, p.in_group() - c)),
          shared.v + s.at * columns + i * L,
          columns,
          v_stride(),
          t.stage);
    });
  }

  // W of L output channels.
  void transform_y(
      const S* y, // of the group
      int64_t i, // vector
      int64_t first,
      int64_t count,
      const Shared& shared,
      const Thread& t) const {
    const int64_t k = i / wide;
    const int64_t width = block_vectors(k) * L;
    A* to = shared.w + k * grid.points * w_stride() + i % wide * L;
    grid.each_segment(first, count, [&](const WinogradSegment& s) {
      const int64_t corner[3] = {s.depth, s.row, grid.axis[2].output(s.tile)};
      y_transform(
          y + i * L * p.y.c,
          s,
          corner,
          static_cast<int>(std::min<int64_t>(L, p.out_group() - i * L)),
          to + s.at * width,
          width,
          w_stride(),
          t.stage);
    });
  }

  // The share of `count` tiles in some rows of one piece and a block of lanes.
  void accumulate(
      int64_t piece,
      int64_t row,
      int64_t k,
      int64_t count,
      bool add,
      const Shared& shared,
      const Thread& t,
      A* sum) const {
    const int lanes = block_vectors(k), width = lanes * L;
    const int height = rows.rows(row);
    const auto product = tile_function<A, false>(height, lanes);
    for (int i = 0; i < grid.points; ++i) {
      if (side > 1) {
        side_rows(
            static_cast<int>(channels),
            shared.v + i * v_stride() + piece * channel_blocks * L,
            columns,
            shared.w + (k * grid.points + i) * w_stride(),
            count,
            t.m + i * m_stride());
        continue;
      }
      product(
          shared.v + i * v_stride() + piece * channel_blocks * L +
              rows.begin(row),
          shared.v_off,
          1,
          shared.w + (k * grid.points + i) * w_stride(),
          nullptr,
          width,
          count,
          t.m + i * m_stride(),
          width,
          false);
    }
    sum += rows.begin(row) * taps * width;
    for (int r = 0; r < height; ++r) {
      for (int lane = 0; lane < width; lane += L) {
        const A* m = t.m + r * width + lane;
        A* to = sum + r * taps * width + lane;
        grid.tall ? add_taps<true>(m, to, width, add)
                  : add_taps<false>(m, to, width, add);
      }
    }
  }
  template <bool Tall>
  void add_taps(const A* m, A* to, int64_t width, bool add) const {
    winograd::both<kWinogradPoints, kWinogradTaps, Tall, Vec<A>>(
        [&](int r, int c) { return load(m + (r * 6 + c) * m_stride()); },
        [&](Vec<A> v) {
          store(to, add ? load(to) + v : v);
          to += width;
        },
        [](const auto& a, auto& b) { winograd::outputs3(a, b); });
  }

  // The taps that exist, of one piece, into the gradient.
  void write(int64_t i, int64_t k, const A* sum, S* w) const {
    const int width = block_vectors(k) * L;
    const int valid = static_cast<int>(
        std::min<int64_t>(width, p.out_group() - k * wide * L));
    const int channels = static_cast<int>(this->channels);
    int64_t piece[3];
    grid.piece(i, piece);
    const int64_t y = piece[1] * kWinogradTaps, x = piece[2] * kWinogradTaps;
    const int64_t down = std::min<int64_t>(kWinogradTaps, p.kernel[1] - y);
    const int64_t across = std::min<int64_t>(kWinogradTaps, p.kernel[2] - x);
    S* to = w + k * wide * L * p.w.n + piece[0] * p.w.s[0] + y * p.w.s[1] +
        x * p.w.s[2];
    if (p.w.c == taps && p.w.s[2] == 1 && (taps == 3 || p.w.s[1] == 3)) {
      store_tile<S>(sum, channels * taps, width, valid, nullptr, to, p.w.n, 1);
      return;
    }
    for (int64_t a = 0; a < down; ++a) {
      for (int64_t b = 0; b < across; ++b) {
        store_tile<S>(
            sum + (a * kWinogradTaps + b) * width,
            channels,
            taps * width,
            valid,
            nullptr,
            to + a * p.w.s[1] + b * p.w.s[2],
            p.w.n,
            p.w.c);
      }
    }
  }

  void operator()(const S* x, const S* y, S* w, void* workspace) const {
    Scratch shared(nullptr), thread(nullptr);
    take_shared(shared);
    take_thread(thread);
    char* const space = static_cast<char*>(workspace);
    const int64_t teams = this->teams(pool_threads());
    char* const threads = space + teams * shared.used();
    const auto mine = [&] {
      Scratch piece(threads + thread_pool().thread_index() * thread.used());
      return take_thread(piece);
    };
    const double work =
        1.0 * p.groups * grid.tiles * grid.points * columns * vectors * L;
    const auto shared_of = [&](int64_t team) {
      Scratch piece(space + team * shared.used());
      const Shared s = take_shared(piece);
      for (int64_t i = 0; i < block; ++i) {
        s.v_off[i] = i * columns;
      }
      return s;
    };
    const auto some = [&](int64_t team, int64_t begin, int64_t end) {
      const Shared s = shared_of(team);
      for (int64_t g = begin; g < end; ++g) {
        group(g, x, y, w, s, teams > 1, mine);
      }
    };
    if (teams == 1) {
      some(0, 0, p.groups);
      return;
    }
    parallel_for(
        p.groups, task_grain(p.groups, work), [&](int64_t begin, int64_t end) {
          some(thread_pool().thread_index(), begin, end);
        });
  }

  // alone: by the calling thread. mine(): what a thread has to itself.
  template <typename F>
  __attribute__((noinline)) void group(
      int64_t g,
      const S* x,
      const S* y,
      S* w,
      const Shared& shared,
      bool alone,
      const F& mine) const {
    // A parallel loop within another would take every thread for the first.
    const auto each = [alone](int64_t n, int64_t grain, const auto& f) {
      alone ? f(0, n) : parallel_for(n, grain, f);
    };
    const int64_t sources = channel_blocks * grid.pieces;
    const int64_t panels = lane_blocks * grid.pieces;
    const double work = 1.0 * grid.points * columns * vectors * L;
    const S* from = x + g * p.in_group() * p.x.c;
    const S* grad = y + g * p.out_group() * p.y.c;
    S* to = w + g * p.out_group() * p.w.n;
    for (int64_t first = 0; first < grid.tiles; first += block) {
      const int64_t count = std::min(block, grid.tiles - first);
      const int64_t transforms = sources + vectors;
      each(
          transforms,
          task_grain(transforms, 10.0 * grid.points * L * transforms * count),
          [&](int64_t begin, int64_t end) __attribute__((noinline)) {
            const Thread t = mine();
            for (int64_t i = begin; i < end; ++i) {
              i < sources
                  ? transform_x(from, i, first, count, shared, t)
                  : transform_y(grad, i - sources, first, count, shared, t);
            }
          });
      if (blocks == 1) {
        each(
            panels,
            task_grain(panels, work * count),
            [&](int64_t begin, int64_t end) __attribute__((noinline)) {
              const Thread t = mine();
              for (int64_t i = begin; i < end; ++i) {
                const int64_t k = i / grid.pieces, piece = i % grid.pieces;
                for (int64_t row = 0; row < rows.tiles; ++row) {
                  accumulate(piece, row, k, count, false, shared, t, t.sum);
                }
                write(piece, k, t.sum, to);
              }
            });
        continue;
      }
      const int64_t tasks = panels * rows.tiles;
      each(
          tasks,
          task_grain(tasks, work * count),
          [&](int64_t begin, int64_t end) __attribute__((noinline)) {
            const Thread t = mine();
            for (int64_t i = begin; i < end; ++i) {
              const int64_t panel = i / rows.tiles;
              accumulate(
                  panel % grid.pieces,
                  i % rows.tiles,
                  panel / grid.pieces,
                  count,
                  first > 0,
                  shared,
                  t,
                  shared.sum + panel * sum_size());
            }
          });
    }
    if (blocks > 1) {
      each(
          panels,
          task_grain(panels, 10.0 * panels * sum_size()),
          [&](int64_t begin, int64_t end) __attribute__((noinline)) {
            for (int64_t i = begin; i < end; ++i) {
              write(
                  i % grid.pieces,
                  i / grid.pieces,
                  shared.sum + i * sum_size(),
                  to);
            }
          });
    }
  }
};

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
