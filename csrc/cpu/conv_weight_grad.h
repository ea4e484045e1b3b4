// weight_grad by register tiles: rows are weight elements (c, t) of a group,
// columns its output channels, and the reduction runs over the pixels of all
// samples. gy is packed to [pixel][column]; x comes as strips (direct) or as
// blocks of columns (im2col). Read once per instruction set.
//
// A task owns some rows and columns and walks every sample and pixel in order,
// so that no sum is ever split between threads. All cuts follow from the
// problem alone. Pixels for which a tap sees zero padding are left out, row by
// row, and along the row where that is worth a list of its own.

namespace torchconv {
namespace cpu {
namespace TC_ISA {

template <typename S, bool Im2col>
struct WeightGradJob {
  using A = acc_t<S>;
  static constexpr int L = kLanes<A>;

  ConvProblem p;
  AxisRun run[3]; // of forward
  int64_t taps;
  int64_t channels, chunks; // input channels of a task; tasks per group
  bool tap_rows; // rows of a tile: taps along the width, not channels
  bool inner, in_place;
  ColumnCut<A> cut;
  int64_t group; // column blocks of a task, which share the strips
  int64_t block[3], blocks[3];
  int64_t pixels; // of a block, at most
  bool listed;

  explicit WeightGradJob(const ConvProblem& problem)
      : p(problem),
        taps(p.taps()),
        cut(1, 1) {
    const GatherView v = gather_view(p, Pass::forward);
    const int64_t c = p.in_group();
    for (int d = 0; d < 3; ++d) {
      run[d] = v.runs[d][0];
    }
    // Enough rows for each packed gy element to be used some 512 times, and
    // no more, so that there are tasks for many threads.
    const int64_t enough =
        std::max<int64_t>(kMaxTileRows * 2, (512 + taps - 1) / taps);
    chunks = std::max<int64_t>(1, (c + enough / 2) / enough);
    channels = (c + chunks - 1) / chunks;
    chunks = (c + channels - 1) / channels;
    tap_rows = !Im2col && channels < 7 && p.kernel[2] > channels;
    const int64_t rows = Im2col ? channels * taps
        : tap_rows              ? p.kernel[2]
                                : channels;
    cut = ColumnCut<A>(p.out_group(), rows);
    inner = !Im2col && p.x.c == 1 && c > 1;
    // Strips hold padding and other types; where there is neither, x serves.
    in_place = !Im2col && std::is_same_v<S, A>;
    for (int d = 0; d < 3; ++d) {
      in_place = in_place &&
          (run[d].count == 0 ||
           StripAxis(run[d], 0, run[d].count).inside(p.in[d]));
    }
    const int64_t most = (128 << 10) / (cut.wide * L * sizeof(A));
    block[0] = block[1] = 1;
    block[2] = std::min(run[2].count, most);
    while (operand() > limit() && block[2] > 16) {
      block[2] = std::max<int64_t>(16, (block[2] + 1) / 2);
    }
    for (int d = 1; d >= 0; --d) {
      while (block[d] < run[d].count && (d == 1 || block[1] == run[1].count)) {
        const int64_t before = block[d];
        block[d] = std::min(run[d].count, before + (before + 1) / 2);
        if (operand() > limit() || block[0] * block[1] * block[2] > most) {
          block[d] = before;
          break;
        }
      }
    }
    for (int d = 0; d < 3; ++d) {
      block[d] = std::max<int64_t>(1, block[d]);
      blocks[d] = (run[d].count + block[d] - 1) / block[d];
    }
    pixels = block[0] * block[1] * block[2];
    const int64_t acc_bytes = channels * taps * cut.wide * L * sizeof(A);
    group = std::max<int64_t>(
        1,
        std::min((256 << 10) / acc_bytes, p.groups * chunks * cut.blocks / 8));
    group = in_place ? 1 : std::min(group, cut.blocks);
    // Along a row the pixels that a tap sees are listed if they are few.
    int64_t seen = 0;
    for (int64_t j = 0; j < p.kernel[2]; ++j) {
      int64_t from, to;
      inside(2, j, 0, run[2].count, &from, &to);
      seen += to - from;
    }
    listed = !Im2col && !tap_rows && p.mode == PaddingMode::zeros &&
        seen * 10 <= 9 * run[2].count * p.kernel[2];
  }

  // Positions [from, to) of [first, first + count) at which tap j sees x.
  void inside(
      int d,
      int64_t j,
      int64_t first,
      int64_t count,
      int64_t* from,
      int64_t* to) const {
    const int64_t start = j * run[d].b + run[d].c; // of position 0
    const int64_t a = run[d].a;
    const int64_t low = start >= 0 ? 0 : (-start + a - 1) / a;
    const int64_t high = start >= p.in[d] ? 0 : (p.in[d] - start + a - 1) / a;
    *from = std::min(count, std::max<int64_t>(0, low - first));
    *to = std::max(*from, std::min(count, high - first));
  }

