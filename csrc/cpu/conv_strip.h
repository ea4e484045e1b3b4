// A gather (core/conv_gather.h) over affine runs, by register tiles on strips:
// the part of the source that a block of destination pixels reads is copied
// once, with its padding, into a strip that stays in L2 (or is read in place
// where there is nothing to pad or convert), and every tile of pixels x lanes
// runs over it. Read once per instruction set.

namespace torchconv {
namespace cpu {
namespace TC_ISA {

constexpr int64_t kStripBytes = 256 << 10; // of a 1 MB L2, beside the weights
constexpr int64_t kPartBytes = 192
    << 10; // of packed weights, read by all tiles

// How one job (one run per dimension) is cut up. The cut never changes a
// result: each element is one chain over the reduction.
template <typename S>
struct StripJob {
  using A = acc_t<S>;
  static constexpr int L = kLanes<A>;

  const GatherView& v;
  AxisRun run[3];
  int64_t taps, n; // per channel; reduction length
  bool inner; // source channels are innermost
  bool in_place; // the source serves as the strip
  int64_t block[3], blocks[3]; // pixels of a block, blocks of the job
  int64_t strip; // elements
  ColumnCut<A> cut;
  bool private_panels; // weights packed by each thread for its columns only
  int64_t chunks; // in which the columns are dealt out, beside the blocks
  int64_t parts; // of the reduction, each a pass over the pixels of a block
  const StripJob* whole; // whose packed weights this job reads a part of

  // whole: the job with all taps, if this is one of several with some of them.
  StripJob(
      const GatherView& v,
      const AxisRun& r0,
      const AxisRun& r1,
      const AxisRun& r2,
      int threads,
      const StripJob* whole = nullptr)
      : v(v),
        run{r0, r1, r2},
        cut(v.lanes, 1),
        whole(whole) {
    taps = r0.taps * r1.taps * r2.taps;
    n = v.red * taps;
    inner = v.src.c == 1 && v.red > 1;
    // Where windows do not overlap a strip would be used once.
    in_place = std::is_same_v<S, A>;
    for (int d = 0; d < 3; ++d) {
      block[d] = d == 2 ? run[d].count : 1;
      in_place = in_place && run[d].taps > 0 &&
          (run[d].taps == 1 ||
           (run[d].b == 1 && run[d].a >= run[d].taps &&
            (inner || v.red < 16))) &&
          StripAxis(run[d], 0, run[d].count).inside(v.src_size[d]);
    }
    in_place = in_place && !(crowded(v) && v.lanes >= 4 * L);
    if (in_place) {
      // Only the destination and the tiles' reach into L1 bound a block.
      block[1] = std::min(run[1].count, std::max<int64_t>(1, 512 / block[2]));
      block[2] = std::min<int64_t>(run[2].count, 512);
    } else {
      while (block_strip() * (int64_t)sizeof(A) > kStripBytes &&
             block[2] > kMaxTileRows) {
        block[2] = std::max<int64_t>(kMaxTileRows, (block[2] + 1) / 2);
      }
      for (int d = 1; d >= 0; --d) {
        while (block[d] < run[d].count &&
               (d == 1 || block[1] == run[1].count)) {
          const int64_t before = block[d];
          block[d] = std::min(run[d].count, before + (before + 1) / 2);
          if (block_strip() * (int64_t)sizeof(A) > kStripBytes) {
            block[d] = before;
            break;
          }
        }
      }
      if (threads > 1 && v.p.batch * v.p.groups < threads) {
        block[1] = std::min(
            block[1],
            std::max<int64_t>(1, (run[1].count + threads - 1) / threads));
      }
    }
    set_blocks(v, run, threads, block, blocks);
    strip = in_place ? 0 : block_strip();
    cut = whole != nullptr ? whole->cut : ColumnCut<A>(v.lanes, block[2]);
    // With few pixels the weights are most of the bytes: then a thread packs
    // the columns it is about to use into its L2 instead of all of them going
    // through memory, and strips are packed again for each block of columns.
    private_panels = whole == nullptr && few_pixels(v, taps, cut) &&
        v.p.groups * cut.blocks >= threads;
    const int64_t cells =
        std::max<int64_t>(1, v.p.batch * v.p.groups * block_count());
    chunks = cells >= 2 * threads || threads == 1
        ? 1
        : std::min(cut.blocks, (2 * threads + cells - 1) / cells);
    // The weights of a part stay in L2 while all tiles of the block use them.
    parts = std::max<int64_t>(
        1, (panel() * (int64_t)sizeof(A) + kPartBytes / 2) / kPartBytes);
  }

