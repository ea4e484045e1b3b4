// A gather (core/conv_gather.h) of bfloat16 by products of pairs. Read once, for
// AVX512_BF16.
//
// As in conv_strip.h, what a block of pixels reads is copied with its padding
// into a strip in L2, here with elements side by side that are multiplied
// together: neighbouring channels, filled up to pairs, or a run of taps
// (conv_dot_pack.h). A pair is one 32-bit element: it is broadcast, and
// multiplied with a vector of the same pair's weights for 16 destination
// channels. The products of a pair are added to a float32 sum; sums run over
// taps, then pairs.

namespace torchconv {
namespace cpu {
namespace TC_ISA {

constexpr int64_t kDotStripBytes = 256 << 10;

struct DotJob {
  static constexpr int L = 16;

  const GatherView& v;
  const DotWeights& weights; // of all jobs
  const DotForm& form;
  DotStrip strips;
  AxisRun run[3];
  int64_t taps;
  int64_t pairs, singles; // steps
  bool in_place, all_taps;
  int64_t block[3], blocks[3];
  int64_t strip; // elements
  int64_t chunks;

  DotJob(
      const GatherView& v,
      const DotWeights& weights,
      const AxisRun& r0,
      const AxisRun& r1,
      const AxisRun& r2,
      int threads)
      : v(v),
        weights(weights),
        form(weights.form),
        strips{v, weights.form},
        run{r0, r1, r2} {
    taps = r0.taps * r1.taps * r2.taps;
    // Runs have all taps along the width; fewer in others are counted.
    pairs = form.run
        ? taps / v.p.kernel[2] * (form.inner ? 1 : v.red) * (form.length / 2)
        : taps * form.pairs;
    singles = form.run
        ? taps / v.p.kernel[2] * (form.inner ? 1 : v.red) * (form.length % 2)
        : 0;
    all_taps = taps == weights.taps && v.pass == Pass::forward;
    in_place = v.src.c == 1 && v.red % 2 == 0 && !form.run;
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
    set_blocks(v, run, threads, block, blocks);
    strip = in_place ? 0 : elements();
    const int64_t all = cells();
    chunks = threads == 1 || all >= 2 * threads
        ? 1
        : std::min(weights.cut.blocks, (2 * threads + all - 1) / all);
  }

  int64_t cells() const {
    return v.p.batch * v.p.groups * blocks[0] * blocks[1] * blocks[2];
  }
  int64_t elements() const {
    const StripAxis axes[3] = {
        {run[0], 0, block[0]}, {run[1], 0, block[1]}, {run[2], 0, block[2]}};
    return strips.elements(axes);
  }

  struct Thread {
    uint16_t* strip;
    int64_t* a_off;
    int64_t* b_off;
  };
  Thread take_thread(Scratch& scratch) const {
    Thread t;
    t.strip = scratch.take<uint16_t>(strip);
    t.a_off = scratch.take<int64_t>(pairs + singles);
    t.b_off = scratch.take<int64_t>(all_taps ? 0 : pairs + singles);
    return t;
  }
  int64_t workspace(int threads) const {
    Scratch thread(nullptr);
    take_thread(thread);
    return threads * thread.used();
  }

  // Where each step reads the strip, and which of the weights.
  void offsets(const StripAxis (&axes)[3], const Thread& t) const {
    const DotStrip::Layout l = strips.layout(axes);
    const int64_t* k = v.p.kernel;
    int64_t* a = t.a_off;
    int64_t* b = t.b_off;
    const auto tap = [&](int d, int64_t j) {
      return run[d].t0 + j * run[d].tstep;
    };
    const auto put = [&](int64_t from, int64_t step) {
      *a++ = from;
      if (!all_taps) {
        *b++ = step;
      }
    };
    if (!form.run) {
      for (int64_t j0 = 0; j0 < run[0].taps; ++j0) {
        for (int64_t j1 = 0; j1 < run[1].taps; ++j1) {
          for (int64_t j2 = 0; j2 < run[2].taps; ++j2) {
            const int64_t from = in_place ? 0
                                          : axes[0].tap(j0) * l.s[0] +
                    axes[1].tap(j1) * l.s[1] + axes[2].tap(j2) * l.s[2];
            const int64_t step =
                (tap(0, j0) * k[1] + tap(1, j1)) * k[2] + tap(2, j2);
            for (int64_t q = 0; q < form.pairs; ++q) {
              put(from + 2 * q, step * form.pairs + q);
            }
          }
        }
      }
      return;
    }
    const int64_t half = form.length / 2;
    for (const bool single : {false, true}) {
      for (int64_t c = 0; c < (form.inner ? 1 : v.red); ++c) {
        for (int64_t j0 = 0; j0 < run[0].taps; ++j0) {
          for (int64_t j1 = 0; j1 < run[1].taps; ++j1) {
            const int64_t from =
                c * l.c + axes[0].tap(j0) * l.s[0] + axes[1].tap(j1) * l.s[1];
            const int64_t o = (c * k[0] + tap(0, j0)) * k[1] + tap(1, j1);
            for (int64_t q = 0; !single && q < half; ++q) {
              put(from + 2 * q, o * half + q);
            }
            if (single && form.length % 2 != 0) {
              put(from + 2 * half, form.outer * half + o);
            }
          }
        }
      }
    }
  }

