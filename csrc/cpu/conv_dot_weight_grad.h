// weight_grad of bfloat16 by products of pairs. Read once, for AVX512_BF16.
//
// As in conv_weight_grad.h, rows are weight elements of a group, columns its
// output channels, and a task that owns some of both walks the pixels of all
// samples. What is paired are two pixels: a block is cut into halves of the
// same shape, whose strips of x are made one of words (x of the first half, x
// of the second), and so is gy. Hence every layout, stride, dilation and
// padding is as for single elements, and a pixel is multiplied with no other
// one's gradient.

namespace torchconv {
namespace cpu {
namespace TC_ISA {

struct DotWeightGrad {
  static constexpr int L = 16;
  static constexpr int64_t kStrip = 48 << 10; // elements of a block
  static constexpr int64_t kGradBytes = 128 << 10; // of a half's gy

  GatherView v; // of forward
  const ConvProblem& p;
  DotForm form; // of the strips: nothing is filled up
  int64_t taps;
  int64_t channels, chunks; // input channels of a task; tasks per group
  bool tap_rows; // rows of a tile: taps along the width, not channels
  ColumnCut<float> cut;
  int64_t group; // column blocks of a task, which share the strips
  int64_t block[3], blocks[3];
  int64_t pixels; // of a half, at most

  explicit DotWeightGrad(const ConvProblem& problem)
      : v(gather_view(problem, Pass::forward)),
        p(v.p),
        form(p, Pass::forward),
        taps(p.taps()),
        cut(1, 1) {
    const int64_t c = p.in_group();
    // Rows that use a packed gy; more would leave short halves of blocks.
    const int64_t enough =
        std::max<int64_t>(kMaxTileRows * 2, (192 + taps - 1) / taps);
    chunks = std::max<int64_t>(1, (c + enough / 2) / enough);
    channels = (c + chunks - 1) / chunks;
    chunks = (c + channels - 1) / channels;
    tap_rows = channels < 7 && p.kernel[2] > channels;
    cut = ColumnCut<float>(p.out_group(), tap_rows ? p.kernel[2] : channels);
    form.run = true;
    form.inner = p.x.c == 1 && c > 1;
    form.red = channels;
    const int64_t most = 2 * kGradBytes / (cut.wide * L * 4);
    block[0] = block[1] = 1;
    block[2] = std::min(p.out[2], most);
    while (elements() > kStrip && block[2] > 32) {
      block[2] = std::max<int64_t>(32, (block[2] + 1) / 2);
    }
    for (int d = 1; d >= 0; --d) {
      while (block[d] < p.out[d] && (d == 1 || block[1] == p.out[1])) {
        const int64_t before = block[d];
        block[d] = std::min(p.out[d], before + (before + 1) / 2);
        if (elements() > kStrip || block[0] * block[1] * block[2] > most) {
          block[d] = before;
          break;
        }
      }
    }
    // Rows go in twos.
    if (block[1] < p.out[1] && block[1] > 1) {
      block[1] = block[1] / 2 * 2;
    }
    for (int d = 0; d < 3; ++d) {
      block[d] = std::max<int64_t>(1, block[d]);
      blocks[d] = (p.out[d] + block[d] - 1) / block[d];
    }
    pixels = block[0] * block[1] * block[2];
    const int64_t acc_bytes = channels * taps * cut.wide * L * 4;
    group = std::max<int64_t>(
        1,
        std::min((256 << 10) / acc_bytes, p.groups * chunks * cut.blocks / 8));
    group = std::min(group, cut.blocks);
  }

  struct Part { // of the output's pixels
    int64_t first[3], count[3];
  };
  void axes(const Part& b, StripAxis (&a)[3]) const {
    for (int d = 0; d < 3; ++d) {
      a[d] = StripAxis(v.runs[d][0], b.first[d], b.count[d]);
    }
  }
  int64_t elements() const {
    const StripAxis a[3] = {
        {v.runs[0][0], 0, block[0]},
        {v.runs[1][0], 0, block[1]},
        {v.runs[2][0], 0, block[2]}};
    return DotStrip{v, form}.elements(a);
  }

