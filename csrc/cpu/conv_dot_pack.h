// Operands of conv_dot.h: weights and strips of the source as pairs. Read once,
// for AVX512_BF16.

namespace torchconv {
namespace cpu {
namespace TC_ISA {

// 16 elements of two rows, as pairs.
inline Vec<uint32_t> dot_pairs(const uint16_t* a, const uint16_t* b, int n) {
  const __mmask16 mask = static_cast<__mmask16>((1u << n) - 1u);
  const __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, a));
  const __m512i high = b == nullptr
      ? _mm512_setzero_si512()
      : _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, b));
  return (Vec<uint32_t>)_mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

// The weights of all taps, for all jobs: [step][lane][2] for each block of
// columns.
struct DotWeights {
  static constexpr int L = 16;
  static constexpr int64_t kWords = 512; // of a buffer, by 16 lanes

  const GatherView& v;
  DotForm form;
  int64_t taps, steps;
  ColumnCut<float> cut;

  explicit DotWeights(const GatherView& v)
      : v(v),
        form(v.p, v.pass),
        taps(v.p.taps()),
        steps(form.pair_steps(taps) + form.single_steps()),
        cut(v.lanes, longest(v)) {}
  static int64_t longest(const GatherView& v) {
    int64_t most = 0;
    for (const AxisRun& run : v.runs[2]) {
      most = std::max(most, run.count);
    }
    return most;
  }
  int64_t panels() const { // elements of a group
    return cut.vectors * L * steps * 2;
  }

  int64_t tap_offset(int64_t t) const {
    const int64_t* k = v.p.kernel;
    return t / (k[1] * k[2]) * v.w_tap[0] + t / k[2] % k[1] * v.w_tap[1] +
        t % k[2] * v.w_tap[2];
  }
  bool taps_follow() const {
    for (int64_t t = 1; t < taps; ++t) {
      if (tap_offset(t) != t) {
        return false;
      }
    }
    return true;
  }

