// A gather (core/conv_gather.h) by Winograd's algorithm, strides by their phases:
// forward and input_grad. Read once per instruction set.
//
//   weights --G--> U[point][reduction][lane]
//   source  --B--> V[point][reduction][tile]
//   M[point][tile][lane] = sum over the reduction of V * U
//   M --A--> 4 x 4 outputs of each tile
//
// Lanes of all vectors are channels. NCHW sources are turned to channel order
// row by row on the way into the first transform and turned back on the way out
// of the last, in buffers that stay in L1; channels_last tensors are read and
// written in place.
//
// The reduction runs over channels, and over the taps that no Winograd
// dimension takes: the depth of a 3-d kernel, and the pieces of three taps into
// which a longer kernel falls.

namespace torchconv {
namespace cpu {
namespace TC_ISA {

// A block of the reduction: a piece of the kernel for up to L channels.
struct WinogradSteps {
  int64_t piece, channel; // the first
  int64_t before; // steps of the blocks before it
  int count;
  bool packs; // is the first that needs what pack_taps packs
};

template <typename S>
struct WinogradJob {
  using Element = S;
  using A = acc_t<S>;
  static constexpr int L = kLanes<A>;
  static constexpr int kRows = kRegisters == 32 ? 14 : 6;
  static constexpr int kWide = kRegisters == 32 ? 4 : 2;

  const GatherView& v;
  AxisRun run[3];
  WinogradGrid grid;
  WinogradTransform<winograd::Source, S> transform;
  std::vector<WinogradFilter> filters; // the pieces of the kernel
  int64_t side; // groups that share the lanes of a vector
  int64_t channels; // of the reduction of one group
  int most_rows; // of a register tile
  int64_t channel_blocks;
  int64_t red_blocks, red; // the reduction, in blocks of up to L channels
  std::vector<WinogradSteps> steps; // of each block
  int64_t vectors, lane_blocks; // of the destination's channels
  int wide; // vectors of a block of lanes
  bool source_first; // all of V exists and U is made in passing, or reverse
  bool own_weights; // U is made by the task that uses it
  // The taps of a plane of the kernel lie side by side, several pieces share
  // them, and they are packed at once for the channels of a chain of sums.
  bool whole;
  int64_t block, blocks; // tiles that are multiplied at a time

