// A gather (core/conv_gather.h) over any runs, by blocks of columns (im2col):
// for a tile of destination pixels, all that they read is written out, one row
// for each step of the reduction, and multiplied with the packed weights. The
// block of columns is bounded; no column matrix of a sample ever exists.
// Read once per instruction set.

namespace torchconv {
namespace cpu {
namespace TC_ISA {

constexpr int64_t kPanelBytes = 256 << 10;

template <typename S>
struct PanelJob {
  using A = acc_t<S>;
  static constexpr int L = kLanes<A>;

  const GatherView& v;
  AxisRun run[3];
  int64_t taps, n, pixels;
  bool affine;
  ColumnCut<A> cut;
  int rows; // pixels of a tile
  int64_t tiles, block_tiles, blocks;

  PanelJob(
      const GatherView& v,
      const AxisRun& r0,
      const AxisRun& r1,
      const AxisRun& r2)
      : v(v),
        run{r0, r1, r2},
        cut(v.lanes, r0.count * r1.count * r2.count) {
    taps = r0.taps * r1.taps * r2.taps;
    n = v.red * taps;
    pixels = r0.count * r1.count * r2.count;
    affine = r0.affine && r1.affine && r2.affine;
    rows = static_cast<int>(std::min<int64_t>(pixels, tile_rows<A>(cut.wide)));
    tiles = (pixels + rows - 1) / rows;
    const int64_t tile_bytes = std::max<int64_t>(1, n * rows * sizeof(A));
    block_tiles =
        std::min(tiles, std::max<int64_t>(1, kPanelBytes / tile_bytes));
    blocks = (tiles + block_tiles - 1) / block_tiles;
  }

  struct Thread {
    A* panel; // [block_tiles][n][rows]
    int64_t* from; // [taps][rows]: source offset or -1
    int64_t* to; // [block_tiles][rows]: destination offset
  };
  Thread take_thread(Scratch& scratch) const {
    Thread t;
    t.panel = scratch.take<A>(block_tiles * n * rows);
    t.from = scratch.take<int64_t>(taps * rows);
    t.to = scratch.take<int64_t>(block_tiles * rows);
    return t;
  }
  struct Shared {
    int64_t* w_off;
    int64_t* steps; // 0, rows, 2 rows, ...: the panel's own offsets
    A* panels;
  };
  Shared take_shared(Scratch& scratch) const {
    Shared s;
    s.w_off = scratch.take<int64_t>(n);
    s.steps = scratch.take<int64_t>(n);
    s.panels = scratch.take<A>(v.p.groups * cut.vectors * L * n);
    return s;
  }
  int64_t workspace(int threads) const {
    Scratch shared(nullptr), thread(nullptr);
    take_shared(shared);
    take_thread(thread);
    return shared.used() + threads * thread.used();
  }

  // What a border position gathers from, tabulated per dimension.
  struct Pairs {
    std::vector<AxisPair> list[3];
    std::vector<int64_t> begin[3];
  };
  Pairs tabulate() const {
    Pairs p;
    for (int d = 0; d < 3; ++d) {
      for (int64_t m = 0; m < run[d].count; ++m) {
        p.begin[d].push_back(static_cast<int64_t>(p.list[d].size()));
        v.pairs(d, run[d], m, p.list[d]);
      }
      p.begin[d].push_back(static_cast<int64_t>(p.list[d].size()));
    }
    return p;
  }

  // Position of pixel i along each dimension of the runs.
  void position(int64_t i, int64_t (&m)[3]) const {
    m[2] = i % run[2].count;
    m[1] = i / run[2].count % run[1].count;
    m[0] = i / run[2].count / run[1].count;
  }

  void fill_affine(
      const S* src,
      int64_t first,
      int count,
      int64_t* from,
      A* panel) const {
    for (int p = 0; p < count; ++p) {
      int64_t m[3];
      position(first + p, m);
      int64_t* to = from + p;
      for (int64_t j0 = 0; j0 < run[0].taps; ++j0) {
        const int64_t s0 = source(0, m[0], j0);
        for (int64_t j1 = 0; j1 < run[1].taps; ++j1) {
          const int64_t s1 = source(1, m[1], j1);
          for (int64_t j2 = 0; j2 < run[2].taps; ++j2, to += rows) {
            const int64_t s2 = source(2, m[2], j2);
            *to = s0 < 0 || s1 < 0 || s2 < 0
                ? -1
                : s0 * v.src.s[0] + s1 * v.src.s[1] + s2 * v.src.s[2];
          }
        }
      }
    }
    for (int64_t j = 0; j < taps; ++j) {
      const int64_t* at = from + j * rows;
      bool gapless = at[0] >= 0;
      for (int p = 1; gapless && p < count; ++p) {
        gapless = at[p] == at[0] + p;
      }
      for (int64_t c = 0; c < v.red; ++c) {
        const S* channel = src + c * v.src.c;
        A* row = panel + (c * taps + j) * rows;
        if (gapless) {
          for (int p = 0; p < count; ++p) {
            row[p] = static_cast<A>(channel[at[0] + p]);
          }
        } else {
          for (int p = 0; p < count; ++p) {
            row[p] = at[p] < 0 ? A(0) : static_cast<A>(channel[at[p]]);
          }
        }
      }
    }
  }
  int64_t source(int d, int64_t m, int64_t j) const {
    return source_index(
        m * run[d].a + j * run[d].b + run[d].c, v.src_size[d], v.mode);
  }