  void pack(const uint16_t* w, uint16_t* panel) const {
    const int64_t packs = v.p.groups * cut.blocks;
    const bool follow = taps_follow();
    parallel_for(
        packs,
        task_grain(packs, 2.0 * v.p.groups * panels()),
        [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) {
            const int64_t g = i / cut.blocks;
            const ColumnBlock b = cut.block(i % cut.blocks);
            pack_block(
                w + g * v.w_group + b.first * v.w_lane,
                b.valid,
                b.vectors * L,
                follow,
                panel + g * panels() + b.first * steps * 2);
          }
        });
  }
  void pack_block(
      const uint16_t* from,
      int valid,
      int width,
      bool follow,
      uint16_t* to) const {
    if (form.run) {
      pack_runs(from, valid, width, to);
    } else if (follow && taps > 1 && taps <= kWords && v.w_red == taps) {
      pack_filters(from, valid, width, to);
    } else if (
        follow && taps > 1 && taps * width <= kWords * L && v.w_lane == taps) {
      pack_lanes(from, valid, width, to);
    } else {
      for (int64_t t = 0; t < taps; ++t) {
        pack_tap(
            from + tap_offset(t),
            valid,
            width,
            to + t * form.pairs * width * 2);
      }
    }
  }

  // Elements that follow one another, two and two; then what is left of each
  // run.
  void pack_runs(const uint16_t* from, int valid, int width, uint16_t* to)
      const {
    const int64_t* k = v.p.kernel;
    const auto element = [&](int64_t o, int64_t e) {
      const int64_t c = form.inner ? e % form.red : o / (k[0] * k[1]);
      const int64_t j2 = form.inner ? e / form.red : e;
      return c * v.w_red + o / k[1] % k[0] * v.w_tap[0] +
          o % k[1] * v.w_tap[1] + j2 * v.w_tap[2];
    };
    const auto put = [&](int64_t first, int64_t second) {
      for (int lane = 0; lane < width; ++lane, to += 2) {
        const uint16_t* row = from + lane * v.w_lane;
        to[0] = lane < valid ? row[first] : uint16_t(0);
        to[1] = lane < valid && second >= 0 ? row[second] : uint16_t(0);
      }
    };
    for (int64_t o = 0; o < form.outer; ++o) {
      for (int64_t e = 0; e + 1 < form.length; e += 2) {
        put(element(o, e), element(o, e + 1));
      }
    }
    for (int64_t o = 0; form.length % 2 != 0 && o < form.outer; ++o) {
      put(element(o, form.length - 1), -1);
    }
  }

  // Each lane is a row of (channel, tap): turned by 32-bit words, of which two
  // hold the halves of a pair.
  void pack_filters(const uint16_t* from, int valid, int width, uint16_t* to)
      const {
    alignas(64) uint32_t words[kWords][L];
    const int64_t full = form.red / 2; // pairs of two channels
    const int64_t some = std::max<int64_t>(1, kWords / taps);
    for (int lane = 0; lane < width; lane += L) {
      const int count = std::min(L, std::max(0, valid - lane));
      const uint16_t* row = from + lane * v.w_lane;
      for (int64_t q0 = 0; q0 < full; q0 += some) {
        const int64_t part = std::min(some, full - q0);
        for (int64_t i = 0; i < part * taps; i += L) {
          turn_words(
              row + 2 * (q0 * taps + i),
              v.w_lane,
              count,
              std::min<int64_t>(L, part * taps - i),
              words + i);
        }
        for (int64_t q = 0; q < part; ++q) {
          for (int64_t t = 0; t < taps; ++t) {
            const auto word = [&](int64_t e) {
              return load(words[q * taps + e / 2]);
            };
            const int64_t t1 = taps + t;
            const Vec<uint32_t> low =
                t % 2 != 0 ? word(t) >> 16 : word(t) & 0xffffu;
            const Vec<uint32_t> high =
                t1 % 2 != 0 ? word(t1) & 0xffff0000u : word(t1) << 16;
            const Vec<uint32_t> pair = low | high;
            std::memcpy(
                to + ((t * form.pairs + q0 + q) * width + lane) * 2, &pair, 64);
          }
        }
      }
      for (int64_t t = 0; full < form.pairs && t < taps; ++t) {
        uint16_t* last = to + ((t * form.pairs + full) * width + lane) * 2;
        for (int i = 0; i < L; ++i) {
          last[2 * i] =
              i < count ? row[i * v.w_lane + 2 * full * taps + t] : uint16_t(0);
          last[2 * i + 1] = 0;
        }
      }
    }
  }

  // Rows of (lane, tap), one for each channel: two rows are paired, then turned.
  void pack_lanes(const uint16_t* from, int valid, int width, uint16_t* to)
      const {
    alignas(64) uint32_t words[kWords + 1][L];
    uint32_t* const flat = words[0];
    const int64_t all = valid * taps;
    for (int64_t q = 0; q < form.pairs; ++q) {
      const uint16_t* a = from + 2 * q * v.w_red;
      const uint16_t* b = 2 * q + 1 < v.red ? a + v.w_red : nullptr;
      for (int64_t i = 0; i < all; i += L) {
        const int n = static_cast<int>(std::min<int64_t>(L, all - i));
        const auto x = dot_pairs(a + i, b == nullptr ? nullptr : b + i, n);
        std::memcpy(flat + i, &x, 64);
      }
      for (int lane = 0; lane < width; lane += L) {
        const int count = std::min(L, std::max(0, valid - lane));
        for (int64_t t = 0; t < taps; t += L) {
          const int n = static_cast<int>(std::min<int64_t>(L, taps - t));
          alignas(64) uint32_t turned[L][L];
          turn_words(
              reinterpret_cast<const uint16_t*>(flat + lane * taps + t),
              2 * taps,
              count,
              n,
              turned);
          for (int k = 0; k < n; ++k) {
            std::memcpy(
                to + (((t + k) * form.pairs + q) * width + lane) * 2,
                turned[k],
                64);
          }
        }
      }
    }
  }

  // to[i][l] = word i of row l; rows from count on are zero.
  static void turn_words(
      const uint16_t* row,
      int64_t stride,
      int count,
      int64_t n,
      uint32_t (*to)[L]) {
    const __mmask16 mask = static_cast<__mmask16>((1u << n) - 1u);
    Vec<float> square[L];
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i) {
      square[i] = i < count
          ? (Vec<float>)_mm512_maskz_loadu_epi32(mask, row + i * stride)
          : Vec<float>{};
    }
    transpose_block<float>(square);
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i) {
      if (i < n) {
        std::memcpy(to[i], &square[i], 64);
      }
    }
  }

  void pack_tap(const uint16_t* from, int valid, int width, uint16_t* to)
      const {
    const int64_t pairs = form.pairs;
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
      const int lanes = std::min(L, std::max(0, valid - lane));
      int64_t q = 0;
      for (; v.w_red == 1 && 2 * q + 1 < v.red; q += L) {
        const int count = static_cast<int>(std::min<int64_t>(L, v.red / 2 - q));
        alignas(64) uint32_t turned[L][L];
        turn_words(
            from + lane * v.w_lane + 2 * q, v.w_lane, lanes, count, turned);
        for (int k = 0; k < count; ++k) {
          std::memcpy(to + ((q + k) * width + lane) * 2, turned[k], 64);
        }
      }
      for (q = std::min(q, v.w_red == 1 ? v.red / 2 : 0); q < pairs; ++q) {
        uint16_t* at = to + (q * width + lane) * 2;
        for (int i = 0; i < L; ++i) {
          const uint16_t* row = from + (lane + i) * v.w_lane + 2 * q * v.w_red;
          at[2 * i] = i < lanes ? row[0] : uint16_t(0);
          at[2 * i + 1] =
              i < lanes && 2 * q + 1 < v.red ? row[v.w_red] : uint16_t(0);
        }
      }
    }
  }
};