  // side: groups of the problem that a group of the view stands for (see
  // conv_winograd_form.h).
  WinogradJob(
      const GatherView& v,
      int64_t side,
      const AxisRun& r0,
      const AxisRun& r1,
      const AxisRun& r2,
      int threads)
      : v(v),
        run{r0, r1, r2},
        grid(r0, r1, r2, v.p.batch),
        transform(grid, v.src, v.src_size, v.mode, false),
        side(side),
        channels(v.red / side),
        most_rows(side > 1 ? kSideRows : kRows) {
    const int64_t tiles = grid.tiles, points = grid.points;
    for (int64_t i = 0; i < grid.pieces; ++i) {
      filters.push_back(grid.filter(i));
    }
    whole = side == 1 && v.w_red != 1 && grid.pieces > 1 &&
        r1.taps * r2.taps <= kWholeTaps;
    channel_blocks = (v.red + L - 1) / L;
    red_blocks = channel_blocks * grid.pieces;
    red = channels * grid.pieces;
    vectors = (v.lanes + L - 1) / L;
    set_steps();

    // U of a problem is up to four times its weights. It is made once and read
    // for every block of tiles, in whose time V and M stay in L2. Where there
    // are so few tiles that V is smaller than U, or so many channels that V of
    // one row of register tiles leaves L2, it is V that is made once, and U in
    // passing, as much of it as L2 holds.
    const int64_t tile_bytes = points * red_blocks * L * sizeof(A);
    const int64_t m_bytes = points * 2 * L * sizeof(A);
    const int64_t row = std::max<int64_t>(kRows, grid.unit);
    const int64_t v_bytes = kVBytes / 2 +
        3 * v.lanes * v.red * r0.taps * r1.taps * r2.taps *
            static_cast<int64_t>(sizeof(A));
    const int64_t few =
        std::max(grid.unit, std::min(kMBytes / m_bytes, v_bytes / tile_bytes));
    // Strided kernels, and those a little longer than pieces, have more points.
    const int64_t u_bytes =
        grid.points * red * vectors * L * static_cast<int64_t>(sizeof(A));
    const int64_t most_u = kUBytes / v.p.groups +
        4 * v.lanes * v.red * r0.taps * r1.taps * r2.taps *
            static_cast<int64_t>(sizeof(A));
    source_first =
        tiles <= few || row * tile_bytes > kVBytes || u_bytes > most_u;
    if (side > 1) { // a group is a task: no thread waits for another
      source_first = false;
    }
    wide = 2;
    if (source_first) {
      block = few;
      if (tiles <= kRows / 2 && vectors % 4 == 0) {
        wide = kWide;
      }
    } else {
      block = row;
      while ((block + row) * (tile_bytes + m_bytes) <= kBlockBytes &&
             block < 8 * kRows && tiles >= 2 * threads * (block + row)) {
        block += row;
      }
    }
    block = std::min(tiles, block / grid.unit * grid.unit);
    wide = static_cast<int>(std::min<int64_t>(wide, vectors));
    if (source_first) {
      // Blocks of lanes are the tasks.
      while (wide > 1 && (vectors + wide - 1) / wide < threads) {
        wide /= 2;
      }
    } else if (threads > 1) {
      // As many blocks for each thread, where that makes them little smaller.
      const int64_t all = (tiles + block - 1) / block;
      const int64_t even = (all + threads - 1) / threads * threads;
      if (all > threads && even <= all + all / 2) {
        block = (tiles + even - 1) / even;
        block = (block + grid.unit - 1) / grid.unit * grid.unit;
      }
    }
    blocks = (tiles + block - 1) / block;
    own_weights = side > 1 && blocks == 1;
    lane_blocks = (vectors + wide - 1) / wide;
  }
  // Chains of sums run over the channels of a piece, and over pieces where these
  // are few; then over the next piece of the same channels, whose weights have
  // just been read.
  void set_steps() {
    const int64_t plane = static_cast<int64_t>(
        grid.axis[1].pieces.size() * grid.axis[2].pieces.size());
    int64_t before = 0;
    for (int64_t c0 = 0; c0 < channel_blocks; c0 += sum_blocks()) {
      const int64_t c1 = std::min(channel_blocks, c0 + sum_blocks());
      for (int64_t piece = 0; piece < grid.pieces; ++piece) {
        for (int64_t c = c0; c < c1; ++c) {
          const int64_t count = std::min<int64_t>(L, channels - c * L);
          const bool packs = !whole || (piece % plane == 0 && c == c0);
          steps.push_back(
              {piece, c * L, before, static_cast<int>(count), packs});
          before += count;
        }
      }
    }
  }
  static constexpr int64_t kWholeTaps = 25;
  static constexpr int64_t kUBytes = 512 << 10; // beside the weights
  static constexpr int64_t kMBytes = 512 << 10;
  static constexpr int64_t kVBytes = 1 << 20;
  static constexpr int64_t kBlockBytes = 400 << 10;

  // Strides of U, V and M from point to point: one line more than a block needs, so
  // that the points of a tile do not share the sets of the cache.
  int64_t u_stride(int64_t steps) const {
    return steps * wide * L + L;
  }
  int64_t v_stride() const {
    return red_blocks * block * L + L;
  }
  int64_t m_stride() const {
    return block * wide * L + L;
  }
  int64_t u_block() const {
    return grid.points * u_stride(red);
  }
  // Vectors of block k of lanes: the last one may be narrower.
  int block_vectors(int64_t k) const {
    return static_cast<int>(std::min<int64_t>(wide, vectors - k * wide));
  }
  int64_t sum_blocks() const { // of the reduction, in one chain of sums
    return kWinogradSum / L;
  }
  int block_steps(int64_t b) const {
    return steps[b].count;
  }
  // Steps of the reduction in blocks [begin, end).
  int64_t steps_in(int64_t begin, int64_t end) const {
    return (end == red_blocks ? red : steps[end].before) - steps[begin].before;
  }
  const WinogradFilter& filter(int64_t b) const {
    return filters[steps[b].piece];
  }
  // Channels in the lanes of V.
  int block_lanes(int64_t b) const {
    return static_cast<int>(std::min<int64_t>(L, v.red - steps[b].channel));
  }

