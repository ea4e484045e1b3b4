// A gather (core/conv_gather.h) of bfloat16 by products of channel pairs. Read
// once, for AVX512_BF16.
//
// As in conv_strip.h, what a block of pixels reads is copied with its padding
// into a strip in L2, here with channels innermost and their number made even,
// so that a pair is one 32-bit element: it is broadcast, and multiplied with a
// vector of the same pair's weights for 16 destination channels. The products
// of a pair are added to a float32 sum; sums run over taps, then pairs.

namespace torchconv {
namespace cpu {
namespace TC_ISA {

constexpr int64_t kDotStripBytes = 256 << 10;

template <int P, int V>
void dot_tile(
    const uint16_t* __restrict a,
    const int64_t* __restrict a_off,
    int64_t ps,
    const uint16_t* __restrict b,
    int64_t n,
    float* __restrict acc) {
  __m512 c[P][V];
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      c[p][v] = _mm512_setzero_ps();
    }
  }
  for (int64_t r = 0; r < n; ++r) {
    const uint16_t* ar = a + a_off[r];
    __m512bh y[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      y[v] = (__m512bh)_mm512_loadu_si512(b + v * 32);
    }
    b += V * 32;
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
      int pair;
      std::memcpy(&pair, ar + p * ps, 4);
      const __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        c[p][v] = _mm512_dpbf16_ps(c[p][v], x, y[v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      _mm512_storeu_ps(acc + (p * V + v) * 16, c[p][v]);
    }
  }
}

using DotFn = void (*)(
    const uint16_t*,
    const int64_t*,
    int64_t,
    const uint16_t*,
    int64_t,
    float*);

template <int V, int... P>
inline DotFn dot_of_rows(int rows, std::integer_sequence<int, P...>) {
  static constexpr DotFn table[] = {dot_tile<P + 1, V>...};
  return table[rows - 1];
}
inline DotFn dot_function(int rows, int vectors) {
  return vectors == 4
      ? dot_of_rows<4>(rows, std::make_integer_sequence<int, 7>())
      : vectors == 2
      ? dot_of_rows<2>(rows, std::make_integer_sequence<int, 14>())
      : dot_of_rows<1>(rows, std::make_integer_sequence<int, 14>());
}

// 16 elements of two rows, as pairs.
inline Vec<uint32_t> dot_pairs(const uint16_t* a, const uint16_t* b, int n) {
  const __mmask16 mask = static_cast<__mmask16>((1u << n) - 1u);
  const __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, a));
  const __m512i high = b == nullptr
      ? _mm512_setzero_si512()
      : _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, b));
  return (Vec<uint32_t>)_mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

// store_tile (conv_pack.h) with the processor's own rounding to bfloat16.
inline void dot_store(
    const float* acc,
    int rows,
    int width,
    int valid,
    const float* bias,
    bfloat16* dst,
    int64_t lane_stride,
    int64_t pixel_stride) {
  if (lane_stride != 1 && pixel_stride != 1) {
    store_tile<bfloat16>(
        acc, rows, width, valid, bias, dst, lane_stride, pixel_stride);
    return;
  }
  const auto put = [](bfloat16* to, Vec<float> x, int n) {
    _mm256_mask_storeu_epi16(
        to,
        static_cast<__mmask16>((1u << n) - 1u),
        (__m256i)_mm512_cvtneps_pbh((__m512)x));
  };
  for (int lane = 0; lane < valid; lane += 16) {
    const int lanes = std::min(16, valid - lane);
    const Vec<float> add = bias == nullptr ? Vec<float>{} : load(bias + lane);
    if (lane_stride == 1) {
      for (int p = 0; p < rows; ++p) {
        put(dst + p * pixel_stride + lane,
            load(acc + p * width + lane) + add,
            lanes);
      }
      continue;
    }
    Vec<float> square[16];
#pragma GCC unroll 16
    for (int p = 0; p < 16; ++p) {
      square[p] = p < rows ? load(acc + p * width + lane) + add : Vec<float>{};
    }
    transpose_block<float>(square);
#pragma GCC unroll 16
    for (int l = 0; l < 16; ++l) {
      if (l < lanes) {
        put(dst + (lane + l) * lane_stride, square[l], rows);
      }
    }
  }
}

struct DotJob {
  static constexpr int L = 16;