  int64_t limit() const {
    return kStripBytes / static_cast<int64_t>(sizeof(A));
  }
  int64_t operand() const { // elements of x that a block holds
    if (in_place) {
      return 0;
    }
    if constexpr (Im2col) {
      return channels * taps * block[0] * block[1] * block[2];
    }
    const StripAxis axis[3] = {
        {run[0], 0, block[0]}, {run[1], 0, block[1]}, {run[2], 0, block[2]}};
    return strip_elements(channels, inner, axis);
  }

  struct Thread {
    A* acc; // [channel][tap][column]
    A* x;
    A* gy;
    int64_t* x_off; // per pixel
    int64_t* gy_off;
    int64_t* x_list; // of the pixels that a tap sees
    int64_t* gy_list;
  };
  Thread take_thread(Scratch& scratch) const {
    Thread t;
    t.acc = scratch.take<A>(group * channels * taps * cut.wide * L);
    t.x = scratch.take<A>(operand());
    t.gy = scratch.take<A>(pixels * cut.wide * L);
    t.x_off = scratch.take<int64_t>(pixels);
    t.gy_off = scratch.take<int64_t>(pixels);
    t.x_list = scratch.take<int64_t>(listed ? pixels : 0);
    t.gy_list = scratch.take<int64_t>(listed ? pixels : 0);
    return t;
  }
  int64_t thread_bytes() const {
    Scratch scratch(nullptr);
    take_thread(scratch);
    return scratch.used();
  }
  int64_t workspace(int threads) const {
    return threads * thread_bytes();
  }

  struct Block {
    int64_t first[3], count[3], pixels;
  };

  template <typename F>
  void each_pixel(const Block& b, F f) const {
    for (int64_t d = 0; d < b.count[0]; ++d) {
      for (int64_t h = 0; h < b.count[1]; ++h) {
        for (int64_t w = 0; w < b.count[2]; ++w) {
          f(d, h, w);
        }
      }
    }
  }

  // x[c0 ..] of one sample and group over one block, as the tiles read it.
  struct Operand {
    const A* base;
    int64_t c, step[3]; // from channel to channel, from pixel to pixel
    int64_t row; // from tap to tap along the width
    StripAxis axis[3];
    StripLayout layout;
  };
  Operand enter(
      const S* x,
      int64_t channel_count,
      const Block& b,
      const Thread& t) const {
    Operand o = {
        t.x,
        0,
        {},
        0,
        {{run[0], b.first[0], b.count[0]},
         {run[1], b.first[1], b.count[1]},
         {run[2], b.first[2], b.count[2]}},
        {}};
    if (in_place) {
      o.layout = {p.x.c, {p.x.s[0], p.x.s[1], p.x.s[2]}};
      int64_t start = 0;
      for (int d = 0; d < 3; ++d) {
        start += o.axis[d].c * p.x.s[d];
        o.step[d] = o.axis[d].a * p.x.s[d];
        o.axis[d].sb = o.axis[d].b; // taps are where they are in x
        o.axis[d].s0 = 0;
      }
      if constexpr (std::is_same_v<S, A>) {
        o.base = x + start;
      }
    } else {
      o.layout = strip_layout(channel_count, inner, o.axis);
      for (int d = 0; d < 3; ++d) {
        o.step[d] = o.axis[d].sa * o.layout.s[d];
      }
      pack_strip(
          x, p.x, p.in, p.mode, channel_count, inner, o.axis, o.layout, t.x);
    }
    o.c = o.layout.c;
    o.row = o.axis[2].sb * o.layout.s[2];
    int64_t* off = t.x_off;
    each_pixel(b, [&](int64_t d, int64_t h, int64_t w) {
      *off++ = d * o.step[0] + h * o.step[1] + w * o.step[2];
    });
    return o;
  }

