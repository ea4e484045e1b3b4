// A gather of bfloat16 with small groups, several of which share a vector. Read
// once, for AVX512_BF16.
//
// The lanes are 16 destination channels, of 16 / lanes-per-group groups. Each
// lane multiplies the pairs of its own group, so that what is broadcast in
// conv_dot.h is a vector here, in which the pair of a group is repeated for its
// lanes. Strips hold those vectors: [slot 0][slot 1][slot 2][pair][16].

namespace torchconv {
namespace cpu {
namespace TC_ISA {

// acc[p] = sum_r x[off[r] + p * ps] * w[r], 16 pairs each.
template <int P>
void grouped_tile(
    const uint32_t* __restrict x,
    const int64_t* __restrict off,
    const int64_t* __restrict w_off,
    int64_t ps,
    const uint32_t* __restrict w,
    int64_t n,
    float* __restrict acc) {
  __m512 c[P];
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) {
    c[p] = _mm512_setzero_ps();
  }
  for (int64_t r = 0; r < n; ++r) {
    const __m512bh y = (__m512bh)_mm512_load_si512(w + w_off[r] * 16);
    const uint32_t* row = x + off[r];
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
      c[p] =
          _mm512_dpbf16_ps(c[p], (__m512bh)_mm512_load_si512(row + p * ps), y);
    }
  }
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) {
    _mm512_store_ps(acc + p * 16, c[p]);
  }
}

using GroupedFn = void (*)(
    const uint32_t*,
    const int64_t*,
    const int64_t*,
    int64_t,
    const uint32_t*,
    int64_t,
    float*);
template <int... P>
inline GroupedFn grouped_function(int rows, std::integer_sequence<int, P...>) {
  static constexpr GroupedFn table[] = {grouped_tile<P + 1>...};
  return table[rows - 1];
}

struct DotGrouped {
  static constexpr int L = 16;
  static constexpr int kRows = 14;
  static constexpr int64_t kStrip = 128 << 10; // bytes

  const GatherView& v;
  AxisRun run[3];
  int64_t taps, pairs, together; // groups in a vector
  int64_t group_blocks;
  int64_t block[3], blocks[3];

  DotGrouped(
      const GatherView& v,
      const AxisRun& r0,
      const AxisRun& r1,
      const AxisRun& r2)
      : v(v),
        run{r0, r1, r2} {
    taps = r0.taps * r1.taps * r2.taps;
    pairs = (v.red + 1) / 2;
    together = L / v.lanes;
    group_blocks = (v.p.groups + together - 1) / together;
    block[0] = block[1] = 1;
    block[2] = run[2].count;
    while (slots() * pairs * 64 > kStrip && block[2] > kRows) {
      block[2] = std::max<int64_t>(kRows, (block[2] + 1) / 2);
    }
    while (block[1] < run[1].count && block[2] == run[2].count) {
      ++block[1];
      if (slots() * pairs * 64 > kStrip) {
        --block[1];
        break;
      }
    }
    for (int d = 0; d < 3; ++d) {
      blocks[d] = (run[d].count + block[d] - 1) / block[d];
    }
  }
  int64_t slots() const {
    return StripAxis(run[0], 0, block[0]).slots *
        StripAxis(run[1], 0, block[1]).slots *
        StripAxis(run[2], 0, block[2]).slots;
  }

  struct Thread {
    uint16_t* plain; // the strip, as it is in the source
    uint32_t* strip;
    int64_t* off;
    int64_t* w_off;
  };
  Thread take_thread(Scratch& scratch) const {
    Thread t;
    t.plain = scratch.take<uint16_t>(slots() * channels() + 32);
    t.strip = scratch.take<uint32_t>(slots() * pairs * L);
    t.off = scratch.take<int64_t>(taps * pairs);
    t.w_off = scratch.take<int64_t>(taps * pairs);
    return t;
  }
  int64_t workspace(int threads) const {
    Scratch thread(nullptr);
    take_thread(thread);
    return threads * thread.used();
  }
  // Of a plain strip, in pairs.
  int64_t channels() const {
    return (together * v.red + 1) / 2 * 2;
  }