  const GatherView& v;
  AxisRun run[3];
  int64_t taps, pairs, n; // n: pairs of the whole reduction
  bool in_place;
  int64_t block[3], blocks[3];
  int64_t strip; // elements
  ColumnCut<float> cut;
  int64_t chunks;

  DotJob(
      const GatherView& v,
      const AxisRun& r0,
      const AxisRun& r1,
      const AxisRun& r2,
      int threads)
      : v(v),
        run{r0, r1, r2},
        cut(v.lanes, 1) {
    taps = r0.taps * r1.taps * r2.taps;
    pairs = (v.red + 1) / 2;
    n = taps * pairs;
    in_place = v.src.c == 1 && v.red % 2 == 0;
    for (int d = 0; d < 3; ++d) {
      block[d] = d == 2 ? run[d].count : 1;
      in_place = in_place && run[d].taps == 1 &&
          StripAxis(run[d], 0, run[d].count).inside(v.src_size[d]);
    }
    if (in_place) {
      block[2] = std::min<int64_t>(block[2], 512);
      block[1] = std::min(run[1].count, std::max<int64_t>(1, 512 / block[2]));
    } else {
      while (elements() * 2 > kDotStripBytes && block[2] > 14) {
        block[2] = std::max<int64_t>(14, (block[2] + 1) / 2);
      }
      while (block[1] < run[1].count && block[2] == run[2].count) {
        ++block[1];
        if (elements() * 2 > kDotStripBytes) {
          --block[1];
          break;
        }
      }
      if (threads > 1 && v.p.batch * v.p.groups < threads) {
        block[1] = std::min(
            block[1],
            std::max<int64_t>(1, (run[1].count + threads - 1) / threads));
      }
    }
    strip = in_place ? 0 : elements();
    for (int d = 0; d < 3; ++d) {
      blocks[d] = (run[d].count + block[d] - 1) / block[d];
    }
    cut = ColumnCut<float>(v.lanes, block[2]);
    const int64_t all = cells();
    chunks = threads == 1 || all >= 2 * threads
        ? 1
        : std::min(cut.blocks, (2 * threads + all - 1) / all);
  }

  int64_t cells() const {
    return v.p.batch * v.p.groups * blocks[0] * blocks[1] * blocks[2];
  }
  StripAxis axis(int d, int64_t first, int64_t count) const {
    return StripAxis(run[d], first, count);
  }
  int64_t elements() const {
    return axis(0, 0, block[0]).slots * axis(1, 0, block[1]).slots *
        axis(2, 0, block[2]).slots * pairs * 2;
  }

  struct Thread {
    uint16_t* strip;
    int64_t* off;
  };
  Thread take_thread(Scratch& scratch) const {
    Thread t;
    t.strip = scratch.take<uint16_t>(strip);
    t.off = scratch.take<int64_t>(n);
    return t;
  }
  int64_t panels() const { // elements of a group
    return cut.vectors * L * n * 2;
  }
  int64_t workspace(int threads) const {
    Scratch shared(nullptr), thread(nullptr);
    shared.take<uint16_t>(v.p.groups * panels());
    take_thread(thread);
    return shared.used() + threads * thread.used();
  }

  // -- weights: [tap][pair][lane] of one block of columns

