// Depthwise convolution without a strip: rows are read where they lie, positions
// in the lanes, and masked loads bring the zeros of the padding. For small
// kernels, where copying takes as long as multiplying.
//
// With stride 2, two vectors are read and parted into the elements of two taps.
// input_grad of stride 1 is the same with the kernel turned around.
//
// A result is summed in an order that its tile has no part in.

#include <algorithm>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/parallel.h"
#include "cpu/conv_depthwise.h"

#ifndef TC_ISA
#define TC_SELF "cpu/conv_depthwise_rows.cpp"
#define TC_WIDE_ONLY // see worth_in_place (conv_depthwise_strip.cpp)
#include "cpu/foreach_isa.h"

namespace torchconv {
namespace cpu {

void run_depthwise_rows(const StripShape& s, const ConvTensors& t) {
  if (s.p.dtype == DType::f64) {
    return TC_DISPATCH(run_in_place<double>)(s, t);
  }
  TC_DISPATCH(run_in_place<float>)(s, t);
}

} // namespace cpu
} // namespace torchconv

#else // one instruction set

#include "cpu/simd.h"
#include "cpu/shuffle.h"
#include "cpu/conv_depthwise_rows_tile.h"
#include "cpu/conv_depthwise_rows_stream.h"
#include "cpu/conv_depthwise_rows_spread.h"
#include "cpu/conv_depthwise_rows_grad.h"
#include "cpu/conv_depthwise_line.h"

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

template <typename A, int K1, int S>
void rows_band(
    const RowsProblem<A>& p,
    const A* source,
    const A* weight,
    A bias,
    int64_t z,
    int64_t y0,
    int64_t y1,
    A* result) {
#if defined(TC_AVX512)
  if constexpr (K1 == 1 && S == 1) {
    if (p.kernel2 > kShortTaps) {
      for (int64_t y = y0; y < y1; ++y) {
        line_row(
            p,
            source + z * p.source_plane + y * p.source_row,
            weight,
            bias,
            result + y * p.row);
      }
      return;
    }
  }
  if constexpr (K1 == 3) {
    if (p.kernel2 == 3 && p.dilation2 == 1) {
      if (p.kernel0 == 1) {
        stream_band<A, S, false, 4>(
            p, source, weight, bias, z, y0, y1, 0, result);
      } else {
        stream_band<A, S, true, 4>(
            p, source, weight, bias, z, y0, y1, 0, result);
      }
      return;
    }
  }
#endif
  // Seven rows: of the usual heights most are multiples.
  constexpr int R = K1 == 1 ? 1
      : kRegisters == 16    ? 4
      : K1 == 7 && S == 2   ? 4
                            : 7;
  constexpr int kWide = K1 == 1 ? 8 / S : kRegisters == 16 && S == 2 ? 1 : 2;
  int64_t v = 0;
  for (; v + kWide <= p.vectors; v += kWide) {
    rows_column<A, K1, S, R, kWide>(
        p, source, weight, bias, z, y0, y1, v, result);
  }
  if constexpr (kWide > 2) {
    for (; v + 2 <= p.vectors; v += 2) {
      rows_column<A, K1, S, R, 2>(
          p, source, weight, bias, z, y0, y1, v, result);
    }
  }
  if constexpr (kWide > 1) {
    if (v < p.vectors) {
      rows_column<A, K1, S, R, 1>(
          p, source, weight, bias, z, y0, y1, v, result);
    }
  }
}

// About so many rows of results make one piece of work.
constexpr int64_t kBandRows = 56;

template <typename A>
class InPlace {
 public:
  InPlace(const StripShape& s, const ConvTensors& t) : s_(s), t_(t) {
    const ConvProblem& c = s.p;
    const bool backward = s.pass == Pass::input_grad;
    const bool spread = backward && c.stride[2] == 2;
    const bool turned = backward && !spread;
    const Planes &from = s.source, &to = s.dest;
    for (int d = 0; d < 3; ++d) {
      p_.source_size[d] = from.size[d];
      p_.size[d] = to.size[d];
      p_.w[d] = turned ? -c.w.s[d] : c.w.s[d];
      p_.low[d] =
          turned ? (c.kernel[d] - 1) * c.dilation[d] - c.low[d] : c.low[d];
    }
    p_.kernel0 = c.kernel[0];
    p_.kernel2 = c.kernel[2];
    p_.stride0 = c.stride[0];
    p_.stride = c.stride[2];
    p_.dilation0 = c.dilation[0];
    p_.dilation2 = c.dilation[2];
    p_.source_plane = from.stride.s[0];
    p_.source_row = from.stride.s[1];
    p_.plane = to.stride.s[0];
    p_.row = to.stride.s[1];
    if (spread) {
      set_spread_masks(p_);
    } else {
      set_masks(p_, s.pass == Pass::weight_grad && c.stride[2] == 1);
    }
    parts_.push_back({p_, 0, 0});
    if (c.kernel[1] > 1 && c.dilation[1] != 1) { // rows that meet
      parts_.clear();
      for (const Lattice& l : dilated_lattices(
               p_.size[1], p_.source_size[1], p_.low[1], c.dilation[1])) {
        parts_.push_back({p_, l.source * p_.source_row, l.first * p_.row});
        RowsProblem<A>& p = parts_.back().p;
        p.source_row *= l.source_step;
        p.row *= l.step;
        p.source_size[1] = l.source_size;
        p.size[1] = l.size;
        p.low[1] = l.low;
      }
    }
  }