// Strips: [slot 0][slot 1][slot 2][channel], channels filled up to pairs; of
// runs [slot 0][slot 1][slot 2][channel] without filling, or [channel][slot
// 0][slot 1][slot 2].
struct DotStrip {
  static constexpr int L = 16;

  const GatherView& v;
  DotForm form;

  struct Layout {
    int64_t c, s[3];
  };
  Layout layout(const StripAxis (&axes)[3]) const {
    Layout l;
    l.c = 1;
    l.s[2] = form.run ? (form.inner ? form.red : 1) : form.pairs * 2;
    l.s[1] = l.s[2] * axes[2].slots;
    l.s[0] = l.s[1] * axes[1].slots;
    if (form.run && !form.inner) {
      l.c = l.s[0] * axes[0].slots;
    }
    return l;
  }
  int64_t elements(const StripAxis (&axes)[3]) const {
    const Layout l = layout(axes);
    return form.run && !form.inner ? l.c * form.red : l.s[0] * axes[0].slots;
  }

  void pack(const uint16_t* src, const StripAxis (&axes)[3], uint16_t* to)
      const {
    const Layout l = layout(axes);
    const bool planes = form.run && !form.inner;
    for (int64_t c = 0; c < (planes ? form.red : 1); ++c) {
      for (int64_t d = 0; d < axes[0].slots; ++d) {
        const int64_t z =
            source_index(axes[0].source(d), v.src_size[0], v.mode);
        for (int64_t h = 0; h < axes[1].slots; ++h) {
          const int64_t y =
              source_index(axes[1].source(h), v.src_size[1], v.mode);
          uint16_t* row = to + c * l.c + d * l.s[0] + h * l.s[1];
          if (z < 0 || y < 0) {
            std::fill_n(row, l.s[1], uint16_t(0));
            continue;
          }
          pack_row(
              src + c * v.src.c + z * v.src.s[0] + y * v.src.s[1],
              axes[2],
              l.s[2],
              planes ? 1 : form.red,
              row);
        }
      }
    }
  }

 private:
  // One row of slots, `pixel` elements each, of which `channels` are filled.
  void pack_row(
      const uint16_t* row,
      const StripAxis& axis,
      int64_t pixel,
      int64_t channels,
      uint16_t* to) const {
    const int64_t slots = axis.slots;
    int64_t i = 0;
    const bool copied = pixel == channels && v.src.s[2] == channels &&
        (channels == 1 || v.src.c == 1);
    const bool turned = channels > 1 && v.src.c != 1 && v.src.s[2] == 1;
    if (axis.dense && (copied || turned)) {
      const int64_t start = axis.source(0);
      const int64_t first = std::min(slots, std::max<int64_t>(0, -start));
      const int64_t last =
          std::max(first, std::min(slots, v.src_size[2] - start));
      single(row, axis, 0, first, pixel, channels, to);
      if (copied) {
        std::memcpy(
            to + first * pixel,
            row + (start + first) * channels,
            (last - first) * channels * 2);
      } else {
        for (i = first; i < last; i += L) {
          const int count = static_cast<int>(std::min<int64_t>(L, last - i));
          turn(row + start + i, count, to + i * pixel);
        }
      }
      i = last;
    }
    single(row, axis, i, slots, pixel, channels, to);
  }
  void single(
      const uint16_t* row,
      const StripAxis& axis,
      int64_t begin,
      int64_t end,
      int64_t pixel,
      int64_t channels,
      uint16_t* to) const {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t x = source_index(axis.source(i), v.src_size[2], v.mode);
      uint16_t* at = to + i * pixel;
      if (x < 0) {
        std::fill_n(at, pixel, uint16_t(0));
        continue;
      }
      if (pixel > channels) {
        at[pixel - 1] = 0;
      }
      const uint16_t* from = row + x * v.src.s[2];
      if (v.src.c == 1) {
        std::memcpy(at, from, channels * 2);
      } else {
        for (int64_t c = 0; c < channels; ++c) {
          at[c] = from[c * v.src.c];
        }
      }
    }
  }
  // Up to 16 neighbouring pixels of all channels.
  void turn(const uint16_t* from, int count, uint16_t* to) const {
    const int64_t pairs = form.pairs;
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
};

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