  // The tiles of one block. gy_off: where its rows lie, or null if packed.
  void accumulate_strips(
      const Operand& o,
      int64_t channel_count,
      const Block& b,
      const A* gy,
      const int64_t* gy_off,
      int vectors,
      A* all,
      const Thread& t) const {
    const int width = vectors * L;
    const int64_t row_count = tap_rows ? p.kernel[2] : channel_count;
    const TileCut tiles(row_count, tile_rows<A>(vectors));
    const int64_t row_step = tap_rows ? o.row : o.c;
    const int64_t acc_step = tap_rows ? width : taps * width;
    const auto run_tiles = [&](const A* a,
                               A* acc,
                               const int64_t* x_off,
                               const A* panel,
                               const int64_t* off,
                               int64_t scale,
                               int64_t n) {
      for (int64_t i = 0; n > 0 && i < tiles.tiles; ++i) {
        (off != nullptr ? tile_function<A, true>
                        : tile_function<A, false>)(tiles.rows(i), vectors)(
            a + tiles.begin(i) * row_step,
            x_off,
            row_step,
            panel,
            off,
            scale,
            n,
            acc + tiles.begin(i) * acc_step,
            acc_step,
            true);
      }
    };
    const int64_t row = b.count[2];
    for (int64_t j2 = 0; j2 < (tap_rows ? 1 : p.kernel[2]); ++j2) {
      int64_t w0 = 0, w1 = row;
      if (listed) {
        inside(2, j2, b.first[2], b.count[2], &w0, &w1);
      }
      const bool list = w1 - w0 < row;
      const int64_t seen = w1 - w0;
      if (list) {
        for (int64_t i = 0, k = 0; i < b.count[0] * b.count[1]; ++i) {
          for (int64_t w = i * row + w0; w < i * row + w1; ++w, ++k) {
            t.x_list[k] = t.x_off[w];
            t.gy_list[k] = gy_off != nullptr ? gy_off[w] : w * width;
          }
        }
      }
      for (int64_t j0 = 0; j0 < p.kernel[0]; ++j0) {
        int64_t d0 = 0, d1 = b.count[0];
        if (p.mode == PaddingMode::zeros) {
          inside(0, j0, b.first[0], b.count[0], &d0, &d1);
        }
        for (int64_t j1 = 0; j1 < p.kernel[1]; ++j1) {
          int64_t h0 = 0, h1 = b.count[1];
          if (p.mode == PaddingMode::zeros) {
            inside(1, j1, b.first[1], b.count[1], &h0, &h1);
          }
          const bool whole = h1 - h0 == b.count[1];
          const int64_t tap = (j0 * p.kernel[1] + j1) * p.kernel[2] + j2;
          for (int64_t c = 0; c < (tap_rows ? channel_count : 1); ++c) {
            const A* a = o.base + c * o.c + o.axis[0].tap(j0) * o.layout.s[0] +
                o.axis[1].tap(j1) * o.layout.s[1] +
                o.axis[2].tap(j2) * o.layout.s[2];
            A* acc = all + (c * taps + tap) * width;
            for (int64_t d = d0; d < d1; d += whole ? d1 - d0 : 1) {
              const int64_t rows = whole ? (d1 - d0) * b.count[1] : h1 - h0;
              const int64_t first = d * b.count[1] + h0;
              if (list) {
                run_tiles(
                    a,
                    acc,
                    t.x_list + first * seen,
                    gy,
                    t.gy_list + first * seen,
                    1,
                    rows * seen);
              } else if (gy_off != nullptr) {
                run_tiles(
                    a,
                    acc,
                    t.x_off + first * row,
                    gy,
                    gy_off + first * row,
                    1,
                    rows * row);
              } else {
                run_tiles(
                    a,
                    acc,
                    t.x_off + first * row,
                    gy + first * row * width,
                    nullptr,
                    width,
                    rows * row);
              }
            }
          }
        }
      }
    }
  }

  void accumulate_columns(
      const S* x,
      int64_t channel_count,
      const Block& b,
      const A* gy,
      const int64_t* gy_off,
      int vectors,
      A* acc,
      const Thread& t) const {
    const int64_t rows = channel_count * taps;
    int64_t pixel = 0;
    each_pixel(b, [&](int64_t d, int64_t h, int64_t w) {
      A* to = t.x + pixel * rows;
      t.x_off[pixel++] = to - t.x;
      const int64_t m[3] = {b.first[0] + d, b.first[1] + h, b.first[2] + w};
      const auto source = [&](int i, int64_t j) {
        return source_index(
            m[i] * run[i].a + j * run[i].b + run[i].c, p.in[i], p.mode);
      };
      for (int64_t j0 = 0; j0 < p.kernel[0]; ++j0) {
        const int64_t s0 = source(0, j0);
        for (int64_t j1 = 0; j1 < p.kernel[1]; ++j1) {
          const int64_t s1 = source(1, j1);
          for (int64_t j2 = 0; j2 < p.kernel[2]; ++j2, ++to) {
            const int64_t s2 = source(2, j2);
            const bool outside = s0 < 0 || s1 < 0 || s2 < 0;
            const S* from = x +
                (outside ? 0 : s0 * p.x.s[0] + s1 * p.x.s[1] + s2 * p.x.s[2]);
            for (int64_t c = 0; c < channel_count; ++c) {
              to[c * taps] = outside ? A(0) : static_cast<A>(from[c * p.x.c]);
            }
          }
        }
      }
    });
    const int width = vectors * L;
    const TileCut tiles(rows, tile_rows<A>(vectors));
    for (int64_t i = 0; i < tiles.tiles; ++i) {
      (gy_off != nullptr ? tile_function<A, true>
                         : tile_function<A, false>)(tiles.rows(i), vectors)(
          t.x + tiles.begin(i),
          t.x_off,
          1,
          gy,
          gy_off,
          gy_off != nullptr ? 1 : width,
          b.pixels,
          acc + tiles.begin(i) * width,
          width,
          true);
    }
  }

