// A gather (core/conv_gather.h) over affine runs, by register tiles on strips:
// the part of the source that a block of destination pixels reads is copied
// once, with its padding, into a strip that stays in L2 (or is read in place
// where there is nothing to pad or convert), and every tile of pixels x lanes
// runs over it. Read once per instruction set.

namespace torchconv {
namespace cpu {
namespace TC_ISA {

constexpr int64_t kStripBytes = 256 << 10; // of a 1 MB L2, beside the weights

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

  StripJob(
      const GatherView& v,
      const AxisRun& r0,
      const AxisRun& r1,
      const AxisRun& r2,
      int threads)
      : v(v),
        run{r0, r1, r2},
        cut(v.lanes, 1) {
    taps = r0.taps * r1.taps * r2.taps;
    n = v.red * taps;
    inner = v.src.c == 1 && v.red > 1;
    in_place = std::is_same_v<S, A>;
    for (int d = 0; d < 3; ++d) {
      block[d] = d == 2 ? run[d].count : 1;
      in_place = in_place && run[d].taps == 1 &&
          StripAxis(run[d], 0, run[d].count).inside(v.src_size[d]);
    }
    if (in_place) {
      // Only the destination and the tiles' reach into L1 bound a block.
      block[1] = std::min(run[1].count, std::max<int64_t>(1, 512 / block[2]));
      block[2] = std::min<int64_t>(run[2].count, 512);
      strip = 0;
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
      strip = block_strip();
    }
    for (int d = 0; d < 3; ++d) {
      blocks[d] = (run[d].count + block[d] - 1) / block[d];
    }
    cut = ColumnCut<A>(v.lanes, block[2]);
    // With few pixels the weights are most of the bytes: then a thread packs
    // the columns it is about to use into its L2 instead of all of them going
    // through memory, and strips are packed again for each block of columns.
    private_panels =
        v.p.batch * v.src_size[0] * v.src_size[1] * v.src_size[2] * cut.blocks <
            v.lanes * taps &&
        v.p.groups * cut.blocks >= threads;
    const int64_t cells = v.p.batch * v.p.groups * block_count();
    chunks = cells >= 2 * threads || threads == 1
        ? 1
        : std::min(cut.blocks, (2 * threads + cells - 1) / cells);
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
          *off++ = c * layout.c + (j0 * axis[0].sb + axis[0].s0) * layout.s[0] +
              (j1 * axis[1].sb + axis[1].s0) * layout.s[1] +
              (j2 * axis[2].sb + axis[2].s0) * layout.s[2];
        });
  }

  struct Thread {
    A* strip;
    int64_t* off;
    A* panel;
  };
  Thread take_thread(Scratch& scratch) const {
    Thread t;
    t.strip = scratch.take<A>(strip);
    t.off = scratch.take<int64_t>(n);
    t.panel = scratch.take<A>(private_panels ? panel() : 0);
    return t;
  }
  struct Shared {
    int64_t* w_off;
    A* panels;
  };
  Shared take_shared(Scratch& scratch) const {
    Shared s;
    s.w_off = scratch.take<int64_t>(n);
    s.panels =
        scratch.take<A>(private_panels ? 0 : v.p.groups * cut.vectors * L * n);
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
            v.red, run, inner, [&](int64_t c, int64_t, int64_t, int64_t) {
              *off++ = c * v.src.c;
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

  void compute(
      const Cell& cell,
      const ColumnBlock& b,
      const int64_t* off,
      const A* panel,
      const A* bias, // of the group's first lane, or null
      S* dst) const {
    alignas(64) A acc[kMaxTileRows * kMaxTileVectors * L];
    const int width = b.vectors * L;
    const TileCut tiles(cell.count[2], tile_rows<A>(b.vectors));
    S* to = dst + cell.sample * v.dst.n + cell.group * v.dst_group +
        b.first * v.dst.c;
    const int64_t pixel = run[2].step * v.dst.s[2];
    for (int64_t d = 0; d < cell.count[0]; ++d) {
      for (int64_t h = 0; h < cell.count[1]; ++h) {
        const A* a = cell.base + d * cell.step[0] + h * cell.step[1];
        S* row = to +
            (run[0].p0 + (cell.first[0] + d) * run[0].step) * v.dst.s[0] +
            (run[1].p0 + (cell.first[1] + h) * run[1].step) * v.dst.s[1] +
            (run[2].p0 + cell.first[2] * run[2].step) * v.dst.s[2];
        for (int64_t i = 0; i < tiles.tiles; ++i) {
          const int rows = tiles.rows(i);
          const int64_t w = tiles.begin(i);
          tile_function<A, false>(rows, b.vectors)(
              a + w * cell.step[2],
              off,
              cell.step[2],
              panel,
              nullptr,
              width,
              n,
              acc,
              width,
              false);
          store_tile(
              acc,
              rows,
              width,
              b.valid,
              bias == nullptr ? nullptr : bias + b.first,
              row + w * pixel,
              v.dst.c,
              pixel);
        }
      }
    }
  }

  // bias: groups * cut.vectors * L values, padded per group; or null.
  void operator()(
      const S* src,
      const S* w,
      const A* bias,
      S* dst,
      void* workspace) const {
    Scratch scratch(workspace);
    const Shared shared = take_shared(scratch);
    char* threads = scratch.take<char>(0);
    Scratch count(nullptr);
    take_thread(count);
    const int64_t thread_bytes = count.used();
    const auto mine = [&] {
      Scratch piece(threads + thread_pool().thread_index() * thread_bytes);
      return take_thread(piece);
    };
    const int64_t lanes = cut.vectors * L;
    weight_offsets(v, run, inner, shared.w_off);
    const int64_t cells = v.p.batch * v.p.groups * block_count();
    const double work = 1.0 * v.p.batch * v.p.groups * run[0].count *
        run[1].count * run[2].count * lanes * n;
    if (private_panels) {
      const int64_t tasks = v.p.groups * cut.blocks;
      parallel_for(
          tasks, task_grain(tasks, work), [&](int64_t begin, int64_t end) {
            const Thread t = mine();
            Cell cell;
            for (int64_t task = begin; task < end; ++task) {
              const int64_t g = task / cut.blocks;
              const ColumnBlock b = cut.block(task % cut.blocks);
              pack_panel<S>(v, w, g, b, n, shared.w_off, t.panel);
              for (int64_t i = 0; i < v.p.batch; ++i) {
                for (int64_t k = 0; k < block_count(); ++k) {
                  enter(cell, (i * v.p.groups + g) * block_count() + k, src, t);
                  compute(
                      cell,
                      b,
                      t.off,
                      t.panel,
                      bias == nullptr ? nullptr : bias + g * lanes,
                      dst);
                }
              }
            }
          });
      return;
    }
    pack_all_panels<S>(v, w, cut, n, shared.w_off, shared.panels);
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
                  t.off,
                  shared.panels + (cell.group * lanes + b.first) * n,
                  bias == nullptr ? nullptr : bias + cell.group * lanes,
                  dst);
            }
          }
        });
  }
};

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