  struct Thread {
    A* stage; // sources or outputs of a segment, [row][position][lane]
    A* taps; // weights of one block of the reduction
    int64_t* off;
    A* u;
    A* v;
    A* m; // [point][tile][lane]
  };
  Thread take_thread(Scratch& scratch) const {
    const int points = grid.points;
    Thread t;
    t.stage = scratch.take<A>(grid.stage() * L);
    const int64_t taps =
        whole ? kWinogradSum * run[1].taps * run[2].taps : L * 9;
    t.taps = scratch.take<A>(taps * wide * L);
    t.off = scratch.take<int64_t>(taps);
    t.u = scratch.take<A>(
        source_first      ? points * u_stride(kWinogradSum)
            : own_weights ? u_block()
                          : 0);
    t.v = scratch.take<A>(source_first ? 0 : points * v_stride());
    t.m = scratch.take<A>(points * m_stride());
    return t;
  }
  // U of all groups, or V of one block.
  int64_t shared() const {
    return source_first ? grid.points * v_stride()
        : own_weights   ? 0
                        : v.p.groups * lane_blocks * u_block();
  }
  int64_t workspace(int threads) const {
    Scratch scratch(nullptr), thread(nullptr);
    scratch.take<A>(shared());
    take_thread(thread);
    return scratch.used() + threads * thread.used();
  }

  // -- source

  // Blocks [begin, end) of the reduction, of `count` tiles from `first`.
  void transform_source(
      const S* src, // of the group
      int64_t first,
      int64_t count,
      int64_t begin,
      int64_t end,
      A* to,
      const Thread& t) const {
    for (int64_t b = begin; b < end; ++b) {
      const WinogradFilter& f = filter(b);
      grid.each_segment(first, count, [&](const WinogradSegment& s) {
        int64_t corner[3];
        grid.corner(s, f, corner);
        transform(
            src + steps[b].channel * v.src.c,
            s,
            corner,
            f.down,
            f.across,
            block_lanes(b),
            to + (b * block + s.at) * L,
            L,
            v_stride(),
            t.stage);
      });
    }
  }

  // -- products

  // M of `count` tiles, from blocks [first, first + n) of the reduction.
  void multiply(
      const A* v_all,
      int64_t count,
      int64_t k,
      int64_t first,
      int64_t n,
      const A* u,
      int64_t stride,
      const Thread& t) const {
    const int width = block_vectors(k) * L;
    const int64_t tiles = (count + most_rows - 1) / most_rows;
    for (int i = 0; i < grid.points; ++i) {
      const A* weights = u + i * stride;
      A* const m = t.m + i * m_stride();
      for (int64_t b = first; b < first + n; b += sum_blocks()) {
        const int64_t end = std::min(first + n, b + sum_blocks());
        const uint64_t seen = seen_blocks(i, b, end);
        const A* source = v_all + i * v_stride() + b * block * L;
        for (int64_t j = 0; j < tiles && seen != 0; ++j) {
          const int64_t row = count * j / tiles;
          const int rows = static_cast<int>(count * (j + 1) / tiles - row);
          const auto product = side > 1
              ? side_product<WinogradJob>(rows)
              : WinogradProduct<WinogradJob>::of(width / L, rows);
          product(
              source + row * L,
              block * L,
              *this,
              b,
              seen,
              weights,
              m + row * width,
              b > 0);
        }
        weights += steps_in(b, end) * width;
      }
    }
  }
  // Which blocks of [begin, end) are of a piece that has point i: bits from that
  // of `begin` on.
  uint64_t seen_blocks(int i, int64_t begin, int64_t end) const {
    uint64_t seen = 0;
    for (int64_t b = begin; b < end; ++b) {
      seen |= (filter(b).points >> i & 1) << (b - begin);
    }
    return seen;
  }