  // Channels whose distance is a multiple of a kilobyte share a few sets of the
  // caches, which hold less of them than a tile reads of them all: then a copy
  // pays, whose channels lie elsewhere.
  static bool crowded(const GatherView& v) {
    return v.src.c != 1 && v.red >= 32 &&
        v.src.c * static_cast<int64_t>(sizeof(S)) % 1024 == 0;
  }

  static bool few_pixels(
      const GatherView& v,
      int64_t taps,
      const ColumnCut<A>& cut) {
    return v.p.batch * v.src_size[0] * v.src_size[1] * v.src_size[2] *
        cut.blocks <
        v.lanes * taps;
  }

  // Estimated cycles, to weigh against rows of pixels in the lanes.
  static double cycles(
      const GatherView& v,
      const AxisRun& r0,
      const AxisRun& r1,
      const AxisRun& r2) {
    const double n = 1.0 * v.red * r0.taps * r1.taps * r2.taps;
    const double pixels = 1.0 * r0.count * r1.count * r2.count;
    const int64_t vectors = (v.lanes + L - 1) / L;
    const int64_t tile = std::min<int64_t>(r2.count, kMaxTileRows) *
        std::min<int64_t>(vectors, 4);
    const double wait = tile < 8 ? 8.0 / tile : 1.0;
    const bool rows = v.dst.c != 1 && r2.step * v.dst.s[2] == 1;
    const double store = v.dst.c == 1 ? 0.1 : rows ? 0.5 : 1.0;
    const double pack = (v.w_lane == 1 ? 0.2 : 0.6) / v.p.batch;
    return pixels * (n * vectors / 2 * wait + vectors * L * store) +
        vectors * L * n * pack;
  }

  int64_t block_count() const {
    return blocks[0] * blocks[1] * blocks[2];
  }
  int64_t block_strip() const {
    const StripAxis axis[3] = {
        {run[0], 0, block[0]}, {run[1], 0, block[1]}, {run[2], 0, block[2]}};
    return strip_elements(v.red, inner, axis);
  }
  int64_t panel() const { // elements of the widest block of columns
    return n * cut.wide * L;
  }

  void strip_offsets(
      const StripAxis (&axis)[3],
      const StripLayout& layout,
      int64_t* off) const {
    each_reduction(
        v.red, run, inner, [&](int64_t c, int64_t j0, int64_t j1, int64_t j2) {
          *off++ = c * layout.c + axis[0].tap(j0) * layout.s[0] +
              axis[1].tap(j1) * layout.s[1] + axis[2].tap(j2) * layout.s[2];
        });
  }

  // Which steps of the whole job's reduction these are.
  void whole_steps(int64_t* step) const {
    const auto tap = [&](int d, int64_t j) {
      const AxisRun& all = whole->run[d];
      return (run[d].t0 + j * run[d].tstep - all.t0) / all.tstep;
    };
    each_reduction(
        v.red, run, inner, [&](int64_t c, int64_t j0, int64_t j1, int64_t j2) {
          const int64_t t = (tap(0, j0) * whole->run[1].taps + tap(1, j1)) *
                  whole->run[2].taps +
              tap(2, j2);
          *step++ = inner ? t * v.red + c : c * whole->taps + t;
        });
  }

  struct Thread {
    A* strip;
    int64_t* off;
    A* panel;
    A* acc; // of all pixels of a block, where the reduction has parts
  };
  Thread take_thread(Scratch& scratch) const {
    Thread t;
    t.strip = scratch.take<A>(strip);
    t.off = scratch.take<int64_t>(n);
    t.panel = scratch.take<A>(private_panels ? panel() : 0);
    t.acc = scratch.take<A>(
        parts > 1 ? block[0] * block[1] * block[2] * cut.wide * L : 0);
    return t;
  }
  struct Shared {
    int64_t* w_off; // or, of a cut, the steps
    A* panels;
  };
  Shared take_shared(Scratch& scratch) const {
    Shared s;
    s.w_off = scratch.take<int64_t>(n);
    s.panels =
        scratch.take<A>(private_panels || whole != nullptr ? 0 : packed());
    return s;
  }
  int64_t workspace(int threads) const {
    Scratch shared(nullptr), thread(nullptr);
    take_shared(shared);
    take_thread(thread);
    return shared.used() + threads * thread.used();
  }