  void run() {
    switch (s_.p.kernel[1]) {
      case 1:
        return run_kernel<1>();
      case 2: // input_grad of stride 2 alone
        return gather<2, 2>();
      case 4:
        return gather<4, 2>();
      case 3:
        return run_kernel<3>();
      case 5:
        return run_kernel<5>();
      default:
        return run_kernel<7>();
    }
  }

 private:
  // All rows, or a lattice of them, and where it begins, in elements.
  struct Part {
    RowsProblem<A> p;
    int64_t source, dest;
  };

  template <int K1>
  void run_kernel() {
    if (s_.pass == Pass::weight_grad) {
      run_grad<K1>();
    } else if (p_.stride == 2) {
      gather<K1, 2>();
    } else {
      gather<K1, 1>();
    }
  }

  template <int K1, int S>
  void gather() {
    const ConvProblem& c = s_.p;
    const bool backward = s_.pass == Pass::input_grad;
    const A* source = static_cast<const A*>(backward ? t_.y : t_.x);
    A* dest = static_cast<A*>(backward ? t_.x : t_.y);
    const A* bias = static_cast<const A*>(t_.bias);
    const A* weight = static_cast<const A*>(t_.w);
    if (backward && p_.stride == 1) { // from its last tap
      for (int d = 0; d < 3; ++d) {
        weight += (c.kernel[d] - 1) * c.w.s[d];
      }
    }
    if (p_.size[1] == 0) {
      return;
    }
    const Finish finish(c.dtype, t_.epilogue, dest);
    const int64_t most = parts_[0].p.size[1];
    const int64_t bands = ceil_div(most, kBandRows);
    // Whole tiles of input_grad of stride 2, which are up to two pairs of rows
    // high: one that reached into the next band would write there without the
    // epilogue, perhaps after that band has applied it.
    const int64_t rows = round_up(ceil_div(most, bands), 4);
    const int64_t items = c.batch * c.out_channels * p_.size[0] * bands;
    const int64_t grain =
        1 + static_cast<int64_t>(kGrainWork * items / (conv_flops(c) / 2 + 1));
    parallel_for(items, grain, [&](int64_t begin, int64_t end) {
      int64_t band = begin % bands, z = begin / bands % p_.size[0];
      int64_t k = begin / bands / p_.size[0] % c.out_channels;
      int64_t n = begin / bands / p_.size[0] / c.out_channels;
      for (int64_t i = begin; i < end; ++i) {
        const A* from = source + n * s_.source.stride.n +
            (s_.dest_group == 1 ? k : k / s_.dest_group) * s_.source.stride.c;
        A* to =
            dest + n * s_.dest.stride.n + k * s_.dest.stride.c + z * p_.plane;
        const auto band_of = [&](const auto&... of) {
          if constexpr (K1 % 2 != 0) {
            if (S == 1 || !backward) {
              return rows_band<A, K1, S>(of...);
            }
          }
          if constexpr (S == 1) {
            return;
          } else if (p_.low[1] % 2 != 0) {
            spread_band<A, K1, true>(of...);
          } else {
            spread_band<A, K1, false>(of...);
          }
        };
        for (const Part& part : parts_) {
          const RowsProblem<A>& p = part.p;
          const int64_t y0 = band * rows, y1 = std::min(y0 + rows, p.size[1]);
          if (y0 >= y1) {
            continue;
          }
          A* plane = to + part.dest;
          band_of(
              p,
              from + part.source,
              weight + k * c.w.n,
              bias == nullptr ? A(0) : bias[k],
              z,
              y0,
              y1,
              plane);
          finish.block(plane + y0 * p.row, y1 - y0, p.row, p.size[2], 1);
        }
        if (++band == bands) { // carry: a division would cost more than a row
          band = 0;
          if (++z == p_.size[0]) {
            z = 0;
            if (++k == c.out_channels) {
              k = 0;
              ++n;
            }
          }
        }
      }
    });
  }

