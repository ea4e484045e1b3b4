// weight_grad by Winograd's F(3, 4), strides by their phases: each tile's 4 x 4 gradients
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
  WinogradTransform<winograd::Source, S> x_transform;
  WinogradTransform<winograd::Gradients, S> y_transform;
  int64_t channel_blocks, columns; // of V: channels in blocks, piece by piece
  int64_t vectors, lane_blocks;
  int wide;
  int64_t taps; // of the kernel
  int64_t block, blocks; // tiles that are multiplied at a time
  TileCut rows; // channels as rows of the register tile

  explicit WinogradWeightGrad(const ConvProblem& problem)
      : side(groups_side_by_side(problem, kLanes<A>)),
        p(side_by_side(problem, side)),
        channels(p.in_group() / side),
        view(gather_view(p, Pass::forward)),
        grid(view.runs[0][0], view.runs[1][0], view.runs[2][0], p.batch),
        x_transform(grid, p.x, p.in, p.mode, false),
        y_transform(grid, p.y, p.out, PaddingMode::zeros, true),
        rows(1, 1) {
    channel_blocks = (p.in_group() + L - 1) / L;
    columns = channel_blocks * grid.pieces * L;
    vectors = (p.out_group() + L - 1) / L;
    wide = static_cast<int>(std::min<int64_t>(2, vectors));
    lane_blocks = (vectors + wide - 1) / wide;
    taps = p.taps();
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
  int64_t sum_size() const { // of a block of lanes
    return channels * taps * wide * L;
  }

  struct Shared {
    A* v;
    A* w; // [block of lanes][point][tile][lane]
    A* sum; // [block of lanes][channel][tap][lane], of several blocks of tiles
    int64_t* v_off; // of each tile in V
  };
  Shared take_shared(Scratch& scratch) const {
    Shared s;
    s.v = scratch.take<A>(grid.points * v_stride());
    s.w = scratch.take<A>(lane_blocks * grid.points * w_stride());
    s.sum = scratch.take<A>(blocks > 1 ? lane_blocks * sum_size() : 0);
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
    const WinogradFilter f = grid.filter(i / channel_blocks);
    grid.each_segment(first, count, [&](const WinogradSegment& s) {
      int64_t corner[3];
      grid.corner(s, f, corner);
      x_transform(
          x + c * p.x.c,
          s,
          corner,
          f.down,
          f.across,
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
          grid.down,
          grid.across,
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
    const WinogradFilter f = grid.filter(piece);
    for (int i = 0; i < grid.points; ++i) {
      if ((f.points >> i & 1) == 0) {
        continue;
      }
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
    sum += (rows.begin(row) * taps + tap(f, 0) * p.kernel[1] * p.kernel[2] +
            tap(f, 1) * p.kernel[2] + tap(f, 2)) *
        width;
    winograd::with_taps(f.down, f.across, [&](auto d, auto a) {
      for (int r = 0; r < height; ++r) {
        for (int lane = 0; lane < width; lane += L) {
          add_taps<d(), a()>(
              t.m + r * width + lane,
              sum + r * taps * width + lane,
              width,
              add);
        }
      }
    });
  }
  int64_t tap(const WinogradFilter& f, int d) const { // the first
    return grid.axis[d].tap(f.piece[d]);
  }
  template <int DownTaps, int AcrossTaps>
  void add_taps(const A* m, A* to, int64_t width, bool add) const {
    using Down = winograd::Along<winograd::Sums, DownTaps>;
    using Across = winograd::Along<winograd::Sums, AcrossTaps>;
    const int64_t column = grid.axis[2].next * width;
    const int64_t row = grid.axis[1].next * p.kernel[2] * width;
    int made = 0;
    // Addresses are sums: 36 products would take as long as the transform.
    const int64_t step = m_stride(), line = grid.axis[2].points() * step;
    m += grid.point(0, 0) * step;
    winograd::both<Down, Across, Vec<A>>(
        [&](int r, int c) { return load(m + r * line + c * step); },
        [&](Vec<A> v) {
          A* at = to + made / AcrossTaps * row + made % AcrossTaps * column;
          ++made;
          store(at, add ? load(at) + v : v);
        });
  }

  // The sums of a block of lanes into the gradient.
  void write(int64_t k, const A* sum, S* w) const {
    const int width = block_vectors(k) * L;
    const int valid = static_cast<int>(
        std::min<int64_t>(width, p.out_group() - k * wide * L));
    const int channels = static_cast<int>(this->channels);
    S* to = w + k * wide * L * p.w.n;
    int64_t apart = 1; // of neighbouring taps, if all lie side by side
    bool dense = true;
    for (int d = 2; d >= 0; --d) {
      dense = dense && (p.kernel[d] == 1 || p.w.s[d] == apart);
      apart *= p.kernel[d];
    }
    if (dense && p.w.c == taps) {
      store_tile<S>(
          sum,
          static_cast<int>(channels * taps),
          width,
          valid,
          nullptr,
          to,
          p.w.n,
          1);
      return;
    }
    for (int64_t i = 0; i < taps; ++i) {
      const int64_t across = i % p.kernel[2];
      const int64_t down = i / p.kernel[2] % p.kernel[1];
      const int64_t depth = i / p.kernel[2] / p.kernel[1];
      store_tile<S>(
          sum + i * width,
          channels,
          static_cast<int>(taps * width),
          valid,
          nullptr,
          to + depth * p.w.s[0] + down * p.w.s[1] + across * p.w.s[2],
          p.w.n,
          p.w.c);
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
            lane_blocks,
            task_grain(lane_blocks, work * count),
            [&](int64_t begin, int64_t end) __attribute__((noinline)) {
              const Thread t = mine();
              for (int64_t k = begin; k < end; ++k) {
                for (int64_t i = 0; i < grid.pieces * rows.tiles; ++i) {
                  accumulate(
                      i / rows.tiles,
                      i % rows.tiles,
                      k,
                      count,
                      false,
                      shared,
                      t,
                      t.sum);
                }
                write(k, t.sum, to);
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
                  shared.sum + panel / grid.pieces * sum_size());
            }
          });
    }
    if (blocks > 1) {
      each(
          lane_blocks,
          task_grain(lane_blocks, 10.0 * lane_blocks * sum_size()),
          [&](int64_t begin, int64_t end) __attribute__((noinline)) {
            for (int64_t k = begin; k < end; ++k) {
              write(k, shared.sum + k * sum_size(), to);
            }
          });
    }
  }
};

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