  void pack_panel(const uint16_t* w, const ColumnBlock& b, uint16_t* to) const {
    const int width = b.vectors * L;
    const uint16_t* from = w + b.first * v.w_lane;
    for (int64_t j0 = 0; j0 < run[0].taps; ++j0) {
      for (int64_t j1 = 0; j1 < run[1].taps; ++j1) {
        for (int64_t j2 = 0; j2 < run[2].taps; ++j2) {
          pack_tap(
              from + (run[0].t0 + j0 * run[0].tstep) * v.w_tap[0] +
                  (run[1].t0 + j1 * run[1].tstep) * v.w_tap[1] +
                  (run[2].t0 + j2 * run[2].tstep) * v.w_tap[2],
              b.valid,
              width,
              to);
          to += pairs * width * 2;
        }
      }
    }
  }
  void pack_tap(const uint16_t* from, int valid, int width, uint16_t* to)
      const {
    if (v.w_lane == 1) {
      for (int64_t q = 0; q < pairs; ++q) {
        const uint16_t* a = from + 2 * q * v.w_red;
        const uint16_t* b = 2 * q + 1 < v.red ? a + v.w_red : nullptr;
        for (int lane = 0; lane < width; lane += L) {
          const int count = std::min(L, std::max(0, valid - lane));
          const auto x =
              dot_pairs(a + lane, b == nullptr ? nullptr : b + lane, count);
          std::memcpy(to + (q * width + lane) * 2, &x, 64);
        }
      }
      return;
    }
    for (int lane = 0; lane < width; lane += L) {
      for (int64_t q = 0; q < pairs; q += L) {
        const int count = static_cast<int>(std::min<int64_t>(L, pairs - q));
        Vec<float> square[L];
        for (int i = 0; i < L; ++i) {
          alignas(64) uint32_t row[L] = {};
          if (lane + i < valid) {
            const uint16_t* a = from + (lane + i) * v.w_lane + 2 * q * v.w_red;
            const int64_t left = v.red - 2 * q;
            if (v.w_red == 1 && left >= 2 * L) {
              std::memcpy(row, a, 64);
            } else {
              for (int k = 0; k < count; ++k) {
                row[k] = a[2 * k * v.w_red];
                if (2 * k + 1 < left) {
                  row[k] |= static_cast<uint32_t>(a[(2 * k + 1) * v.w_red])
                      << 16;
                }
              }
            }
          }
          std::memcpy(&square[i], row, 64);
        }
        transpose_block<float>(square);
        for (int k = 0; k < count; ++k) {
          std::memcpy(to + ((q + k) * width + lane) * 2, &square[k], 64);
        }
      }
    }
  }

  // -- strips: [slot 0][slot 1][slot 2][channel]