  void compute(
      int64_t cell,
      int64_t chunk,
      const uint16_t* src,
      const uint16_t* panel,
      const float* bias,
      int64_t bias_group,
      bfloat16* dst,
      const Finish& finish,
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
        {run[0], first[0], count[0]},
        {run[1], first[1], count[1]},
        {run[2], first[2], count[2]}};
    int64_t step[3];
    const uint16_t* base = t.strip;
    if (in_place) {
      base = from;
      for (int d = 0; d < 3; ++d) {
        step[d] = axes[d].a * v.src.s[d];
        base += axes[d].c * v.src.s[d];
      }
    } else {
      const DotStrip::Layout l = strips.layout(axes);
      for (int d = 0; d < 3; ++d) {
        step[d] = axes[d].sa * l.s[d];
      }
    }
    if (packed != cell) {
      packed = cell;
      offsets(axes, t);
      if (!in_place && taps > 0) {
        strips.pack(from, axes, t.strip);
      }
    }
    const DotSteps steps = {t.a_off, t.b_off, pairs, singles};
    const ColumnCut<float>& cut = weights.cut;
    alignas(64) float acc[14 * 2 * L];
    const int64_t pixel = run[2].step * v.dst.s[2];
    for (int64_t i = cut.blocks * chunk / chunks;
         i < cut.blocks * (chunk + 1) / chunks;
         ++i) {
      const ColumnBlock b = cut.block(i);
      const TileCut tiles(count[2], tile_rows<float>(b.vectors));
      const uint16_t* block_weights =
          panel + g * weights.panels() + b.first * weights.steps * 2;
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
            (all_taps ? dot_function<false> : dot_function<true>)(rows,
                                                                  b.vectors)(
                a + w * step[2],
                step[2],
                block_weights,
                steps,
                acc,
                b.vectors * L,
                false);
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
          finish.block(row, count[2], pixel, b.valid, v.dst.c);
        }
      }
    }
  }