  // The strip of one block of one sample and group: remembered, because
  // neighbouring tasks of a thread share it.
  struct Cell {
    int64_t index = -1, sample, group, first[3], count[3];
    const A* base; // of the strip
    StripLayout layout;
    int64_t step[3]; // in the strip, from pixel to pixel
    int64_t off_count[3] = {-1, -1, -1}; // what thread.off was made for
  };
  void enter(Cell& cell, int64_t index, const S* src, const Thread& t) const {
    if (cell.index == index) {
      return;
    }
    cell.index = index;
    int64_t rest = index;
    for (int d = 2; d >= 0; --d) {
      cell.first[d] = rest % blocks[d] * block[d];
      cell.count[d] = std::min(block[d], run[d].count - cell.first[d]);
      rest /= blocks[d];
    }
    cell.group = rest % v.p.groups;
    cell.sample = rest / v.p.groups;
    const S* from = src + cell.sample * v.src.n + cell.group * v.src_group;
    const StripAxis axis[3] = {
        {run[0], cell.first[0], cell.count[0]},
        {run[1], cell.first[1], cell.count[1]},
        {run[2], cell.first[2], cell.count[2]}};
    bool same = true;
    for (int d = 0; d < 3; ++d) {
      same = same && cell.off_count[d] == cell.count[d];
      cell.off_count[d] = cell.count[d];
    }
    if (in_place) {
      cell.layout = {v.src.c, {v.src.s[0], v.src.s[1], v.src.s[2]}};
      int64_t base = 0;
      for (int d = 0; d < 3; ++d) {
        base += axis[d].c * v.src.s[d];
        cell.step[d] = axis[d].a * v.src.s[d];
      }
      if constexpr (std::is_same_v<S, A>) {
        cell.base = from + base;
      }
      if (!same) {
        int64_t* off = t.off;
        each_reduction(
            v.red,
            run,
            inner,
            [&](int64_t c, int64_t j0, int64_t j1, int64_t j2) {
              *off++ = c * v.src.c + j0 * axis[0].b * v.src.s[0] +
                  j1 * axis[1].b * v.src.s[1] + j2 * axis[2].b * v.src.s[2];
            });
      }
      return;
    }
    cell.layout = strip_layout(v.red, inner, axis);
    cell.base = t.strip;
    for (int d = 0; d < 3; ++d) {
      cell.step[d] = axis[d].sa * cell.layout.s[d];
    }
    if (!same) {
      strip_offsets(axis, cell.layout, t.off);
    }
    if (n > 0) {
      pack_strip(
          from,
          v.src,
          v.src_size,
          v.mode,
          v.red,
          inner,
          axis,
          cell.layout,
          t.strip);
    }
  }

  // Visits the tiles of a block: pixel (d, h, w ..) of the block, the tile's
  // height, and where it starts in the strip.
  template <typename F>
  void each_tile(const Cell& cell, const TileCut& tiles, F f) const {
    for (int64_t d = 0; d < cell.count[0]; ++d) {
      for (int64_t h = 0; h < cell.count[1]; ++h) {
        const A* a = cell.base + d * cell.step[0] + h * cell.step[1];
        for (int64_t i = 0; i < tiles.tiles; ++i) {
          const int64_t w = tiles.begin(i);
          f(d, h, w, tiles.rows(i), a + w * cell.step[2]);
        }
      }
    }
  }

  void compute(
      const Cell& cell,
      const ColumnBlock& b,
      const Thread& t,
      const A* panel,
      const int64_t* steps, // in the panel; null: one after the other
      const A* bias, // of the group's first lane, or null
      S* dst,
      const Finish& finish) const {
    alignas(64) A tile_acc[kMaxTileRows * kMaxTileVectors * L];
    const int width = b.vectors * L;
    const TileCut tiles(cell.count[2], tile_rows<A>(b.vectors));
    S* to = dst + cell.sample * v.dst.n + cell.group * v.dst_group;
    const int64_t pixel = run[2].step * v.dst.s[2];
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t begin = n * part / parts, end = n * (part + 1) / parts;
      A* all = t.acc;
      each_tile(
          cell,
          tiles,
          [&](int64_t d, int64_t h, int64_t w, int rows, const A* a) {
            A* acc = parts > 1 ? all : tile_acc;
            all += rows * width;
            (steps != nullptr ? tile_function<A, true>
                              : tile_function<A, false>)(rows, b.vectors)(
                a,
                t.off + begin,
                cell.step[2],
                steps != nullptr ? panel : panel + begin * width,
                steps + (steps != nullptr ? begin : 0),
                width,
                end - begin,
                acc,
                width,
                part > 0);
            if (part + 1 < parts) {
              return;
            }
            const A* add = bias == nullptr ? nullptr : bias + b.first;
            const int64_t at[3] = {
                run[0].p0 + (cell.first[0] + d) * run[0].step,
                run[1].p0 + (cell.first[1] + h) * run[1].step,
                run[2].p0 + (cell.first[2] + w) * run[2].step};
            S* place = to + at[0] * v.dst.s[0] + at[1] * v.dst.s[1] +
                at[2] * v.dst.s[2];
            if (!v.folded.empty()) {
              store_folded(v, acc, rows, width, b, add, at, run[2].step, place);
            } else {
              store_tile(
                  acc,
                  rows,
                  width,
                  b.valid,
                  add,
                  place + b.first * v.dst.c,
                  v.dst.c,
                  pixel);
            }
          });
    }
    if (finish) {
      finish_block(cell, b, to, finish);
    }
  }

