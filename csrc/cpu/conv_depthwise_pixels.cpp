// Depthwise convolution of channels_last tensors without a strip: pixels are
// read where they lie, channels in the lanes. Taps that only see the padding are
// left out of the sums, and so are their multiply-adds, but for columns of
// input_grad of stride 2, which are zeros there.
//
// input_grad of stride 1 is forward with the kernel turned around. Where the
// channels are no multiple of the lanes the last unit overlaps the one before.
//
// Planes of NCHW tensors that are worth it are turned into that order first, one
// unit of lanes at a time, and results back (staged).
//
// A result is summed tap by tap in an order that its tile has no part in.

#include <algorithm>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/parallel.h"
#include "cpu/conv_depthwise.h"

#ifndef TC_ISA
#define TC_SELF "cpu/conv_depthwise_pixels.cpp"
#define TC_WIDE_ONLY
#include "cpu/foreach_isa.h"

namespace torchconv {
namespace cpu {

void run_depthwise_pixels(
    const StripShape& s,
    const ConvTensors& t,
    void* workspace) {
  switch (s.p.dtype) {
    case DType::f32:
      return TC_DISPATCH(run_pixels<float>)(s, t, workspace);
    case DType::f16:
      return TC_DISPATCH(run_pixels<half>)(s, t, workspace);
    default: // bfloat16: no other type is accepted
      return TC_DISPATCH(run_pixels<bfloat16>)(s, t, workspace);
  }
}

} // namespace cpu
} // namespace torchconv

#else // one instruction set

#include "cpu/simd.h"
#include "cpu/shuffle.h"
#include "cpu/conv_depthwise_stage.h"
#include "cpu/conv_depthwise_pixels_tile.h"
#include "cpu/conv_depthwise_pixels_parts.h"
#include "cpu/conv_depthwise_pixels_spread.h"
#include "cpu/conv_depthwise_pixels_grad.h"

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// About as much as the caches hold: beyond it prefetches take up to a third off.
constexpr double kFarBytes = 16 << 20;

// T: what tiles read and write, S in place, acc_t<S> where planes are staged.
template <typename S, typename T>
class Pixels {
  using A = acc_t<S>;
  static constexpr int L = kLanes<A>;

 public:
  Pixels(const StripShape& s, const ConvTensors& t) : s_(s), c_(s.p), t_(t) {
    const bool backward = s.pass == Pass::input_grad;
    const bool phases = backward && strided_phases(c_);
    spread_ = backward && c_.stride[2] == 2 && !phases;
    const bool turned = backward && !spread_ && !phases;
    far_ = !s.staged_source && !spread_ && conv_bytes(c_) > kFarBytes;
    for (int d = 0; d < 3; ++d) {
      p_.kernel[d] = c_.kernel[d];
      p_.stride[d] = c_.stride[d];
      p_.source_size[d] = s.source.size[d];
      p_.size[d] = s.dest.size[d];
      p_.source[d] = s.source.stride.s[d];
      p_.result[d] = s.dest.stride.s[d];
      p_.low[d] = turned || (phases && d == 0)
          ? (c_.kernel[d] - 1) * c_.dilation[d] - c_.low[d]
          : c_.low[d];
    }
    p_.dilation0 = c_.dilation[0];
    p_.dilation2 = c_.dilation[2];
    if (phases) {
      parts_ = lattice_parts(
          p_,
          strided_lattices(
              p_.size[1],
              p_.source_size[1],
              p_.low[1],
              c_.stride[1],
              c_.kernel[1]),
          strided_lattices(
              p_.size[2],
              p_.source_size[2],
              p_.low[2],
              c_.stride[2],
              c_.kernel[2]));
    } else if (c_.dilation[1] != 1) {
      parts_ = lattice_parts(
          p_,
          dilated_lattices(
              p_.size[1], p_.source_size[1], p_.low[1], c_.dilation[1]),
          {});
    } else {
      parts_.push_back({p_, 0, 0, 0});
    }
    const int64_t rows = c_.kernel[1], columns = c_.kernel[2];
    const int64_t row_step = phases ? c_.stride[1] : 1;
    const int64_t step = phases ? c_.stride[2] : 1;
    // Those of a phase lie together.
    const int64_t of_phase = c_.taps() / (row_step * step);
    for (int64_t a = 0; a < c_.kernel[0]; ++a) {
      for (int64_t k = 0; k < rows; ++k) {
        for (int64_t t = 0; t < columns; ++t) {
          const int64_t phase = k % row_step * step + t % step;
          const int64_t tap =
              (a * (columns / step) + t / step) * (rows / row_step) +
              k / row_step;
          place_.push_back(
              phase * of_phase + (turned || phases ? of_phase - 1 - tap : tap));
          offset_.push_back(a * c_.w.s[0] + k * c_.w.s[1] + t * c_.w.s[2]);
        }
      }
    }
  }