  struct Thread {
    float* acc; // [channel][tap][column]
    uint32_t* x;
    uint32_t* gy;
    int64_t* off;
  };
  Thread take_thread(Scratch& scratch) const {
    Thread t;
    t.acc = scratch.take<float>(group * channels * taps * cut.wide * L);
    t.x = scratch.take<uint32_t>(elements() + L);
    t.gy = scratch.take<uint32_t>(pixels * cut.wide * L);
    t.off = scratch.take<int64_t>(pixels);
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

  // Calls f with two halves of a part, or with what has no other half and null.
  template <typename F>
  static void halve(Part a, F f) {
    for (int d = 1; d <= 2; ++d) {
      if (a.count[d] > 1) {
        Part b = a;
        b.count[d] = a.count[d] / 2;
        Part other = b;
        other.first[d] += b.count[d];
        f(b, &other);
        const int64_t done = 2 * b.count[d];
        a.first[d] += done;
        a.count[d] -= done;
        if (a.count[d] == 0) {
          return;
        }
      }
    }
    f(a, nullptr);
  }

  // 16 words of two rows, of which one or both may show zeros.
  static Vec<uint32_t> words(const uint16_t* a, const uint16_t* b, int n) {
    return a != nullptr ? dot_pairs(a, b, n)
        : b != nullptr  ? dot_pairs(b, nullptr, n) << 16
                        : Vec<uint32_t>{};
  }
  // Where the row (d, h) of a strip starts in x; null where it shows zeros.
  const uint16_t* row_of(
      const uint16_t* x,
      const StripAxis (&axis)[3],
      int64_t d,
      int64_t h) const {
    const int64_t z = source_index(axis[0].source(d), p.in[0], p.mode);
    const int64_t y = source_index(axis[1].source(h), p.in[1], p.mode);
    return z < 0 || y < 0 ? nullptr : x + z * p.x.s[0] + y * p.x.s[1];
  }
  const uint16_t* pixel_of(
      const uint16_t* row,
      const StripAxis& axis,
      int64_t slot) const {
    const int64_t i =
        row == nullptr ? -1 : source_index(axis.source(slot), p.in[2], p.mode);
    return i < 0 ? nullptr : row + i * p.x.s[2];
  }

  // One group's channels over two halves, as words.
  void pack_x(
      const uint16_t* x,
      const DotForm& chunk,
      const Part& a,
      const Part* b,
      const Thread& t) const {
    StripAxis low[3] = {
        {v.runs[0][0], 0, 1}, {v.runs[1][0], 0, 1}, {v.runs[2][0], 0, 1}};
    axes(a, low);
    StripAxis high[3] = {low[0], low[1], low[2]};
    if (b != nullptr) {
      axes(*b, high);
    }
    const DotStrip::Layout l = DotStrip{v, chunk}.layout(low);
    for (int64_t d = 0; d < low[0].slots; ++d) {
      for (int64_t h = 0; h < low[1].slots; ++h) {
        const uint16_t* from = row_of(x, low, d, h);
        const uint16_t* other = b == nullptr ? nullptr : row_of(x, high, d, h);
        uint32_t* to = t.x + d * l.s[0] + h * l.s[1];
        if (!chunk.inner) {
          pack_rows(from, low[2], other, high[2], chunk.red, l.c, to);
          continue;
        }
        // Pixels without gaps that lie inside, in both halves, are one row.
        int64_t first = 0, last = low[2].slots;
        bound(from, low[2], first, last);
        bound(other, high[2], first, last);
        if (!low[2].dense || p.x.s[2] != chunk.red || last <= first) {
          first = last = low[2].slots;
        }
        pack_pixels(from, low[2], other, high[2], chunk.red, 0, first, to);
        if (first < last) {
          pack_run(
              from == nullptr ? nullptr : pixel_of(from, low[2], first),
              other == nullptr ? nullptr : pixel_of(other, high[2], first),
              (last - first) * chunk.red,
              to + first * chunk.red);
        }
        pack_pixels(
            from, low[2], other, high[2], chunk.red, last, low[2].slots, to);
      }
    }
  }
  // Narrows [first, last) to the slots of a row that lie inside.
  void bound(
      const uint16_t* row,
      const StripAxis& axis,
      int64_t& first,
      int64_t& last) const {
    if (row != nullptr) {
      first = std::max(first, -axis.source(0));
      last = std::min(last, p.in[2] - axis.source(0));
    }
  }
  static void pack_run(
      const uint16_t* a,
      const uint16_t* b,
      int64_t length,
      uint32_t* to) {
    for (int64_t i = 0; i < length; i += L) {
      const int n = static_cast<int>(std::min<int64_t>(L, length - i));
      const Vec<uint32_t> word = words(
          a == nullptr ? nullptr : a + i, b == nullptr ? nullptr : b + i, n);
      _mm512_mask_storeu_epi32(
          to + i, static_cast<__mmask16>((1u << n) - 1u), (__m512i)word);
    }
  }
  // Slots begin .. end of a row, channels innermost.
  void pack_pixels(
      const uint16_t* from,
      const StripAxis& low,
      const uint16_t* other,
      const StripAxis& high,
      int64_t channels,
      int64_t begin,
      int64_t end,
      uint32_t* to) const {
    for (int64_t i = begin; i < end; ++i) {
      pack_run(
          pixel_of(from, low, i),
          pixel_of(other, high, i),
          channels,
          to + i * channels);
    }
  }
  // A row of slots of each channel.
  void pack_rows(
      const uint16_t* from,
      const StripAxis& low,
      const uint16_t* other,
      const StripAxis& high,
      int64_t channels,
      int64_t channel,
      uint32_t* to) const {
    // Slots that lie inside, in a run, for both.
    int64_t first = 0, last = low.slots;
    bound(from, low, first, last);
    bound(other, high, first, last);
    if (!low.dense || p.x.s[2] != 1 || last < first) {
      first = last = 0;
    }
    for (int64_t c = 0; c < channels; ++c, to += channel) {
      const auto single = [&](int64_t i) {
        const uint16_t* a = pixel_of(from, low, i);
        const uint16_t* b = pixel_of(other, high, i);
        to[i] = (a == nullptr ? 0u : a[c * p.x.c]) |
            (b == nullptr ? 0u : static_cast<uint32_t>(b[c * p.x.c]) << 16);
      };
      for (int64_t i = 0; i < first; ++i) {
        single(i);
      }
      const uint16_t* a =
          from == nullptr ? nullptr : from + c * p.x.c + low.source(0);
      const uint16_t* b =
          other == nullptr ? nullptr : other + c * p.x.c + high.source(0);
      pack_run(
          a == nullptr ? nullptr : a + first,
          b == nullptr ? nullptr : b + first,
          last - first,
          to + first);
      for (int64_t i = last; i < low.slots; ++i) {
        single(i);
      }
    }
  }

  // gy of two halves: [pixel][column].
  void pack_gy(
      const uint16_t* y,
      const ColumnBlock& columns,
      const Part& a,
      const Part* b,
      uint32_t* to) const {
    const int width = columns.vectors * L;
    const auto start = [&](const Part& part) {
      return y + part.first[0] * p.y.s[0] + part.first[1] * p.y.s[1] +
          part.first[2] * p.y.s[2];
    };
    const uint16_t* from = start(a);
    const int64_t other = b == nullptr ? 0 : start(*b) - from;
    // Rows without gaps are one.
    const bool joined = p.y.s[1] == a.count[2] * p.y.s[2];
    const int64_t rows = joined ? 1 : a.count[1];
    const int64_t length = joined ? a.count[1] * a.count[2] : a.count[2];
    for (int64_t d = 0; d < a.count[0]; ++d) {
      for (int64_t h = 0; h < rows; ++h, to += length * width) {
        pack_gy_row(
            from + d * p.y.s[0] + h * p.y.s[1],
            b == nullptr ? nullptr : &other,
            length,
            columns.valid,
            width,
            to);
      }
    }
  }
  void pack_gy_row(
      const uint16_t* row,
      const int64_t* other,
      int64_t length,
      int valid,
      int width,
      uint32_t* to) const {
    for (int lane = 0; lane < width; lane += L) {
      const int lanes = std::min(L, std::max(0, valid - lane));
      const uint16_t* from = row + lane * p.y.c;
      if (p.y.c == 1) {
        for (int64_t i = 0; i < length; ++i) {
          const uint16_t* a = from + i * p.y.s[2];
          const auto words =
              dot_pairs(a, other == nullptr ? nullptr : a + *other, lanes);
          std::memcpy(to + i * width + lane, &words, 64);
        }
      } else if (p.y.s[2] == 1) {
        for (int64_t i = 0; i < length; i += L) {
          const int count = static_cast<int>(std::min<int64_t>(L, length - i));
          Vec<float> square[L];
#pragma GCC unroll 16
          for (int l = 0; l < L; ++l) {
            const uint16_t* a = from + l * p.y.c + i;
            square[l] = l < lanes
                ? (Vec<float>)dot_pairs(
                      a, other == nullptr ? nullptr : a + *other, count)
                : Vec<float>{};
          }
          transpose_block<float>(square);
#pragma GCC unroll 16
          for (int k = 0; k < L; ++k) {
            if (k < count) {
              std::memcpy(to + (i + k) * width + lane, &square[k], 64);
            }
          }
        }
      } else {
        for (int64_t i = 0; i < length; ++i) {
          for (int l = 0; l < L; ++l) {
            const uint16_t* a = from + l * p.y.c + i * p.y.s[2];
            uint32_t word = 0;
            if (l < lanes) {
              word = *a;
              if (other != nullptr) {
                word |= static_cast<uint32_t>(a[*other]) << 16;
              }
            }
            to[i * width + lane + l] = word;
          }
        }
      }
    }
  }

  // Positions [from, to) of a part along the first dimension at which tap j
  // sees x.
  void inside(int64_t j, const Part& b, int64_t* from, int64_t* to) const {
    const AxisRun& r = v.runs[0][0];
    const int64_t start = j * r.b + r.c;
    const int64_t low = start >= 0 ? 0 : (-start + r.a - 1) / r.a;
    const int64_t high =
        start >= p.in[0] ? 0 : (p.in[0] - start + r.a - 1) / r.a;
    *from = std::min(b.count[0], std::max<int64_t>(0, low - b.first[0]));
    *to = std::max(*from, std::min(b.count[0], high - b.first[0]));
  }

  void accumulate(
      const DotForm& chunk,
      const Part& part,
      int vectors,
      float* all,
      const Thread& t) const {
    const int width = vectors * L;
    StripAxis axis[3] = {
        {v.runs[0][0], 0, 1}, {v.runs[1][0], 0, 1}, {v.runs[2][0], 0, 1}};
    axes(part, axis);
    const DotStrip::Layout l = DotStrip{v, chunk}.layout(axis);
    const int64_t row_step = tap_rows ? axis[2].sb * l.s[2] : l.c;
    const int64_t acc_step = tap_rows ? width : taps * width;
    const TileCut tiles(
        tap_rows ? p.kernel[2] : chunk.red, tile_rows<float>(vectors));
    const int64_t plane = part.count[1] * part.count[2];
    for (int64_t j0 = 0; j0 < p.kernel[0]; ++j0) {
      int64_t d0 = 0, d1 = part.count[0];
      if (p.mode == PaddingMode::zeros) {
        inside(j0, part, &d0, &d1);
      }
      const DotSteps steps = {
          t.off + d0 * plane, nullptr, (d1 - d0) * plane, 0};
      for (int64_t j1 = 0; steps.pairs > 0 && j1 < p.kernel[1]; ++j1) {
        for (int64_t j2 = 0; j2 < (tap_rows ? 1 : p.kernel[2]); ++j2) {
          const int64_t tap = (j0 * p.kernel[1] + j1) * p.kernel[2] + j2;
          for (int64_t c = 0; c < (tap_rows ? chunk.red : 1); ++c) {
            const uint32_t* a = t.x + c * l.c + axis[0].tap(j0) * l.s[0] +
                axis[1].tap(j1) * l.s[1] + axis[2].tap(j2) * l.s[2];
            float* acc = all + (c * taps + tap) * width;
            for (int64_t i = 0; i < tiles.tiles; ++i) {
              dot_function<false>(tiles.rows(i), vectors)(
                  reinterpret_cast<const uint16_t*>(
                      a + tiles.begin(i) * row_step),
                  2 * row_step,
                  reinterpret_cast<const uint16_t*>(t.gy + d0 * plane * width),
                  steps,
                  acc + tiles.begin(i) * acc_step,
                  acc_step,
                  true);
            }
          }
        }
      }
    }
  }

  // Column blocks first .. last of a group and one chunk of its channels.
  void run_task(
      int64_t g,
      int64_t first,
      int64_t last,
      int64_t chunk,
      const uint16_t* x,
      const uint16_t* y,
      bfloat16* w,
      const Thread& t) const {
    const int64_t c0 = chunk * channels;
    DotForm some = form;
    some.red = std::min(channels, p.in_group() - c0);
    const int64_t acc_size = channels * taps * cut.wide * L;
    std::fill_n(t.acc, (last - first) * acc_size, 0.0f);
    const int64_t block_count = blocks[0] * blocks[1] * blocks[2];
    for (int64_t i = 0; i < p.batch * block_count; ++i) {
      Part whole;
      int64_t rest = i % block_count;
      for (int d = 2; d >= 0; --d) {
        whole.first[d] = rest % blocks[d] * block[d];
        whole.count[d] = std::min(block[d], p.out[d] - whole.first[d]);
        rest /= blocks[d];
      }
      const int64_t sample = i / block_count;
      const uint16_t* x_from =
          x + sample * p.x.n + (g * p.in_group() + c0) * p.x.c;
      halve(whole, [&](const Part& a, const Part* b) {
        pack_x(x_from, some, a, b, t);
        StripAxis axis[3] = {
            {v.runs[0][0], 0, 1}, {v.runs[1][0], 0, 1}, {v.runs[2][0], 0, 1}};
        axes(a, axis);
        const DotStrip::Layout l = DotStrip{v, some}.layout(axis);
        int64_t* off = t.off;
        for (int64_t d = 0; d < a.count[0]; ++d) {
          for (int64_t h = 0; h < a.count[1]; ++h) {
            for (int64_t k = 0; k < a.count[2]; ++k) {
              *off++ = 2 *
                  (d * axis[0].sa * l.s[0] + h * axis[1].sa * l.s[1] +
                   k * axis[2].sa * l.s[2]);
            }
          }
        }
        for (int64_t k = first; k < last; ++k) {
          const ColumnBlock columns = cut.block(k);
          pack_gy(
              y + sample * p.y.n + (g * p.out_group() + columns.first) * p.y.c,
              columns,
              a,
              b,
              t.gy);
          accumulate(
              some, a, columns.vectors, t.acc + (k - first) * acc_size, t);
        }
      });
    }
    for (int64_t k = first; k < last; ++k) {
      const ColumnBlock columns = cut.block(k);
      store_weights<bfloat16>(
          p,
          g * p.out_group() + columns.first,
          c0,
          some.red,
          columns,
          t.acc + (k - first) * acc_size,
          w);
    }
  }

  void operator()(
      const uint16_t* x,
      const uint16_t* y,
      bfloat16* w,
      void* workspace) const {
    const int64_t parts = (cut.blocks + group - 1) / group;
    const int64_t tasks = p.groups * parts * chunks;
    const double work = 0.5 * p.batch * p.out_pixels() * p.groups *
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