  template <int K1>
  void run_grad() {
    constexpr int L = kLanes<A>;
    const ConvProblem& c = s_.p;
    const A* x = static_cast<const A*>(t_.x);
    const A* gy = static_cast<const A*>(t_.y);
    A* gw = static_cast<A*>(t_.w);
    const int64_t grain = 1 +
        static_cast<int64_t>(kGrainWork * c.out_channels /
                             (conv_flops(c) / 2 + 1));
    parallel_for(c.out_channels, grain, [&](int64_t begin, int64_t end) {
      // Of few taps several channels share the turns of sum_all.
      const int64_t taps = c.kernel[0] * c.kernel[2] * K1;
      const int64_t most = taps < L ? L : 1;
      std::vector<A> sums(round_up(most * taps, L) * L);
      for (int64_t first = begin; first < end; first += most) {
        const int64_t last = std::min(end, first + most);
        std::fill(sums.begin(), sums.end(), A(0));
        for (int64_t k = first; k < last; ++k) {
          for (int64_t n = 0; n < c.batch; ++n) {
            const A* xs = x + n * c.x.n + k / s_.dest_group * c.x.c;
            const A* gs = gy + n * c.y.n + k * c.y.c;
            for (int64_t z = 0; z < p_.size[0]; ++z) {
              for (const Part& part : parts_) {
                add_plane<K1>(
                    part.p,
                    xs + part.source,
                    gs + z * p_.plane + part.dest,
                    z,
                    sums.data() + (k - first) * taps * L);
              }
            }
          }
        }
        write_sums((last - first) * taps, sums.data(), gw + first * c.w.n);
      }
    });
  }

  // The sums of `count` vectors to neighbouring weights of whole channels.
  void write_sums(int64_t count, A* sums, A* gw) const {
    constexpr int64_t L = kLanes<A>;
    const ConvProblem& c = s_.p;
    const int64_t rows = c.kernel[1], columns = c.kernel[2];
    const bool dense = c.w.s[2] == 1 && c.w.s[1] == columns &&
        c.w.s[0] == rows * columns && c.w.n == c.taps();
    for (int64_t i = 0; i < count; i += L) {
      sum_all(sums + i * L);
      const int here = static_cast<int>(std::min(L, count - i));
      if (dense) {
        store_partial(gw + i, load(sums + i * L), here);
        continue;
      }
      for (int64_t j = i; j < i + here; ++j) {
        gw[j / c.taps() * c.w.n + j % c.taps() / (rows * columns) * c.w.s[0] +
           j / columns % rows * c.w.s[1] + j % columns * c.w.s[2]] =
            sums[i * L + j - i];
      }
    }
  }

  template <int K1>
  void add_plane(
      const RowsProblem<A>& p,
      const A* x,
      const A* gy,
      int64_t z,
      A* sums) const {
    constexpr int L = kLanes<A>;
    // As many sums as registers hold beside four rows of gy.
    constexpr int kMost = kRegisters == 32 ? (K1 == 1       ? kShortTaps
                                                  : K1 == 3 ? 5
                                                  : K1 == 5 ? 5
                                                            : 3)
                                           : (K1 == 1       ? 4
                                                  : K1 == 3 ? 3
                                                            : 1);
#if defined(TC_AVX512)
    if constexpr (K1 == 1) {
      if (p.kernel2 > kShortTaps) {
        for (int64_t y = 0; y < p.size[1]; ++y) {
          line_grads(
              p,
              x + z * p.source_plane + y * p.source_row,
              gy + y * p.row,
              sums);
        }
        return;
      }
    }
    if constexpr (K1 == 3) {
      if (p.kernel2 == 3 && p.dilation2 == 1) {
        return stream_planes(p, x, gy, z, sums);
      }
    }
#endif
    for (int64_t a = 0; a < p.kernel0; ++a) {
      for (int64_t t = 0; t < p.kernel2;) {
        A* to = sums + (a * K1 * p.kernel2 + t) * L;
        t += grad_taps<K1, kMost>(p, x, gy, z, a, t, to);
      }
    }
  }

#if defined(TC_AVX512)
  void stream_planes(
      const RowsProblem<A>& p,
      const A* x,
      const A* gy,
      int64_t z,
      A* sums) const {
    for (int64_t a = 0; a < p.kernel0; ++a) {
      const int64_t from = z * p.stride0 + a * p.dilation0 - p.low[0];
      if (from < 0 || from >= p.source_size[0]) {
        continue;
      }
      const A* plane = x + from * p.source_plane;
      A* to = sums + a * 9 * kLanes<A>;
      if (p.stride == 2) {
        stream_grad<A, 2>(p, plane, gy, to);
      } else {
        stream_grad<A, 1>(p, plane, gy, to);
      }
    }
  }
#endif

  // As many taps as are left, up to T; 3, 2 or 1 where fewer are left.
  template <int K1, int T>
  int64_t grad_taps(
      const RowsProblem<A>& p,
      const A* x,
      const A* gy,
      int64_t z,
      int64_t a,
      int64_t t,
      A* to) const {
    if (p.kernel2 - t >= T) {
      grad_rows<A, K1, T>(p, x, gy, z, a, t, to);
      return T;
    }
    if constexpr (T > 1) {
      return grad_taps<K1, (K1 > 1 && T > 4 ? 4 : T - 1)>(
          p, x, gy, z, a, t, to);
    }
    return 1;
  }

  const StripShape& s_;
  const ConvTensors& t_;
  RowsProblem<A> p_;
  std::vector<Part> parts_;
};

} // namespace

template <typename A>
void run_in_place(const StripShape& s, const ConvTensors& t) {
  InPlace<A>(s, t).run();
}
template void run_in_place<float>(const StripShape&, const ConvTensors&);
template void run_in_place<double>(const StripShape&, const ConvTensors&);

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

#endif
