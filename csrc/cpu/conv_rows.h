// A gather (core/conv_gather.h) over affine runs with the pixels of a row in
// the vector lanes and destination channels as the rows of the tile: weights
// are read in place as broadcast scalars, source rows as vectors, and a row of
// NCHW output is stored as it is. For few channels, and for long rows, where
// packing weights or transposing tiles would cost more than the lanes that a
// row's end leaves empty. Read once per instruction set.

namespace torchconv {
namespace cpu {
namespace TC_ISA {

template <typename S>
struct RowsJob {
  using A = acc_t<S>;
  static constexpr int L = kLanes<A>;
  static constexpr bool kNative = std::is_same_v<S, A>;
  static constexpr int kSlack = kMaxTileVectors * L; // read past a row's end

  const GatherView& v;
  AxisRun run[3];
  int64_t taps, n;
  bool inner; // order of the reduction, that of StripJob
  bool copy_weights;
  bool in_place;
  int64_t block[3], blocks[3];
  int64_t strip;
  int64_t chunks; // in which destination channels are dealt out

  RowsJob(
      const GatherView& v,
      const AxisRun& r0,
      const AxisRun& r1,
      const AxisRun& r2,
      int threads)
      : v(v),
        run{r0, r1, r2} {
    taps = r0.taps * r1.taps * r2.taps;
    n = v.red * taps;
    inner = v.src.c == 1 && v.red > 1;
    copy_weights = !kNative || !v.folded.empty();
    // In place a whole vector must lie inside the row, so that the last one
    // can be moved back to end with it.
    in_place = kNative && v.src.s[2] == 1 && r2.a == 1 && r2.count >= kSlack;
    for (int d = 0; d < 3; ++d) {
      block[d] = d == 2 ? run[d].count : 1;
      in_place = in_place && run[d].taps > 0 &&
          StripAxis(run[d], 0, run[d].count).inside(v.src_size[d]);
    }
    if (in_place) {
      block[2] = std::min<int64_t>(block[2], 512);
    } else {
      while (block_strip() * (int64_t)sizeof(A) > kStripBytes &&
             block[2] > 4 * L) {
        block[2] = std::max<int64_t>(4 * L, (block[2] / 2 + L - 1) / L * L);
      }
      while (block[1] < run[1].count) {
        const int64_t before = block[1];
        block[1] = std::min(run[1].count, before + (before + 1) / 2);
        if (block_strip() * (int64_t)sizeof(A) > kStripBytes) {
          block[1] = before;
          break;
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
    const int64_t cells = std::max<int64_t>(
        1, v.p.batch * v.p.groups * blocks[0] * blocks[1] * blocks[2]);
    chunks = cells >= 2 * threads || threads == 1
        ? 1
        : std::min<int64_t>(
              (v.lanes + kMaxTileRows - 1) / kMaxTileRows,
              (2 * threads + cells - 1) / cells);
  }

  // The columns of a tile are neighbours in the strip.
  static StripAxis width_axis(const AxisRun& r, int64_t first, int64_t count) {
    StripAxis axis(r, first, count);
    axis.split_residues();
    return axis;
  }
  int64_t block_strip() const {
    const StripAxis axis[3] = {
        {run[0], 0, block[0]},
        {run[1], 0, block[1]},
        width_axis(run[2], 0, block[2])};
    return strip_elements(v.red, false, axis) + kSlack;
  }

  // Estimated cycles, to weigh against tiles with channels in the lanes.
  static double cycles(
      const GatherView& v,
      const AxisRun& r0,
      const AxisRun& r1,
      const AxisRun& r2) {
    const double n = 1.0 * v.red * r0.taps * r1.taps * r2.taps;
    const double rows = 1.0 * r0.count * r1.count;
    const int64_t vectors = (r2.count + L - 1) / L;
    // Fewer than 8 chains leave the multiply-adds waiting for one another.
    const int64_t tile = std::min<int64_t>(v.lanes, kMaxTileRows) *
        std::min<int64_t>(vectors, 4);
    const double wait = tile < 8 ? 8.0 / tile : 1.0;
    // Rows of weights whose distance is a multiple of a page share a few sets
    // of the L1.
    const int64_t line = v.w_lane * (int64_t)sizeof(S) / 64;
    const bool clash = v.folded.empty() && n > 256 && v.lanes > 8 &&
        (line % 16 == 0 || (line + 1) % 32 == 0 || (line - 1) % 32 == 0) &&
        kNative;
    const bool dense_out = r2.step * v.dst.s[2] == 1;
    const double read =
        (v.src.s[2] == 1 && r2.a == 1 ? 0.1 : 1.0) * n / r2.taps;
    return rows *
        (n * v.lanes * vectors / 2 * wait * (clash ? 2 : 1) + r2.count * read +
         v.lanes * r2.count * (dense_out ? 0.1 : 1.0)) +
        (kNative && v.folded.empty() ? 0.0 : 2.0 * v.lanes * n);
  }

  struct Thread {
    A* strip;
    int64_t* off;
  };
  Thread take_thread(Scratch& scratch) const {
    Thread t;
    t.strip = scratch.take<A>(strip);
    t.off = scratch.take<int64_t>(n);
    return t;
  }
  struct Shared {
    int64_t* w_off;
    A* w; // copied weights: [group][lane][n]
  };
  Shared take_shared(Scratch& scratch) const {
    Shared s;
    s.w_off = scratch.take<int64_t>(n);
    s.w = scratch.take<A>(copy_weights ? v.p.groups * v.lanes * n : 0);
    return s;
  }
  int64_t workspace(int threads) const {
    Scratch shared(nullptr), thread(nullptr);
    take_shared(shared);
    take_thread(thread);
    return shared.used() + threads * thread.used();
  }

  struct Cell {
    int64_t index = -1, sample, group, first[3], count[3];
    const A* base;
    int64_t step[2]; // in the strip, from row to row
  };
  void enter(Cell& cell, int64_t index, const S* src, const Thread& t) const {
    if (cell.index == index) {
      return;
    }
    cell.index = index;
    int64_t rest = index;
    for (int d = 2; d >= 0; --d) {
      // Nearly equal parts: none is shorter than a tile in place.
      const TileCut parts(run[d].count, block[d]);
      cell.first[d] = parts.begin(rest % blocks[d]);
      cell.count[d] = parts.rows(rest % blocks[d]);
      rest /= blocks[d];
    }
    cell.group = rest % v.p.groups;
    cell.sample = rest / v.p.groups;
    const S* from = src + cell.sample * v.src.n + cell.group * v.src_group;
    const StripAxis axis[3] = {
        {run[0], cell.first[0], cell.count[0]},
        {run[1], cell.first[1], cell.count[1]},
        width_axis(run[2], cell.first[2], cell.count[2])};
    StripLayout layout;
    int64_t* off = t.off;
    if (in_place) {
      layout = {v.src.c, {v.src.s[0], v.src.s[1], 1}};
      int64_t base = 0;
      for (int d = 0; d < 3; ++d) {
        base += axis[d].c * layout.s[d];
      }
      if constexpr (kNative) {
        cell.base = from + base;
      }
      cell.step[0] = axis[0].a * layout.s[0];
      cell.step[1] = axis[1].a * layout.s[1];
      each_reduction(
          v.red,
          run,
          inner,
          [&](int64_t c, int64_t j0, int64_t j1, int64_t j2) {
            *off++ = c * layout.c + j0 * axis[0].b * layout.s[0] +
                j1 * axis[1].b * layout.s[1] + j2 * axis[2].b;
          });
      return;
    }
    layout = strip_layout(v.red, false, axis);
    cell.base = t.strip;
    cell.step[0] = axis[0].sa * layout.s[0];
    cell.step[1] = axis[1].sa * layout.s[1];
    each_reduction(
        v.red, run, inner, [&](int64_t c, int64_t j0, int64_t j1, int64_t j2) {
          *off++ = c * layout.c + axis[0].tap(j0) * layout.s[0] +
              axis[1].tap(j1) * layout.s[1] + axis[2].tap(j2) * layout.s[2];
        });
    if (n > 0) {
      pack_strip(
          from, v.src, v.src_size, v.mode, v.red, false, axis, layout, t.strip);
    }
  }

  void store_rows(
      const A* acc,
      int rows,
      int width,
      int64_t count,
      const A* bias,
      S* dst,
      int64_t pixel) const {
    for (int p = 0; p < rows; ++p) {
      const A add = bias == nullptr ? A(0) : bias[p];
      S* to = dst + p * v.dst.c;
      const A* from = acc + p * width;
      if (pixel != 1) {
        for (int64_t i = 0; i < count; ++i) {
          to[i * pixel] = S(from[i] + add);
        }
        continue;
      }
      int64_t i = 0;
      for (; i + L <= count; i += L) {
        store_as(to + i, load(from + i) + add);
      }
      if (i < count) {
        store_as_partial(
            to + i, load(from + i) + add, static_cast<int>(count - i));
      }
    }
  }

  // Rows of a folded view: lane after lane, each with its phase, where its
  // positions lie inside. at: the position of column 0 in phase 0.
  void store_folded_rows(
      const A* acc,
      int64_t first_lane,
      int rows,
      int width,
      int64_t count,
      const A* bias,
      const int64_t (&at)[3],
      S* dst) const {
    const int64_t step = run[2].step, pixel = step * v.dst.s[2];
    for (int p = 0; p < rows; ++p) {
      const FoldedLane& lane = v.folded[first_lane + p];
      bool inside = true;
      for (int d = 0; d < 2; ++d) {
        const int64_t q = at[d] + lane.phase[d];
        inside = inside && q >= 0 && q < v.p.in[d];
      }
      if (!inside) {
        continue;
      }
      const A add = bias == nullptr ? A(0) : bias[first_lane + p];
      const A* from = acc + p * width;
      S* to = dst + lane.dst;
      const int64_t q = at[2] + lane.phase[2];
      int64_t i = q < 0 ? (step - 1 - q) / step : 0;
      const int64_t end = std::min(count, (v.p.in[2] - q + step - 1) / step);
      if (kNative && pixel == 2 && p + 1 < rows &&
          v.folded[first_lane + p + 1].dst == lane.dst + 1 && i == 0 &&
          at[2] + lane.phase[2] + 1 + (count - 1) * step < v.p.in[2]) {
        // Two phases side by side make a row without gaps.
        const A add1 = bias == nullptr ? A(0) : bias[first_lane + p + 1];
        for (; i + L <= count; i += L) {
          Vec<A> low, high;
          interleave<A>(
              load(from + i) + add, load(from + width + i) + add1, low, high);
          store_as(to + 2 * i, low);
          store_as(to + 2 * i + L, high);
        }
        for (; i < count; ++i) {
          to[2 * i] = S(from[i] + add);
          to[2 * i + 1] = S(from[width + i] + add1);
        }
        ++p;
        continue;
      }
      for (; i < end; ++i) {
        to[i * pixel] = S(from[i] + add);
      }
    }
  }

  void compute(
      const Cell& cell,
      int64_t first_lane,
      int64_t last_lane,
      const A* w,
      int64_t w_lane,
      const int64_t* w_off,
      const int64_t* off,
      const A* bias,
      S* dst,
      const Finish& finish) const {
    alignas(64) A acc[kMaxTileRows * kMaxTileVectors * L];
    const ColumnCut<A> cut(cell.count[2], last_lane - first_lane);
    const int64_t pixel = run[2].step * v.dst.s[2];
    S* to = dst + cell.sample * v.dst.n + cell.group * v.dst_group;
    for (int64_t d = 0; d < cell.count[0]; ++d) {
      for (int64_t h = 0; h < cell.count[1]; ++h) {
        const A* b = cell.base + d * cell.step[0] + h * cell.step[1];
        int64_t place[3] = {
            run[0].p0 + (cell.first[0] + d) * run[0].step,
            run[1].p0 + (cell.first[1] + h) * run[1].step,
            run[2].p0 + cell.first[2] * run[2].step};
        S* row = to + place[0] * v.dst.s[0] + place[1] * v.dst.s[1] +
            place[2] * v.dst.s[2];
        for (int64_t i = 0; i < cut.blocks; ++i) {
          const ColumnBlock columns = cut.block(i);
          const int width = columns.vectors * L;
          const int64_t at = in_place
              ? std::min(columns.first, cell.count[2] - width)
              : columns.first;
          const int64_t count = in_place ? width : columns.valid;
          const TileCut tiles(
              last_lane - first_lane, tile_rows<A>(columns.vectors));
          for (int64_t k = 0; k < tiles.tiles; ++k) {
            const int64_t lane = first_lane + tiles.begin(k);
            if constexpr (kNative) {
              if (v.folded.empty() && pixel == 1) {
                rows_function<A>(tiles.rows(k), columns.vectors)(
                    w + lane * w_lane,
                    w_off,
                    w_lane,
                    b + at,
                    off,
                    n,
                    bias == nullptr ? nullptr : bias + lane,
                    row + lane * v.dst.c + at,
                    v.dst.c,
                    static_cast<int>(count - width + L));
                continue;
              }
            }
            tile_function<A, true>(tiles.rows(k), columns.vectors)(
                w + lane * w_lane,
                w_off,
                w_lane,
                b + at,
                off,
                1,
                n,
                acc,
                width,
                false);
            if (!v.folded.empty()) {
              const int64_t tile_place[3] = {
                  place[0], place[1], place[2] + at * run[2].step};
              store_folded_rows(
                  acc,
                  lane,
                  tiles.rows(k),
                  width,
                  count,
                  bias,
                  tile_place,
                  row + at * pixel);
              continue;
            }
            store_rows(
                acc,
                tiles.rows(k),
                width,
                count,
                bias == nullptr ? nullptr : bias + lane,
                row + lane * v.dst.c + at * pixel,
                pixel);
          }
        }
        finish.block(
            row + first_lane * v.dst.c,
            last_lane - first_lane,
            v.dst.c,
            cell.count[2],
            pixel);
      }
    }
  }

  // bias: groups * padded_lanes values, as for StripJob; or null.
  void operator()(
      const S* src,
      const S* w,
      const A* bias,
      int64_t padded_lanes,
      S* dst,
      const Finish& finish,
      void* workspace) const {
    Scratch scratch(workspace);
    const Shared shared = take_shared(scratch);
    char* threads = scratch.take<char>(0);
    Scratch count(nullptr);
    take_thread(count);
    const int64_t thread_bytes = count.used();
    weight_offsets(v, run, inner, shared.w_off);
    if (copy_weights) {
      for (int64_t i = 0; i < v.p.groups * v.lanes; ++i) {
        const int64_t g = i / v.lanes, l = i % v.lanes;
        const S* from = w + g * v.w_group +
            (v.folded.empty() ? l * v.w_lane : v.folded[l].w);
        A* to = shared.w + i * n;
        int64_t r = 0;
        each_reduction(
            v.red,
            run,
            inner,
            [&](int64_t, int64_t j0, int64_t j1, int64_t j2) {
              const int64_t j[3] = {j0, j1, j2};
              to[r] = v.folded.empty() || tap_exists(v, run, v.folded[l], j)
                  ? static_cast<A>(from[shared.w_off[r]])
                  : A(0);
              ++r;
            });
      }
      for (int64_t r = 0; r < n; ++r) {
        shared.w_off[r] = r;
      }
    }
    const int64_t cells =
        v.p.batch * v.p.groups * blocks[0] * blocks[1] * blocks[2];
    const int64_t tasks = cells * chunks;
    const double work = 1.0 * v.p.batch * v.p.groups * run[0].count *
        run[1].count * run[2].count * v.lanes * n;
    parallel_for(
        tasks, task_grain(tasks, work), [&](int64_t begin, int64_t end) {
          Scratch piece(threads + thread_pool().thread_index() * thread_bytes);
          const Thread t = take_thread(piece);
          Cell cell;
          for (int64_t task = begin; task < end; ++task) {
            enter(cell, task / chunks, src, t);
            const int64_t g = cell.group;
            const A* weights = shared.w + g * v.lanes * n;
            int64_t w_lane = n;
            if constexpr (kNative) {
              if (!copy_weights) {
                weights = w + g * v.w_group;
                w_lane = v.w_lane;
              }
            }
            const int64_t chunk = task % chunks;
            compute(
                cell,
                v.lanes * chunk / chunks,
                v.lanes * (chunk + 1) / chunks,
                weights,
                w_lane,
                shared.w_off,
                t.off,
                bias == nullptr ? nullptr : bias + g * padded_lanes,
                dst,
                finish);
          }
        });
  }
};

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