  // -- outputs

  void transform_outputs(
      int64_t first, // tile of all
      int64_t count,
      int64_t k,
      const A* bias, // of the group, padded to whole vectors; or null
      S* dst, // of the group
      const Finish& finish,
      const Thread& t) const {
    const int width = block_vectors(k) * L;
    for (int lane = 0; lane < width; lane += L) {
      const int64_t at = k * wide * L + lane;
      const int lanes = static_cast<int>(std::min<int64_t>(L, v.lanes - at));
      const Vec<A> add = bias == nullptr ? Vec<A>{} : load(bias + at);
      S* to = dst + at * v.dst.c;
      grid.each_segment(first, count, [&](const WinogradSegment& s) {
        const A* m = t.m + s.at * width + lane;
        winograd::with_taps(grid.down, grid.across, [&](auto d, auto a) {
          store_segment<d(), a()>(s, m, width, lanes, add, to, finish, t);
        });
      });
    }
  }

  template <int DownTaps, int AcrossTaps>
  void store_segment(
      const WinogradSegment& s,
      const A* m,
      int64_t width,
      int lanes,
      Vec<A> bias,
      S* dst,
      const Finish& finish,
      const Thread& t) const {
    using Down = winograd::Along<winograd::Outputs, DownTaps>;
    using Across = winograd::Along<winograd::Outputs, AcrossTaps>;
    constexpr int high = Down::to;
    constexpr int across_points = Across::end - Across::first;
    const auto& axis = grid.axis;
    const int64_t dy = axis[1].dilation, dx = grid.unit;
    int rows = 0;
    while (rows < high && s.row + rows * dy < axis[1].count) {
      ++rows;
    }
    const int64_t pixel = run[2].step * v.dst.s[2];
    const int64_t line = dy * run[1].step * v.dst.s[1];
    const int64_t x0 = axis[2].output(s.tile);
    S* to = dst + s.sample * v.dst.n +
        (run[0].p0 + s.depth * run[0].step) * v.dst.s[0] +
        (run[1].p0 + s.row * run[1].step) * v.dst.s[1] +
        (run[2].p0 + x0 * run[2].step) * v.dst.s[2];
    const bool in_place = v.dst.c == 1;
    const int64_t slots = kWinogradOutputs * s.count;
    for (int64_t i = 0; i < s.count; ++i, m += width) {
      Vec<A> y[high * 4];
      int made = 0;
      winograd::both<Down, Across, Vec<A>>(
          [&](int r, int c) {
            return load(
                m +
                ((r - Down::first) * across_points + c - Across::first) *
                    m_stride());
          },
          [&](Vec<A> v) { y[made++] = v; });
      const int64_t x = grid.column(i);
      if (!in_place) {
#pragma GCC unroll 16
        for (int j = 0; j < high * 4; ++j) {
          store(t.stage + (j / 4 * slots + x + j % 4 * dx) * L, y[j] + bias);
        }
        continue;
      }
#pragma GCC unroll 16
      for (int j = 0; j < high * 4; ++j) {
        if (j / 4 < rows && x0 + x + j % 4 * dx < axis[2].count) {
          S* at = to + j / 4 * line + (x + j % 4 * dx) * pixel;
          if (lanes == L) {
            store_as(at, y[j] + bias);
          } else {
            store_as_partial(at, y[j] + bias, lanes);
          }
        }
      }
    }
    if (!in_place) {
      const int count = static_cast<int>(std::min(slots, axis[2].count - x0));
      for (int r = 0; r < rows; ++r) {
        store_tile<S>(
            t.stage + r * slots * L,
            count,
            L,
            lanes,
            nullptr,
            to + r * line,
            v.dst.c,
            pixel);
      }
    }
    if (finish) {
      const int64_t count = std::min(slots, axis[2].count - x0);
      for (int r = 0; r < rows; ++r) {
        finish.block(to + r * line, count, pixel, lanes, v.dst.c);
      }
    }
  }