  void pack_strip(const uint16_t* src, const StripAxis (&axes)[3], uint16_t* to)
      const {
    const int64_t pixel = pairs * 2, slots = axes[2].slots;
    for (int64_t d = 0; d < axes[0].slots; ++d) {
      const int64_t z = source_index(axes[0].source(d), v.src_size[0], v.mode);
      for (int64_t h = 0; h < axes[1].slots; ++h, to += slots * pixel) {
        const int64_t y =
            source_index(axes[1].source(h), v.src_size[1], v.mode);
        if (z < 0 || y < 0) {
          std::fill_n(to, slots * pixel, uint16_t(0));
          continue;
        }
        const uint16_t* row = src + z * v.src.s[0] + y * v.src.s[1];
        int64_t i = 0;
        if (v.src.c != 1 && v.src.s[2] == 1 && axes[2].dense) {
          const int64_t start = axes[2].source(0);
          const int64_t first = std::min(slots, std::max<int64_t>(0, -start));
          const int64_t last = std::min(slots, v.src_size[2] - start);
          single(row, axes[2], i, first, to);
          i = first;
          for (; i < last; i += L) {
            const int count = static_cast<int>(std::min<int64_t>(L, last - i));
            turn(row + start + i, count, to + i * pixel);
          }
          i = std::max(first, last);
        }
        single(row, axes[2], i, slots, to);
      }
    }
  }
  void single(
      const uint16_t* row,
      const StripAxis& axis,
      int64_t begin,
      int64_t end,
      uint16_t* to) const {
    const int64_t pixel = pairs * 2;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t x = source_index(axis.source(i), v.src_size[2], v.mode);
      uint16_t* at = to + i * pixel;
      if (x < 0) {
        std::fill_n(at, pixel, uint16_t(0));
        continue;
      }
      at[pixel - 1] = 0;
      const uint16_t* from = row + x * v.src.s[2];
      if (v.src.c == 1) {
        std::memcpy(at, from, v.red * 2);
      } else {
        for (int64_t c = 0; c < v.red; ++c) {
          at[c] = from[c * v.src.c];
        }
      }
    }
  }
  // Up to 16 neighbouring pixels of all channels.
  void turn(const uint16_t* from, int count, uint16_t* to) const {
    for (int64_t q = 0; q < pairs; q += L) {
      const int rows = static_cast<int>(std::min<int64_t>(L, pairs - q));
      Vec<float> square[L];
      for (int i = 0; i < L; ++i) {
        const uint16_t* a = from + 2 * (q + i) * v.src.c;
        square[i] = i >= rows
            ? Vec<float>{}
            : (Vec<float>)dot_pairs(
                  a, 2 * (q + i) + 1 < v.red ? a + v.src.c : nullptr, count);
      }
      transpose_block<float>(square);
      const __mmask16 mask = static_cast<__mmask16>((1u << rows) - 1u);
      for (int p = 0; p < count; ++p) {
        _mm512_mask_storeu_epi32(
            to + (p * pairs + q) * 2, mask, (__m512i)square[p]);
      }
    }
  }

  // -- all of it

  void compute(
      int64_t cell,
      int64_t chunk,
      const uint16_t* src,
      const uint16_t* panel,
      const float* bias,
      int64_t bias_group,
      bfloat16* dst,
      const Thread& t,
      int64_t& packed) const {
    int64_t first[3], count[3];
    int64_t rest = cell;
    for (int d = 2; d >= 0; --d) {
      first[d] = rest % blocks[d] * block[d];
      count[d] = std::min(block[d], run[d].count - first[d]);
      rest /= blocks[d];
    }
    const int64_t g = rest % v.p.groups, sample = rest / v.p.groups;
    const uint16_t* from = src + sample * v.src.n + g * v.src_group;
    const StripAxis axes[3] = {
        axis(0, first[0], count[0]),
        axis(1, first[1], count[1]),
        axis(2, first[2], count[2])};
    int64_t step[3], slot[3];
    const uint16_t* base = t.strip;
    if (in_place) {
      base = from;
      for (int d = 0; d < 3; ++d) {
        slot[d] = v.src.s[d];
        step[d] = axes[d].a * slot[d];
        base += axes[d].c * slot[d];
      }
    } else {
      slot[2] = pairs * 2;
      slot[1] = slot[2] * axes[2].slots;
      slot[0] = slot[1] * axes[1].slots;
      for (int d = 0; d < 3; ++d) {
        step[d] = axes[d].sa * slot[d];
      }
    }
    if (packed != cell) {
      packed = cell;
      int64_t* off = t.off;
      for (int64_t j0 = 0; j0 < run[0].taps; ++j0) {
        for (int64_t j1 = 0; j1 < run[1].taps; ++j1) {
          for (int64_t j2 = 0; j2 < run[2].taps; ++j2) {
            for (int64_t q = 0; q < pairs; ++q) {
              *off++ = in_place
                  ? 2 * q
                  : axes[0].tap(j0) * slot[0] + axes[1].tap(j1) * slot[1] +
                      axes[2].tap(j2) * slot[2] + 2 * q;
            }
          }
        }
      }
      if (!in_place && n > 0) {
        pack_strip(from, axes, t.strip);
      }
    }
    alignas(64) float acc[14 * 2 * L];
    const int64_t pixel = run[2].step * v.dst.s[2];
    for (int64_t i = cut.blocks * chunk / chunks;
         i < cut.blocks * (chunk + 1) / chunks;
         ++i) {
      const ColumnBlock b = cut.block(i);
      const TileCut tiles(count[2], tile_rows<float>(b.vectors));
      const uint16_t* weights = panel + g * panels() + b.first * n * 2;
      const float* add =
          bias == nullptr ? nullptr : bias + g * bias_group + b.first;
      for (int64_t d = 0; d < count[0]; ++d) {
        for (int64_t h = 0; h < count[1]; ++h) {
          const uint16_t* a = base + d * step[0] + h * step[1];
          bfloat16* row = dst + sample * v.dst.n + g * v.dst_group +
              b.first * v.dst.c +
              (run[0].p0 + (first[0] + d) * run[0].step) * v.dst.s[0] +
              (run[1].p0 + (first[1] + h) * run[1].step) * v.dst.s[1] +
              (run[2].p0 + first[2] * run[2].step) * v.dst.s[2];
          for (int64_t j = 0; j < tiles.tiles; ++j) {
            const int rows = tiles.rows(j);
            const int64_t w = tiles.begin(j);
            dot_function(rows, b.vectors)(
                a + w * step[2], t.off, step[2], weights, n, acc);
            dot_store(
                acc,
                rows,
                b.vectors * L,
                b.valid,
                add,
                row + w * pixel,
                v.dst.c,
                pixel);
          }
        }
      }
    }
  }

  void operator()(
      const uint16_t* src,
      const uint16_t* w,
      const float* bias,
      int64_t bias_group,
      bfloat16* dst,
      void* workspace) const {
    Scratch scratch(workspace);
    uint16_t* const panel = scratch.take<uint16_t>(v.p.groups * panels());
    char* const threads = scratch.take<char>(0);
    Scratch size(nullptr);
    take_thread(size);
    const int64_t thread_bytes = size.used();
    const int64_t packs = v.p.groups * cut.blocks;
    parallel_for(
        packs,
        task_grain(packs, 2.0 * v.p.groups * panels()),
        [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) {
            const int64_t g = i / cut.blocks;
            const ColumnBlock b = cut.block(i % cut.blocks);
            pack_panel(
                w + g * v.w_group, b, panel + g * panels() + b.first * n * 2);
          }
        });
    const int64_t tasks = cells() * chunks;
    const double work = 1.0 * v.p.batch * v.p.groups * run[0].count *
        run[1].count * run[2].count * cut.vectors * L * n;
    parallel_for(
        tasks, task_grain(tasks, work), [&](int64_t begin, int64_t end) {
          Scratch piece(threads + thread_pool().thread_index() * thread_bytes);
          const Thread t = take_thread(piece);
          int64_t packed = -1;
          for (int64_t i = begin; i < end; ++i) {
            compute(
                i / chunks,
                i % chunks,
                src,
                panel,
                bias,
                bias_group,
                dst,
                t,
                packed);
          }
        });
  }
};