  void fill_border(
      const S* src,
      const Pairs& pairs,
      int64_t first,
      int count,
      A* panel) const {
    std::fill_n(panel, n * rows, A(0));
    for (int p = 0; p < count; ++p) {
      int64_t m[3];
      position(first + p, m);
      const auto each = [&](int d, auto f) {
        for (int64_t i = pairs.begin[d][m[d]]; i < pairs.begin[d][m[d] + 1];
             ++i) {
          f(pairs.list[d][i]);
        }
      };
      each(0, [&](const AxisPair& q0) {
        each(1, [&](const AxisPair& q1) {
          each(2, [&](const AxisPair& q2) {
            const int64_t j = (q0.j * run[1].taps + q1.j) * run[2].taps + q2.j;
            const S* from = src + q0.source * v.src.s[0] +
                q1.source * v.src.s[1] + q2.source * v.src.s[2];
            for (int64_t c = 0; c < v.red; ++c) {
              panel[(c * taps + j) * rows + p] +=
                  static_cast<A>(from[c * v.src.c]);
            }
          });
        });
      });
    }
  }

  // Pixels whose destinations are evenly spaced are stored together.
  void store_pixels(
      const A* acc,
      const ColumnBlock& b,
      const int64_t* to,
      int count,
      const A* bias,
      S* dst,
      const Finish& finish) const {
    const int width = b.vectors * L;
    for (int p = 0; p < count;) {
      int end = p + 1;
      const int64_t step = end < count ? to[end] - to[p] : 1;
      while (end < count && to[end] - to[end - 1] == step) {
        ++end;
      }
      store_tile(
          acc + p * width,
          end - p,
          width,
          b.valid,
          bias == nullptr ? nullptr : bias + b.first,
          dst + to[p],
          v.dst.c,
          step);
      finish.block(dst + to[p], end - p, step, b.valid, v.dst.c);
      p = end;
    }
  }

  void operator()(
      const S* src,
      const S* w,
      const A* bias,
      S* dst,
      const Finish& finish,
      void* workspace) const {
    Scratch scratch(workspace);
    const Shared shared = take_shared(scratch);
    char* threads = scratch.take<char>(0);
    Scratch count(nullptr);
    take_thread(count);
    const int64_t thread_bytes = count.used();
    const Pairs pairs = affine ? Pairs() : tabulate();
    for (int64_t r = 0; r < n; ++r) {
      shared.steps[r] = r * rows;
    }
    weight_offsets(v, run, false, shared.w_off);
    pack_all_panels<S>(v, w, run, false, cut, n, shared.w_off, shared.panels);
    const int64_t lanes = cut.vectors * L;
    const int64_t tasks = v.p.batch * v.p.groups * blocks;
    const double work = 1.0 * v.p.batch * v.p.groups * pixels * lanes * n;
    parallel_for(
        tasks, task_grain(tasks, work), [&](int64_t begin, int64_t end) {
          Scratch piece(threads + thread_pool().thread_index() * thread_bytes);
          const Thread t = take_thread(piece);
          for (int64_t task = begin; task < end; ++task) {
            const int64_t block = task % blocks;
            const int64_t g = task / blocks % v.p.groups;
            const int64_t sample = task / blocks / v.p.groups;
            run_block(
                block * block_tiles,
                std::min(tiles, (block + 1) * block_tiles),
                src + sample * v.src.n + g * v.src_group,
                pairs,
                shared,
                shared.panels + g * lanes * n,
                bias == nullptr ? nullptr : bias + g * lanes,
                dst + sample * v.dst.n + g * v.dst_group,
                finish,
                t);
          }
        });
  }

  void run_block(
      int64_t first,
      int64_t last,
      const S* src,
      const Pairs& pairs,
      const Shared& shared,
      const A* panels,
      const A* bias,
      S* dst,
      const Finish& finish,
      const Thread& t) const {
    const auto pixels_of = [&](int64_t tile) {
      return static_cast<int>(std::min<int64_t>(rows, pixels - tile * rows));
    };
    for (int64_t tile = first; tile < last; ++tile) {
      A* panel = t.panel + (tile - first) * n * rows;
      const int count = pixels_of(tile);
      if (affine) {
        fill_affine(src, tile * rows, count, t.from, panel);
      } else {
        fill_border(src, pairs, tile * rows, count, panel);
      }
      for (int p = 0; p < count; ++p) {
        int64_t m[3];
        position(tile * rows + p, m);
        int64_t to = 0;
        for (int d = 0; d < 3; ++d) {
          to += (run[d].p0 + m[d] * run[d].step) * v.dst.s[d];
        }
        t.to[(tile - first) * rows + p] = to;
      }
    }
    alignas(64) A acc[kMaxTileRows * kMaxTileVectors * L];
    for (int64_t i = 0; i < cut.blocks; ++i) {
      const ColumnBlock b = cut.block(i);
      const int width = b.vectors * L;
      for (int64_t tile = first; tile < last; ++tile) {
        const int count = pixels_of(tile);
        tile_function<A, false>(count, b.vectors)(
            t.panel + (tile - first) * n * rows,
            shared.steps,
            1,
            panels + b.first * n,
            nullptr,
            width,
            n,
            acc,
            width,
            false);
        store_pixels(
            acc,
            b,
            t.to + (tile - first) * rows,
            count,
            bias,
            dst + b.first * v.dst.c,
            finish);
      }
    }
  }
};

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