  // -- all of it

  void operator()(
      const S* src,
      const S* w,
      const A* bias, // [group][padded lanes], or null
      int64_t bias_group,
      S* dst,
      const Finish& finish,
      void* workspace) const {
    Scratch scratch(workspace);
    A* const all = scratch.take<A>(shared());
    char* const threads = scratch.take<char>(0);
    Scratch size(nullptr);
    take_thread(size);
    const int64_t thread_bytes = size.used();
    const auto mine = [&] {
      Scratch piece(threads + thread_pool().thread_index() * thread_bytes);
      return take_thread(piece);
    };
    const auto bias_of = [&](int64_t g) {
      return bias == nullptr ? nullptr : bias + g * bias_group;
    };
    const WinogradWeights<WinogradJob> weights{*this};
    const double work = 1.0 * grid.tiles * grid.points * red * vectors * L;
    if (!source_first) {
      const int64_t panels = own_weights ? 0 : v.p.groups * lane_blocks;
      parallel_for(
          panels,
          task_grain(panels, 10.0 * u_block() * panels),
          [&](int64_t begin, int64_t end) {
            const Thread t = mine();
            for (int64_t i = begin; i < end; ++i) {
              weights(
                  w + i / lane_blocks * v.w_group,
                  i % lane_blocks,
                  0,
                  red_blocks,
                  all + i * u_block(),
                  u_stride(red),
                  t);
            }
          });
      const int64_t tasks = v.p.groups * blocks;
      parallel_for(
          tasks,
          task_grain(tasks, work * v.p.groups),
          [&](int64_t begin, int64_t end) {
            const Thread t = mine();
            for (int64_t i = begin; i < end; ++i) {
              const int64_t g = i / blocks, first = i % blocks * block;
              const int64_t count = std::min(block, grid.tiles - first);
              transform_source(
                  src + g * v.src_group, first, count, 0, red_blocks, t.v, t);
              for (int64_t k = 0; k < lane_blocks; ++k) {
                const A* u = all + (g * lane_blocks + k) * u_block();
                if (own_weights) {
                  weights(
                      w + g * v.w_group,
                      k,
                      0,
                      red_blocks,
                      t.u,
                      u_stride(red),
                      t);
                  u = t.u;
                }
                multiply(t.v, count, k, 0, red_blocks, u, u_stride(red), t);
                transform_outputs(
                    first,
                    count,
                    k,
                    bias_of(g),
                    dst + g * v.dst_group,
                    finish,
                    t);
              }
            }
          });
      return;
    }
    for (int64_t i = 0; i < v.p.groups * blocks; ++i) {
      const int64_t g = i / blocks, first = i % blocks * block;
      const int64_t count = std::min(block, grid.tiles - first);
      parallel_for(
          red_blocks,
          task_grain(red_blocks, 20.0 * grid.points * red * count),
          [&](int64_t begin, int64_t end) {
            const Thread t = mine();
            transform_source(
                src + g * v.src_group, first, count, begin, end, all, t);
          });
      parallel_for(
          lane_blocks,
          task_grain(lane_blocks, work / blocks),
          [&](int64_t begin, int64_t end) {
            const Thread t = mine();
            for (int64_t k = begin; k < end; ++k) {
              for (int64_t b = 0; b < red_blocks; b += sum_blocks()) {
                const int64_t n = std::min(sum_blocks(), red_blocks - b);
                const int64_t stride = u_stride(steps_in(b, b + n));
                weights(w + g * v.w_group, k, b, n, t.u, stride, t);
                multiply(all, count, k, b, n, t.u, stride, t);
              }
              transform_outputs(
                  first,
                  count,
                  k,
                  bias_of(g),
                  dst + g * v.dst_group,
                  finish,
                  t);
            }
          });
    }
  }
};

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