// Windows and filters by pairs (conv_patch.h).
struct PairProducts {
  using Storage = bfloat16;
  using A = float;
  using Factor = __m512bh;
  static constexpr int kStep = 32;
  static Factor read(const bfloat16* p) {
    return (__m512bh)_mm512_loadu_si512(p);
  }
  static Factor read_partial(const bfloat16* p, int n) {
    return (__m512bh)_mm512_maskz_loadu_epi16((1u << n) - 1u, p);
  }
  static void step(Vec<float>& acc, Factor x, Factor w) {
    acc = (Vec<float>)_mm512_dpbf16_ps((__m512)acc, x, w);
  }
};

template <typename F>
void each_dot_job(const GatherView& v, int threads, F f) {
  for (const AxisRun& r0 : v.runs[0]) {
    for (const AxisRun& r1 : v.runs[1]) {
      for (const AxisRun& r2 : v.runs[2]) {
        if (v.p.batch * r0.count * r1.count * r2.count > 0) {
          f(DotJob(v, r0, r1, r2, threads));
        }
      }
    }
  }
}

inline int64_t dot_workspace(const ConvProblem& p, Pass pass, int threads) {
  const PatchForm form = patch_form(p, pass, PairProducts::kStep);
  if (pass == Pass::forward && form.takes) {
    return threads * PatchForward<PairProducts>(p, form).thread_bytes();
  }
  const GatherView v = gather_view(p, pass);
  Scratch scratch(nullptr);
  scratch.take<float>(p.groups * ((v.lanes + 15) / 16 * 16));
  int64_t most = 0;
  each_dot_job(v, threads, [&](const DotJob& job) {
    most = std::max(most, job.workspace(threads));
  });
  return scratch.used() + most;
}

inline void dot_run(
    const ConvProblem& p,
    Pass pass,
    const ConvTensors& t,
    void* workspace) {
  const bool fwd = pass == Pass::forward;
  const PatchForm form = patch_form(p, pass, PairProducts::kStep);
  if (fwd && form.takes) {
    PatchForward<PairProducts>(p, form)(
        static_cast<const bfloat16*>(t.x),
        static_cast<const bfloat16*>(t.w),
        static_cast<const bfloat16*>(t.bias),
        static_cast<bfloat16*>(t.y),
        workspace);
    return;
  }
  const GatherView v = gather_view(p, pass);
  const int64_t lanes = (v.lanes + 15) / 16 * 16;
  Scratch scratch(workspace);
  float* bias = scratch.take<float>(p.groups * lanes);
  void* rest = scratch.take<char>(0);
  if (t.bias == nullptr) {
    bias = nullptr;
  } else {
    for (int64_t i = 0; i < p.groups * lanes; ++i) {
      const int64_t g = i / lanes, lane = i % lanes;
      bias[i] = lane < v.lanes
          ? static_cast<float>(
                static_cast<const bfloat16*>(t.bias)[g * v.lanes + lane])
          : 0.0f;
    }
  }
  each_dot_job(v, pool_threads(), [&](const DotJob& job) {
    job(static_cast<const uint16_t*>(fwd ? t.x : t.y),
        static_cast<const uint16_t*>(t.w),
        bias,
        lanes,
        static_cast<bfloat16*>(fwd ? t.y : t.x),
        rest);
  });
}

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