  // Column blocks first .. last of a group and one chunk of its channels.
  void run_task(
      int64_t g,
      int64_t first,
      int64_t last,
      int64_t chunk,
      const S* x,
      const S* y,
      S* w,
      const Thread& t) const {
    const int64_t c0 = chunk * channels;
    const int64_t channel_count = std::min(channels, p.in_group() - c0);
    const int64_t acc_size = channels * taps * cut.wide * L;
    std::fill_n(t.acc, (last - first) * acc_size, A(0));
    const int64_t block_count = blocks[0] * blocks[1] * blocks[2];
    for (int64_t i = 0; i < p.batch * block_count; ++i) {
      Block b;
      int64_t rest = i % block_count;
      for (int d = 2; d >= 0; --d) {
        b.first[d] = rest % blocks[d] * block[d];
        b.count[d] = std::min(block[d], run[d].count - b.first[d]);
        rest /= blocks[d];
      }
      b.pixels = b.count[0] * b.count[1] * b.count[2];
      const int64_t sample = i / block_count;
      const S* x_from = x + sample * p.x.n + (g * p.in_group() + c0) * p.x.c;
      int64_t* off = t.gy_off;
      each_pixel(b, [&](int64_t d, int64_t h, int64_t w_) {
        *off++ = (b.first[0] + d) * p.y.s[0] + (b.first[1] + h) * p.y.s[1] +
            (b.first[2] + w_) * p.y.s[2];
      });
      const auto each_block = [&](auto accumulate) {
        for (int64_t k = first; k < last; ++k) {
          const ColumnBlock columns = cut.block(k);
          const int width = columns.vectors * L;
          const S* gy_from =
              y + sample * p.y.n + (g * p.out_group() + columns.first) * p.y.c;
          const A* gy = t.gy;
          const int64_t* gy_off = nullptr;
          if (std::is_same_v<S, A> && p.y.c == 1 && columns.valid == width) {
            if constexpr (std::is_same_v<S, A>) {
              gy = gy_from;
            }
            gy_off = t.gy_off;
          } else {
            pack_columns(
                gy_from, p.y.c, t.gy_off, b.pixels, columns.valid, width, t.gy);
          }
          accumulate(
              gy, gy_off, columns.vectors, t.acc + (k - first) * acc_size);
        }
      };
      if constexpr (Im2col) {
        each_block([&](const A* gy, const int64_t* gy_off, int v, A* acc) {
          accumulate_columns(x_from, channel_count, b, gy, gy_off, v, acc, t);
        });
      } else {
        const Operand o = enter(x_from, channel_count, b, t);
        each_block([&](const A* gy, const int64_t* gy_off, int v, A* acc) {
          accumulate_strips(o, channel_count, b, gy, gy_off, v, acc, t);
        });
      }
    }
    for (int64_t k = first; k < last; ++k) {
      const ColumnBlock columns = cut.block(k);
      store_weights<S>(
          p,
          g * p.out_group() + columns.first,
          c0,
          channel_count,
          columns,
          t.acc + (k - first) * acc_size,
          w);
    }
  }

  void operator()(const S* x, const S* y, S* w, void* workspace) const {
    const int64_t parts = (cut.blocks + group - 1) / group;
    const int64_t tasks = p.groups * parts * chunks;
    const double work = 1.0 * p.batch * p.out_pixels() * p.groups *
        cut.vectors * L * p.in_group() * taps;
    const int64_t bytes = thread_bytes();
    parallel_for(
        tasks, task_grain(tasks, work), [&](int64_t begin, int64_t end) {
          Scratch piece(
              static_cast<char*>(workspace) +
              thread_pool().thread_index() * bytes);
          const Thread t = take_thread(piece);
          for (int64_t task = begin; task < end; ++task) {
            const int64_t part = task / chunks % parts;
            run_task(
                task / chunks / parts,
                cut.blocks * part / parts,
                cut.blocks * (part + 1) / parts,
                task % chunks,
                x,
                y,
                w,
                t);
          }
        });
  }
};

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