  static int64_t weight_words(const GatherView& v) {
    const int64_t together = L / v.lanes;
    return (v.p.groups + together - 1) / together * v.p.taps() *
        ((v.red + 1) / 2) * L;
  }
  // [block of groups][tap][pair][lane], all taps.
  static void pack(const GatherView& v, const uint16_t* w, uint32_t* to) {
    const int64_t together = L / v.lanes, pairs = (v.red + 1) / 2;
    const int64_t* k = v.p.kernel;
    for (int64_t g0 = 0; g0 < v.p.groups; g0 += together) {
      for (int64_t t = 0; t < v.p.taps(); ++t) {
        const int64_t tap = t / (k[1] * k[2]) * v.w_tap[0] +
            t / k[2] % k[1] * v.w_tap[1] + t % k[2] * v.w_tap[2];
        for (int64_t q = 0; q < pairs; ++q) {
          for (int64_t l = 0; l < L; ++l, ++to) {
            const int64_t g = g0 + l / v.lanes;
            *to = 0;
            if (l / v.lanes >= together || g >= v.p.groups) {
              continue;
            }
            const uint16_t* from = w + g * v.w_group + l % v.lanes * v.w_lane +
                2 * q * v.w_red + tap;
            *to = *from;
            if (2 * q + 1 < v.red) {
              *to |= static_cast<uint32_t>(from[v.w_red]) << 16;
            }
          }
        }
      }
    }
  }

  // The strip of the channels of some groups, then each pair for its lanes.
  void pack_strip(
      const uint16_t* src,
      int64_t group_count,
      const StripAxis (&axis)[3],
      const Thread& t) const {
    GatherView some = v;
    some.red = group_count * v.red;
    DotForm form(v.p, v.pass);
    form.run = false;
    form.inner = v.src.c == 1;
    form.red = some.red;
    form.pairs = (some.red + 1) / 2;
    DotStrip{some, form}.pack(src, axis, t.plain);
    alignas(64) uint32_t lane[L];
    for (int l = 0; l < L; ++l) {
      lane[l] = static_cast<uint32_t>(
          std::min<int64_t>(l / v.lanes, together - 1) * v.red / 2);
    }
    const __m512i first = _mm512_load_si512(lane);
    const int64_t count = axis[0].slots * axis[1].slots * axis[2].slots;
    const __mmask16 mask = static_cast<__mmask16>((1u << form.pairs) - 1u);
    for (int64_t q = 0; q < pairs; ++q) {
      const __m512i index =
          _mm512_add_epi32(first, _mm512_set1_epi32(static_cast<int>(q)));
      for (int64_t i = 0; i < count; ++i) {
        const __m512i words =
            _mm512_maskz_loadu_epi32(mask, t.plain + i * form.pairs * 2);
        _mm512_store_si512(
            t.strip + (i * pairs + q) * L,
            _mm512_permutexvar_epi32(index, words));
      }
    }
  }