  // What compute wrote.
  void finish_block(
      const Cell& cell,
      const ColumnBlock& b,
      S* dst, // of the group
      const Finish& finish) const {
    for (int64_t d = 0; d < cell.count[0]; ++d) {
      for (int64_t h = 0; h < cell.count[1]; ++h) {
        S* row = dst + b.first * v.dst.c +
            (run[0].p0 + cell.first[0] + d) * v.dst.s[0] +
            (run[1].p0 + cell.first[1] + h) * v.dst.s[1] +
            (run[2].p0 + cell.first[2]) * v.dst.s[2];
        finish.block(row, cell.count[2], v.dst.s[2], b.valid, v.dst.c);
      }
    }
  }

  // The packed weights, for this job and for cuts of it.
  void pack(const S* w, const Shared& shared) const {
    weight_offsets(v, run, inner, shared.w_off);
    pack_all_panels<S>(v, w, run, inner, cut, n, shared.w_off, shared.panels);
  }

  int64_t packed() const { // elements of all packed weights
    return v.p.groups * cut.vectors * L * n;
  }

  // bias: groups * cut.vectors * L values, padded per group; or null. packed:
  // the packed weights, of the whole job if this is a cut; null: packs w.
  void operator()(
      const S* src,
      const S* w,
      const A* bias,
      S* dst,
      const Finish& finish,
      void* workspace,
      const A* packed = nullptr) const {
    Scratch scratch(workspace);
    Shared shared = take_shared(scratch);
    char* threads = scratch.take<char>(0);
    Scratch count(nullptr);
    take_thread(count);
    const int64_t thread_bytes = count.used();
    const auto mine = [&] {
      Scratch piece(threads + thread_pool().thread_index() * thread_bytes);
      return take_thread(piece);
    };
    const int64_t lanes = cut.vectors * L;
    const int64_t cells = v.p.batch * v.p.groups * block_count();
    const double work = 1.0 * v.p.batch * v.p.groups * run[0].count *
        run[1].count * run[2].count * lanes * n;
    if (private_panels) {
      const int64_t tasks = v.p.groups * cut.blocks;
      weight_offsets(v, run, inner, shared.w_off);
      parallel_for(
          tasks, task_grain(tasks, work), [&](int64_t begin, int64_t end) {
            const Thread t = mine();
            Cell cell;
            for (int64_t task = begin; task < end; ++task) {
              const int64_t g = task / cut.blocks;
              const ColumnBlock b = cut.block(task % cut.blocks);
              const A* panel = t.panel;
              if (packed != nullptr) {
                panel = packed + (g * lanes + b.first) * n;
              } else {
                pack_panel<S>(v, w, run, inner, g, b, n, shared.w_off, t.panel);
              }
              for (int64_t i = 0; i < v.p.batch; ++i) {
                for (int64_t k = 0; k < block_count(); ++k) {
                  enter(cell, (i * v.p.groups + g) * block_count() + k, src, t);
                  compute(
                      cell,
                      b,
                      t,
                      panel,
                      nullptr,
                      bias == nullptr ? nullptr : bias + g * lanes,
                      dst,
                      finish);
                }
              }
            }
          });
      return;
    }
    const int64_t* steps = nullptr;
    int64_t panel_steps = n;
    if (whole == nullptr) {
      if (packed == nullptr) {
        pack(w, shared);
        packed = shared.panels;
      }
    } else {
      whole_steps(shared.w_off);
      steps = shared.w_off;
      panel_steps = whole->n;
    }
    const int64_t tasks = cells * chunks;
    parallel_for(
        tasks, task_grain(tasks, work), [&](int64_t begin, int64_t end) {
          const Thread t = mine();
          Cell cell;
          for (int64_t task = begin; task < end; ++task) {
            enter(cell, task / chunks, src, t);
            const int64_t chunk = task % chunks;
            for (int64_t i = cut.blocks * chunk / chunks;
                 i < cut.blocks * (chunk + 1) / chunks;
                 ++i) {
              const ColumnBlock b = cut.block(i);
              compute(
                  cell,
                  b,
                  t,
                  packed + (cell.group * lanes + b.first) * panel_steps,
                  steps,
                  bias == nullptr ? nullptr : bias + cell.group * lanes,
                  dst,
                  finish);
            }
          }
        });
  }
};

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