  void gather(void* workspace) const {
    A* weight = static_cast<A*>(workspace);
    A* bias = weight + s_.units * c_.taps() * L;
    pack(weight, bias);
    const Bands bands = choose_bands_of_results();
    const bool backward = s_.pass == Pass::input_grad;
    const S* source = static_cast<const S*>(backward ? t_.y : t_.x);
    S* dest = static_cast<S*>(backward ? t_.x : t_.y);
    const auto grain = [&](int64_t items) {
      return 1 +
          static_cast<int64_t>(kGrainWork * items / (conv_flops(c_) / 2 + 1));
    };
    const int64_t per_plane = ceil_div(parts_[0].p.size[1], bands.rows);
    if (s_.staged_source) {
      const int64_t items = c_.batch * s_.units;
      parallel_for(items, grain(items), [&](int64_t begin, int64_t end) {
        A* from = staged(workspace);
        A* to = from + pixels(s_.source) * L;
        for (int64_t i = begin; i < end; ++i) {
          const int64_t u = i % s_.units, n = i / s_.units, c = channel(u);
          const Strides& of = backward ? c_.y : c_.x;
          const Strides& at = backward ? c_.x : c_.y;
          stage_in(source + n * of.n + c * of.c, of, s_.source.size, L, from);
          if constexpr (std::is_same_v<T, A>) {
            for (int64_t z = 0; z < p_.size[0]; ++z) {
              for (int64_t band = 0; band < per_plane; ++band) {
                gather_band(
                    bands,
                    from,
                    weight,
                    bias,
                    u,
                    u + 1,
                    z,
                    band * bands.rows,
                    to + z * p_.result[0],
                    Finish());
              }
            }
          }
          stage_out(to, at, s_.dest.size, L, dest + n * at.n + c * at.c);
        }
      });
      finish_all(dest);
      return;
    }
    // All rows of a band before the next, and all planes: they share pixels.
    // Neighbouring units of a tile: they share cache lines or follow each other.
    const int64_t chunks = ceil_div(s_.units, p_.kernel[1] == 3 ? 8 : 4);
    const int64_t items = c_.batch * per_plane * p_.size[0] * chunks;
    // Bands finish what they wrote. Not where channels do not fill the last
    // vector, since units share some of them, nor rows that lie spread.
    const bool apart = c_.groups % L == 0 && !spread_ && parts_.size() == 1;
    const Finish finish =
        apart ? Finish(c_.dtype, t_.epilogue, dest) : Finish();
    parallel_for(items, grain(items), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t chunk = i % chunks, z = i / chunks % p_.size[0];
        const int64_t band = i / chunks / p_.size[0] % per_plane;
        const int64_t n = i / chunks / p_.size[0] / per_plane;
        if constexpr (std::is_same_v<T, S>) {
          gather_band(
              bands,
              source + n * s_.source.stride.n,
              weight,
              bias,
              s_.units * chunk / chunks,
              s_.units * (chunk + 1) / chunks,
              z,
              band * bands.rows,
              dest + n * s_.dest.stride.n + z * p_.result[0],
              finish);
        }
      }
    });
    if (!apart) {
      finish_all(dest);
    }
  }

  // The epilogue as a pass of its own.
  void finish_all(S* dest) const {
    if (t_.epilogue.any()) {
      const int64_t pixels = p_.size[0] * p_.size[1] * p_.size[2];
      apply_epilogue(
          c_.dtype, t_.epilogue, dest, c_.batch * c_.groups * pixels);
    }
  }

  void weight_grad(void* workspace) const {
    A* sums = static_cast<A*>(workspace);
    S* gw = static_cast<S*>(t_.w);
    const int64_t taps = c_.taps();
    const GradBands<T> bands = choose_bands();
    const int64_t grain = 1 +
        static_cast<int64_t>(kGrainWork * s_.units / (conv_flops(c_) / 2 + 1));
    parallel_for(s_.units, grain, [&](int64_t begin, int64_t end) {
      add_units(bands, begin, end, sums, workspace);
      for (int64_t u = begin; u < end; ++u) {
        write(u, sums + u * taps * L, gw + channel(u) * c_.w.n);
      }
    });
  }

 private:
  // Where a unit lies in what tiles read.
  int64_t place(int64_t unit) const {
    return s_.staged_source ? 0 : channel(unit);
  }

  // The last unit ends with the last channel.
  int64_t channel(int64_t unit) const {
    return std::min(unit * L, c_.groups - L);
  }

  // This thread's planes of a unit, after the weights.
  A* staged(void* workspace) const {
    return reinterpret_cast<A*>(
        static_cast<char*>(workspace) + round_up(pixels_bytes(s_), 64) +
        thread_pool().thread_index() * staged_bytes(s_));
  }

  // The tiles of one problem and the rows of results that they go over together.
  struct Bands {
    int64_t rows;
    Tiles<T> tiles;
    SpreadTiles<T> spread;
  };
  Bands choose_bands_of_results() const {
    if (spread_) {
      return {2, {}, choose_spread()};
    }
    const Tiles<T> tiles = choose_tiles(parts_[0].p);
    return {tiles.rows, tiles, {}};
  }

  SpreadTiles<T> choose_spread() const {
    const bool odd = c_.low[1] % 2 != 0;
    switch (p_.kernel[1]) {
      case 3:
        return spread_tiles<T, 3>(odd);
      case 5:
        return spread_tiles<T, 5>(odd);
      default:
        return spread_tiles<T, 7>(odd);
    }
  }

  Tiles<T> choose_tiles(const PixelsProblem& p) const {
    const int64_t width = p.size[2];
    const bool twice = p.stride[2] == 2;
    switch (p.kernel[1]) {
      case 1: // of phases
        return tiles_for<T, 1, 1>(width);
      case 2:
        return tiles_for<T, 2, 1>(width);
      case 3:
        return twice ? tiles_for<T, 3, 2>(width) : tiles_for<T, 3, 1>(width);
      case 5:
        return twice ? tiles_for<T, 5, 2>(width) : tiles_for<T, 5, 1>(width);
      case 7:
        return twice ? tiles_for<T, 7, 2>(width) : tiles_for<T, 7, 1>(width);
      default:
        return kRegisters == 16 ? tiles<T, 0, 0, 1, 2, 2>()
                                : tiles<T, 0, 0, 1, 4, 4>();
    }
  }

  GradBands<T> choose_bands() const {
    const int64_t width = p_.size[2];
    const bool twice = p_.stride[2] == 2;
    switch (p_.kernel[1]) {
      case 3:
        return twice ? grad_bands<T, 3, 2>(width) : grad_bands<T, 3, 1>(width);
      case 5:
        return twice ? grad_bands<T, 5, 2>(width) : grad_bands<T, 5, 1>(width);
      default:
        return twice ? grad_bands<T, 7, 2>(width) : grad_bands<T, 7, 1>(width);
    }
  }

  // The sums of units first .. last - 1, all samples and bands in their order.
  void add_units(
      const GradBands<T>& bands,
      int64_t first,
      int64_t last,
      A* sums,
      void* workspace) const {
    const int64_t taps = c_.taps();
    const S* source = static_cast<const S*>(t_.x);
    const S* gradient = static_cast<const S*>(t_.y);
    std::fill(sums + first * taps * L, sums + last * taps * L, A(0));
    for (int64_t n = 0; n < c_.batch; ++n) {
      const S* xs = source + n * c_.x.n;
      const S* gs = gradient + n * c_.y.n;
      if (!s_.staged_source) {
        if constexpr (std::is_same_v<T, S>) {
          add_sample(bands, xs, gs, first, last, sums);
        }
        continue;
      }
      if constexpr (std::is_same_v<T, A>) {
        A* x = staged(workspace);
        A* gy = x + pixels(s_.source) * L;
        for (int64_t u = first; u < last; ++u) {
          const int64_t c = channel(u);
          stage_in(xs + c * c_.x.c, c_.x, s_.source.size, L, x);
          stage_in(gs + c * c_.y.c, c_.y, s_.dest.size, L, gy);
          add_sample(bands, x, gy, u, u + 1, sums);
        }
      }
    }
  }

  void add_sample(
      const GradBands<T>& bands,
      const T* source,
      const T* gradient,
      int64_t first,
      int64_t last,
      A* sums) const {
    for (const PixelsPart& part : parts_) {
      add_part(
          bands,
          part.p,
          source + part.source,
          gradient + part.result,
          first,
          last,
          sums);
    }
  }

  void add_part(
      const GradBands<T>& bands,
      const PixelsProblem& p,
      const T* source,
      const T* gradient,
      int64_t first,
      int64_t last,
      A* sums) const {
    const int64_t taps = c_.taps(), of_plane = c_.kernel[1] * c_.kernel[2];
    const int64_t per_plane = ceil_div(p.size[1], kGradRows);
    for (int64_t i = 0; i < per_plane * p.size[0]; ++i) {
      const int64_t z = i % p.size[0], y = i / p.size[0] * kGradRows;
      const GradBand<T> band = bands.band[p.size[1] - y < kGradRows];
      for (int64_t a = 0; a < c_.kernel[0]; ++a) {
        const int64_t from = z * p.stride[0] + a * p.dilation0 - p.low[0];
        if (from < 0 || from >= p.source_size[0]) {
          continue;
        }
        for (int64_t u = first; u < last; ++u) {
          band(
              p,
              source + from * p.source[0] + place(u),
              gradient + z * p.result[0] + place(u),
              y,
              sums + (u * taps + a * of_plane) * L);
        }
      }
    }
  }

  // The sums of a unit to its weights; lanes of the unit before are left to it.
  void write(int64_t unit, const A* sums, S* gw) const {
    const int64_t taps = c_.taps(), own = unit * L - channel(unit);
    if (!gapless(c_.w, c_.kernel)) {
      for (int64_t i = 0; i < taps; ++i) {
        for (int64_t l = own; l < L; ++l) {
          gw[l * c_.w.n + offset_[i]] = S(sums[place_[i] * L + l]);
        }
      }
      return;
    }
    for_vectors<L>(taps, [&](int64_t first, int count) {
      Vec<A> v[L];
      for (int i = 0; i < L; ++i) {
        v[i] = i < count ? load(sums + place_[first + i] * L) : Vec<A>{};
      }
      transpose<A>(v);
      for (int64_t l = own; l < L; ++l) {
        store_lanes(gw + l * c_.w.n + first, v[l], count);
      }
    });
  }

  // [unit][plane][column][row][lane], and the biases.
  void pack(A* to, A* bias) const {
    const S* w = static_cast<const S*>(t_.w);
    const S* b = static_cast<const S*>(t_.bias);
    const int64_t taps = c_.taps();
    const bool dense = gapless(c_.w, c_.kernel);
    for (int64_t u = 0; u < s_.units; ++u, to += taps * L) {
      const int64_t c = channel(u);
      const S* from = w + c * c_.w.n;
      if (dense) {
        for_vectors<L>(taps, [&](int64_t first, int count) {
          turn(from + first, c_.w.n, L, count, [&](int i, Vec<A> v) {
            if (i < count) {
              store(to + place_[first + i] * L, v);
            }
          });
        });
      } else {
        for (int64_t i = 0; i < taps; ++i) {
          A* tap = to + place_[i] * L;
          for (int l = 0; l < L; ++l) {
            tap[l] = static_cast<A>(from[offset_[i] + l * c_.w.n]);
          }
        }
      }
      for (int l = 0; l < L; ++l) {
        *bias++ = b == nullptr ? A(0) : static_cast<A>(b[c + l]);
      }
    }
  }

  // Rows y .. of plane z of every part, as many as a band has.
  void gather_band(
      const Bands& bands,
      const T* source,
      const A* weight,
      const A* bias,
      int64_t first_unit,
      int64_t last_unit,
      int64_t z,
      int64_t y,
      T* result,
      const Finish& finish) const {
    for (const PixelsPart& part : parts_) {
      gather_part(
          bands,
          part.p,
          source + part.source,
          weight + part.weight * L,
          bias,
          first_unit,
          last_unit,
          z,
          y,
          result + part.result,
          finish);
    }
  }

  void gather_part(
      const Bands& bands,
      const PixelsProblem& p,
      const T* source,
      const A* weight,
      const A* bias,
      int64_t first_unit,
      int64_t last_unit,
      int64_t z,
      int64_t y,
      T* result,
      const Finish& finish) const {
    const auto run = [&](Tile<T> tile, int64_t row, int64_t x) {
      for (int64_t u = first_unit; u < last_unit; ++u) {
        if (far_) {
          fetch_next(bands.tiles, p, source + place(u), z, row, x);
          fetch_results(bands.tiles, p, result + place(u), row, x);
        }
        tile(
            p,
            source + place(u),
            weight + u * c_.taps() * L,
            bias + u * L,
            z,
            row,
            x,
            result + place(u));
      }
    };
    if (spread_) {
      const int64_t width = ceil_div(p.size[2], 2);
      const bool narrow = width < kSpreadPixels;
      const int64_t pixels = narrow ? 1 : kSpreadPixels;
      for (int64_t i = 0; i < width; i += pixels) {
        const int64_t x = std::min(i, width - pixels);
        const int64_t last = x + (p.low[2] + 1) / 2 + pixels - 1;
        const bool edge =
            last - pixels + 1 < p.kernel[2] / 2 || last >= p.source_size[2];
        run(narrow ? bands.spread.one : bands.spread.tile[edge], y / 2, x);
      }
      return;
    }
    const Tiles<T>& t = bands.tiles;
    const int64_t y0 = y;
    const int64_t end = std::min(y + t.rows, p.size[1]);
    while (y < end) {
      const int which = end - y >= t.rows ? 0
          : end - y >= 2 && t.rows > 2    ? 1
                                          : 2;
      const int64_t rows = which == 0 ? t.rows : which == 1 ? 2 : 1;
      const int64_t first = y * p.stride[1] - p.low[1];
      const bool inside = first >= 0 &&
          first + (rows - 1) * p.stride[1] + p.kernel[1] <= p.source_size[1];
      const bool narrow = p.size[2] < t.pixels;
      const int64_t pixels = narrow ? 1 : t.pixels;
      for (int64_t i = 0; i < p.size[2]; i += pixels) {
        const int64_t x = std::min(i, p.size[2] - pixels);
        const int64_t column = x * p.stride[2] - p.low[2];
        const bool edge = !inside || column < 0 ||
            column + (pixels - 1) * p.stride[2] +
                    (p.kernel[2] - 1) * p.dilation2 >=
                p.source_size[2];
        run(t.tile[which][narrow][edge], y, x);
      }
      y += rows;
    }
    for (y = y0; y < end && finish; ++y) {
      finish.block(
          result + y * p.result[1] + first_unit * L,
          p.size[2],
          p.result[2],
          (last_unit - first_unit) * L,
          1);
    }
  }

  const StripShape& s_;
  const ConvProblem& c_;
  const ConvTensors& t_;
  PixelsProblem p_;
  std::vector<PixelsPart> parts_;
  bool spread_; // input_grad of stride 2 and an odd kernel
  bool far_; // more than caches hold is read and written
  // Tap i, as weights lie: where it is packed, [phase][plane][column][row], and where
  // it lies in the weight of a channel.
  std::vector<int64_t> place_, offset_;
};

// See pixels_in_place (conv_depthwise_strip.cpp).
template <typename S>
constexpr bool kPixelsInPlace = std::is_same_v<S, acc_t<S>> ||
    (std::is_same_v<S, bfloat16> && kRegisters == 32);

template <typename P>
void run_pass(const P& pixels, Pass pass, void* workspace) {
  if (pass == Pass::weight_grad) {
    pixels.weight_grad(workspace);
  } else {
    pixels.gather(workspace);
  }
}

} // namespace

template <typename S>
void run_pixels(const StripShape& s, const ConvTensors& t, void* workspace) {
  if (s.staged_source || !kPixelsInPlace<S>) {
    return run_pass(Pixels<S, acc_t<S>>(s, t), s.pass, workspace);
  }
  if constexpr (kPixelsInPlace<S>) {
    run_pass(Pixels<S, S>(s, t), s.pass, workspace);
  }
}
template void run_pixels<float>(const StripShape&, const ConvTensors&, void*);
template void run_pixels<half>(const StripShape&, const ConvTensors&, void*);
template void run_pixels<bfloat16>(
    const StripShape&,
    const ConvTensors&,
    void*);

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

#endif