  void operator()(
      const uint16_t* src,
      const uint16_t* panel,
      const float* bias,
      int64_t bias_group,
      bfloat16* dst,
      const Finish& finish,
      void* workspace) const {
    Scratch size(nullptr);
    take_thread(size);
    const int64_t thread_bytes = size.used();
    const int64_t tasks = cells() * chunks;
    const double work = 1.0 * v.p.batch * v.p.groups * run[0].count *
        run[1].count * run[2].count * weights.cut.vectors * L *
        (pairs + singles);
    parallel_for(
        tasks, task_grain(tasks, work), [&](int64_t begin, int64_t end) {
          Scratch piece(
              static_cast<char*>(workspace) +
              thread_pool().thread_index() * thread_bytes);
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
                finish,
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

// The view, cut where padding can be skipped, as cut_padding (conv_tiles.h)
// does.
inline GatherView dot_view(const ConvProblem& p, Pass pass) {
  GatherView v = gather_view(p, pass);
  if (pass != Pass::forward) {
    return v;
  }
  GatherView parts = v;
  skip_padding(parts, 0, 0.03, 1);
  skip_padding(parts, 1, 0.03, 1);
  const double products = conv_flops(p) / 2 / p.batch;
  return products < 1e6 * parts.runs[0].size() * parts.runs[1].size() ? v
                                                                      : parts;
}

template <typename F>
void each_dot_job(
    const GatherView& v,
    const DotWeights& weights,
    int threads,
    F f) {
  for (const AxisRun& r0 : v.runs[0]) {
    for (const AxisRun& r1 : v.runs[1]) {
      for (const AxisRun& r2 : v.runs[2]) {
        if (v.p.batch * r0.count * r1.count * r2.count > 0) {
          f(DotJob(v, weights, r0, r1, r2, threads));
        }
      }
    }
  }
}

inline int64_t dot_workspace(const ConvProblem& p, Pass pass, int threads) {
  if (pass == Pass::weight_grad) {
    return DotWeightGrad(p).workspace(threads);
  }
  if (shares_vectors(p, pass)) {
    return grouped_workspace(p, pass, threads);
  }
  const PatchForm form = patch_form(p, pass, PairProducts::kStep);
  if (pass == Pass::forward && form.takes) {
    return threads * PatchForward<PairProducts>(p, form).thread_bytes();
  }
  const GatherView v = dot_view(p, pass);
  const DotWeights weights(v);
  Scratch scratch(nullptr);
  scratch.take<float>(p.groups * ((v.lanes + 15) / 16 * 16));
  scratch.take<uint16_t>(p.groups * weights.panels());
  int64_t most = 0;
  each_dot_job(v, weights, threads, [&](const DotJob& job) {
    most = std::max(most, job.workspace(threads));
  });
  return scratch.used() + most;
}

inline void dot_run(
    const ConvProblem& p,
    Pass pass,
    const ConvTensors& t,
    void* workspace) {
  if (pass == Pass::weight_grad) {
    const DotWeightGrad job(p);
    job(static_cast<const uint16_t*>(t.x),
        static_cast<const uint16_t*>(t.y),
        static_cast<bfloat16*>(t.w),
        workspace);
    return;
  }
  if (shares_vectors(p, pass)) {
    grouped_run(p, pass, t, workspace);
    return;
  }
  const bool fwd = pass == Pass::forward;
  const PatchForm form = patch_form(p, pass, PairProducts::kStep);
  if (fwd && form.takes) {
    PatchForward<PairProducts>(p, form)(
        static_cast<const bfloat16*>(t.x),
        static_cast<const bfloat16*>(t.w),
        static_cast<const bfloat16*>(t.bias),
        static_cast<bfloat16*>(t.y),
        Finish(p.dtype, t.epilogue, t.y),
        workspace);
    return;
  }
  const GatherView v = dot_view(p, pass);
  const DotWeights weights(v);
  const int64_t lanes = (v.lanes + 15) / 16 * 16;
  Scratch scratch(workspace);
  float* bias = scratch.take<float>(p.groups * lanes);
  uint16_t* panel = scratch.take<uint16_t>(p.groups * weights.panels());
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
  auto packed = static_cast<const uint16_t*>(t.packed);
  if (packed == nullptr) {
    weights.pack(static_cast<const uint16_t*>(t.w), panel);
    packed = panel;
  }
  const GatherFinish finish(v, t);
  each_dot_job(v, weights, pool_threads(), [&](const DotJob& job) {
    job(static_cast<const uint16_t*>(fwd ? t.x : t.y),
        packed,
        bias,
        lanes,
        static_cast<bfloat16*>(fwd ? t.y : t.x),
        finish.blocks(),
        rest);
  });
  finish.rest();
}

inline int64_t dot_packed_bytes(const ConvProblem& p, Pass pass) {
  if (shares_vectors(p, pass)) {
    return DotGrouped::weight_words(gather_view(p, pass)) *
        static_cast<int64_t>(sizeof(uint32_t));
  }
  if (pass == Pass::forward && patch_form(p, pass, PairProducts::kStep).takes) {
    return 0;
  }
  return p.groups * DotWeights(dot_view(p, pass)).panels() *
      static_cast<int64_t>(sizeof(uint16_t));
}

inline void dot_pack(
    const ConvProblem& p,
    Pass pass,
    const void* w,
    void* packed) {
  if (shares_vectors(p, pass)) {
    DotGrouped::pack(
        gather_view(p, pass),
        static_cast<const uint16_t*>(w),
        static_cast<uint32_t*>(packed));
    return;
  }
  DotWeights(dot_view(p, pass))
      .pack(static_cast<const uint16_t*>(w), static_cast<uint16_t*>(packed));
}

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