  void operator()(
      const uint16_t* src,
      const uint32_t* w,
      const float* bias,
      bfloat16* dst,
      const Finish& finish,
      void* workspace) const {
    Scratch size(nullptr);
    take_thread(size);
    const int64_t thread_bytes = size.used();
    const int64_t tasks =
        v.p.batch * group_blocks * blocks[0] * blocks[1] * blocks[2];
    const double work = 1.0 * v.p.batch * group_blocks * run[0].count *
        run[1].count * run[2].count * taps * pairs * L;
    parallel_for(
        tasks, task_grain(tasks, work), [&](int64_t begin, int64_t end) {
          Scratch piece(
              static_cast<char*>(workspace) +
              thread_pool().thread_index() * thread_bytes);
          const Thread t = take_thread(piece);
          for (int64_t task = begin; task < end; ++task) {
            compute(task, src, w, bias, dst, finish, t);
          }
        });
  }
  void compute(
      int64_t task,
      const uint16_t* src,
      const uint32_t* w,
      const float* bias,
      bfloat16* dst,
      const Finish& finish,
      const Thread& t) const {
    int64_t first[3], count[3];
    for (int d = 2; d >= 0; --d) {
      first[d] = task % blocks[d] * block[d];
      count[d] = std::min(block[d], run[d].count - first[d]);
      task /= blocks[d];
    }
    const int64_t b = task % group_blocks, sample = task / group_blocks;
    const int64_t g0 = b * together;
    const int64_t groups = std::min(together, v.p.groups - g0);
    const StripAxis axis[3] = {
        {run[0], first[0], count[0]},
        {run[1], first[1], count[1]},
        {run[2], first[2], count[2]}};
    const int64_t pixel = pairs * L, row = pixel * axis[2].slots;
    const int64_t plane = row * axis[1].slots;
    const int64_t* k = v.p.kernel;
    int64_t n = 0;
    for (int64_t j0 = 0; j0 < run[0].taps; ++j0) {
      for (int64_t j1 = 0; j1 < run[1].taps; ++j1) {
        for (int64_t j2 = 0; j2 < run[2].taps; ++j2) {
          const int64_t tap = ((run[0].t0 + j0 * run[0].tstep) * k[1] +
                               run[1].t0 + j1 * run[1].tstep) *
                  k[2] +
              run[2].t0 + j2 * run[2].tstep;
          for (int64_t q = 0; q < pairs; ++q, ++n) {
            t.off[n] = axis[0].tap(j0) * plane + axis[1].tap(j1) * row +
                axis[2].tap(j2) * pixel + q * L;
            t.w_off[n] = tap * pairs + q;
          }
        }
      }
    }
    if (n > 0) {
      pack_strip(src + sample * v.src.n + g0 * v.src_group, groups, axis, t);
    }
    const TileCut tiles(count[2], kRows);
    alignas(64) float acc[kRows * L];
    const int64_t step = axis[2].sa * pixel;
    const int64_t out_pixel = run[2].step * v.dst.s[2];
    for (int64_t d = 0; d < count[0]; ++d) {
      for (int64_t h = 0; h < count[1]; ++h) {
        const uint32_t* x =
            t.strip + d * axis[0].sa * plane + h * axis[1].sa * row;
        bfloat16* to = dst + sample * v.dst.n + g0 * v.dst_group +
            (run[0].p0 + (first[0] + d) * run[0].step) * v.dst.s[0] +
            (run[1].p0 + (first[1] + h) * run[1].step) * v.dst.s[1] +
            (run[2].p0 + first[2] * run[2].step) * v.dst.s[2];
        for (int64_t i = 0; i < tiles.tiles; ++i) {
          const int rows = tiles.rows(i);
          grouped_function(rows, std::make_integer_sequence<int, kRows>())(
              x + tiles.begin(i) * step,
              t.off,
              t.w_off,
              step,
              w + b * v.p.taps() * pairs * L,
              n,
              acc);
          dot_store(
              acc,
              rows,
              L,
              static_cast<int>(groups * v.lanes),
              bias == nullptr ? nullptr : bias + g0 * v.lanes,
              to + tiles.begin(i) * out_pixel,
              v.dst.c,
              out_pixel);
        }
        finish.block(to, count[2], out_pixel, groups * v.lanes, v.dst.c);
      }
    }
  }
};

template <typename F>
void each_grouped_job(const GatherView& v, F f) {
  for (const AxisRun& r0 : v.runs[0]) {
    for (const AxisRun& r1 : v.runs[1]) {
      for (const AxisRun& r2 : v.runs[2]) {
        if (v.p.batch * r0.count * r1.count * r2.count > 0) {
          f(DotGrouped(v, r0, r1, r2));
        }
      }
    }
  }
}

inline int64_t grouped_workspace(const ConvProblem& p, Pass pass, int threads) {
  const GatherView v = gather_view(p, pass);
  Scratch scratch(nullptr);
  scratch.take<float>(p.groups * v.lanes + 16);
  scratch.take<uint32_t>(DotGrouped::weight_words(v));
  int64_t most = 0;
  each_grouped_job(v, [&](const DotGrouped& job) {
    most = std::max(most, job.workspace(threads));
  });
  return scratch.used() + most;
}

inline void grouped_run(
    const ConvProblem& p,
    Pass pass,
    const ConvTensors& t,
    void* workspace) {
  const GatherView v = gather_view(p, pass);
  const bool fwd = pass == Pass::forward;
  Scratch scratch(workspace);
  const int64_t all = p.groups * v.lanes;
  float* bias = scratch.take<float>(all + 16); // read in vectors
  uint32_t* w = scratch.take<uint32_t>(DotGrouped::weight_words(v));
  void* rest = scratch.take<char>(0);
  for (int64_t i = 0; t.bias != nullptr && i < all + 16; ++i) {
    bias[i] = i < all
        ? static_cast<float>(static_cast<const bfloat16*>(t.bias)[i])
        : 0.0f;
  }
  auto packed = static_cast<const uint32_t*>(t.packed);
  if (packed == nullptr) {
    DotGrouped::pack(v, static_cast<const uint16_t*>(t.w), w);
    packed = w;
  }
  const GatherFinish finish(v, t);
  each_grouped_job(v, [&](const DotGrouped& job) {
    job(static_cast<const uint16_t*>(fwd ? t.x : t.y),
        packed,
        t.bias == nullptr ? nullptr : bias,
        static_cast<bfloat16*>(fwd ? t.y : t.x),
        finish.blocks(),
        rest);
  });
  finish.rest();
}

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
