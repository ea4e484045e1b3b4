// The gradient of max pooling with the channels innermost: a vector is that
// many channels of one input position.
#include "cpu/pool_index_vector.h"

#include <algorithm>
#include <array>
#include <limits>
#include <type_traits>
#include <utility>

#include "core/parallel.h"

#ifndef TC_ISA
#define TC_SELF "cpu/pool_index_channels.cpp"
#include "cpu/foreach_isa.h"

namespace torchconv {
namespace cpu {
namespace {

template <typename S>
void gradient(const PoolGrad& g, const void* grad, void* gx) {
  switch (g.k.kind) {
    case CodeKind::u8:
      return TC_DISPATCH(pool_grad_channels_kernel<S, uint8_t>)(g, grad, gx);
    case CodeKind::i32:
      return TC_DISPATCH(pool_grad_channels_kernel<S, int32_t>)(g, grad, gx);
    default:
      return TC_DISPATCH(pool_grad_channels_kernel<S, int64_t>)(g, grad, gx);
  }
}

// Offsets in gx of the taps of a window from its first one; kNowhere for taps
// outside the input and codes that are no tap.
constexpr int64_t kNowhere = -1;
using TapOffsets = std::array<int64_t, kMaxTapCode>;

TapOffsets tap_offsets(const PoolGrad& g, const int64_t start[3]) {
  const PoolProblem& p = g.k.p;
  TapOffsets table;
  table.fill(kNowhere);
  const auto taps = [&](int i) {
    const int64_t begin =
        start[i] < 0 ? pool_steps(-start[i], p.dilation[i]) : 0;
    const int64_t end = pool_steps(p.in[i] - start[i], p.dilation[i]);
    return PoolRange{begin, std::min(end, p.kernel[i])};
  };
  const PoolRange d = taps(0), h = taps(1), w = taps(2);
  for (int64_t a = d.begin; a < d.end; ++a) {
    for (int64_t b = h.begin; b < h.end; ++b) {
      for (int64_t c = w.begin; c < w.end; ++c) {
        table[a * g.tap_unit[0] + b * g.tap_unit[1] + c * g.tap_unit[2]] =
            a * p.dilation[0] * p.x_stride[0] +
            b * p.dilation[1] * p.x_stride[1] +
            c * p.dilation[2] * p.x_stride[2];
      }
    }
  }
  return table;
}

// Every output adds its gradient where its tap is: for windows that overlap so
// much that an input lies in very many of them.
template <typename T>
void scatter_taps(const PoolGrad& g, const T* grad, T* gx) {
  constexpr int64_t kBlock = 256; // channels at a time
  const PoolCodes& k = g.k;
  const PoolProblem& p = k.p;
  const uint8_t* codes = static_cast<const uint8_t*>(k.codes);
  const int64_t blocks = ceil_div(p.channels, kBlock);
  const int64_t zero[3] = {};
  int64_t span[3];
  for (int i = 0; i < 3; ++i) {
    span[i] = (p.kernel[i] - 1) * p.dilation[i] + 1;
  }
  PoolGrad unbounded{k, {g.tap_unit[0], g.tap_unit[1], g.tap_unit[2]}};
  std::copy(span, span + 3, unbounded.k.p.in);
  const TapOffsets whole = tap_offsets(unbounded, zero);
  const int64_t work =
      (pool_in_plane(p) + pool_out_plane(p)) * std::min(p.channels, kBlock);
  parallel_for(
      p.batch * blocks, pool_grain(work), [&](int64_t first, int64_t last) {
        for (int64_t u = first; u < last; ++u) {
          const int64_t n = u / blocks, c = u % blocks * kBlock;
          const int64_t width = std::min(kBlock, p.channels - c);
          T* to = gx + n * p.x_stride_n + c;
          for (int64_t i = 0; i < pool_in_plane(p); ++i) {
            const int64_t w = i % p.in[2], h = i / p.in[2] % p.in[1];
            const int64_t d = i / (p.in[2] * p.in[1]);
            std::fill_n(
                to + d * p.x_stride[0] + h * p.x_stride[1] + w * p.x_stride[2],
                width,
                T(0));
          }
          for (int64_t o = 0; o < pool_out_plane(p); ++o) {
            const int64_t at[3] = {
                o / (p.out[2] * p.out[1]),
                o / p.out[2] % p.out[1],
                o % p.out[2]};
            int64_t start[3], base = 0, y = n * p.y_stride_n + c;
            int64_t code = n * k.c_stride_n + c;
            bool inside = true;
            for (int i = 0; i < 3; ++i) {
              start[i] = at[i] * p.stride[i] - p.padding[i];
              inside &= start[i] >= 0 && start[i] + span[i] <= p.in[i];
              base += start[i] * p.x_stride[i];
              y += at[i] * p.y_stride[i];
              code += at[i] * k.c_stride[i];
            }
            TapOffsets edge;
            if (!inside) {
              edge = tap_offsets(g, start);
            }
            const TapOffsets& table = inside ? whole : edge;
            for (int64_t j = 0; j < width; ++j) {
              const int64_t tap = table[codes[code + j]];
              if (tap != kNowhere) {
                to[base + tap + j] += grad[y + j];
              }
            }
          }
        }
      });
}

// Vector steps for the inputs of one vector of channels: a sum takes one and a
// bit for each window that holds the input, a scatter zeros it and takes about
// three scalar ones for each output, or ten where the plane of a block of
// channels is out of the second cache.
bool gather_is_faster(const PoolGrad& g) {
  const PoolProblem& p = g.k.p;
  const int64_t bytes = active_isa() == Isa::avx512 ? 64
      : active_isa() == Isa::avx2                   ? 32
                                                    : 16;
  const double lanes = bytes / (p.dtype == DType::f64 ? 8. : 4.);
  double windows = 1; // that hold one input, about
  for (int i = 0; i < 3; ++i) {
    double taps = double(p.out[i]) * double(p.kernel[i]);
    for (int64_t o = 0; g.k.adaptive && o < p.out[i]; ++o) {
      taps += double(
          adaptive_end(o, p.in[i], p.out[i]) -
          adaptive_begin(o, p.in[i], p.out[i]) - p.kernel[i]);
    }
    windows *= taps / double(p.in[i]);
  }
  const double in = double(pool_in_plane(p)), out = double(pool_out_plane(p));
  constexpr int64_t kCache = 1 << 20;
  const int64_t block = std::min<int64_t>(p.channels, 256);
  const bool cached = pool_in_plane(p) * block * dtype_size(p.dtype) <= kCache;
  const double add = cached ? 3 : 10;
  return in * (2.5 + 1.3 * windows) <= in * 2 + out * lanes * add;
}

} // namespace

bool pool_grad_channels(const PoolGrad& g, const void* grad, void* gx) {
  const DType dtype = g.k.p.dtype;
  if (!gather_is_faster(g)) {
    const bool taps = g.k.kind == CodeKind::u8;
    if (taps && dtype == DType::f32) {
      scatter_taps(g, static_cast<const float*>(grad), static_cast<float*>(gx));
    } else if (taps && dtype == DType::f64) {
      scatter_taps(
          g, static_cast<const double*>(grad), static_cast<double*>(gx));
    } else {
      return false;
    }
    return true;
  }
  switch (dtype) {
    case DType::f64:
      gradient<double>(g, grad, gx);
      break;
    case DType::f16:
      gradient<half>(g, grad, gx);
      break;
    case DType::bf16:
      gradient<bfloat16>(g, grad, gx);
      break;
    default:
      gradient<float>(g, grad, gx);
  }
  return true;
}

} // namespace cpu
} // namespace torchconv

#else // one instruction set

#include "cpu/pool_grad_simd.h"
#if defined(TC_AVX512)
#include "cpu/pool_mask_simd.h"
#endif

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// One row of input pixels after the other. What names a pixel in a code is the
// same for all its windows where codes are positions (i32, i64), and its tap in
// each of them where they are taps (u8).
template <typename S, typename C>
class PixelGrads {
  using A = acc_t<S>;
  static constexpr int L = kLanes<A>;
  static constexpr bool kTaps = std::is_same_v<C, uint8_t>;

 public:
  PixelGrads(const PoolGrad& g, const void* grad, void* gx)
      : k_(g.k),
        p_(g.k.p),
        channels_(g.k.p.channels),
        grad_(static_cast<const S*>(grad)),
        codes_(static_cast<const C*>(g.k.codes)),
        gx_(static_cast<S*>(gx)),
        depth_(g, 0),
        height_(g, 1),
        first_(p_.in[2] + 1) {
    const PoolSources width(g, 2);
    for (int64_t iw = 0; iw < p_.in[2]; ++iw) {
      for (auto w = width.begin(iw); w != width.end(iw); ++w) {
        columns_.push_back(
            {w->out * p_.y_stride[2],
             w->out * k_.c_stride[2],
             static_cast<int>(w->label)});
      }
      first_[iw + 1] = static_cast<int64_t>(columns_.size());
    }
    most_lines_ = depth_.most() * height_.most();
    most_ = most_lines_ * width.most(); // 0 where columns lie in no window
  }

  int64_t rows() const {
    return p_.batch * p_.in[0] * p_.in[1];
  }

  void some(int64_t begin, int64_t end) const {
    std::vector<Source> lines(most_lines_), sources(most_);
    for (int64_t r = begin; r < end; ++r) {
      const int64_t ih = r % p_.in[1];
      const int64_t id = r / p_.in[1] % p_.in[0];
      const int64_t n = r / (p_.in[1] * p_.in[0]);
      const int64_t at = (id * p_.in[1] + ih) * p_.in[2];
      S* out =
          gx_ + n * p_.x_stride_n + id * p_.x_stride[0] + ih * p_.x_stride[1];
      int count = 0;
      for (auto d = depth_.begin(id); d != depth_.end(id); ++d) {
        for (auto h = height_.begin(ih); h != height_.end(ih); ++h) {
          lines[count++] = {
              grad_ + n * p_.y_stride_n + d->out * p_.y_stride[0] +
                  h->out * p_.y_stride[1],
              codes_ + n * k_.c_stride_n + d->out * k_.c_stride[0] +
                  h->out * k_.c_stride[1],
              static_cast<int>(d->label + h->label)};
        }
      }
      switch (count) {
        case 1:
          row<1>(lines.data(), 1, sources.data(), at, out);
          break;
        case 2:
          row<2>(lines.data(), 2, sources.data(), at, out);
          break;
        default:
          row<0>(lines.data(), count, sources.data(), at, out);
      }
    }
  }

 private:
  // A row or pixel of outputs that may have chosen the inputs at hand.
  struct Source {
    const S* grad;
    const C* codes;
    int label; // the tap, as far as it is known
  };
  // The same for a position along a row, as offsets.
  struct Column {
    int64_t grad, codes;
    int label;
  };

  // A row of pixels whose first one is position `at` of its plane. Few sources
  // are unrolled: an output of 64 channels costs a few cycles, as much as
  // loops over one or two lines and columns.
  template <int Lines>
  void row(const Source* lines, int count, Source* s, int64_t at, S* out)
      const {
    for (int64_t iw = 0; iw < p_.in[2]; ++iw, out += p_.x_stride[2]) {
      const Column* w = columns_.data() + first_[iw];
      const int64_t columns = first_[iw + 1] - first_[iw];
      if constexpr (Lines > 0) {
        if (columns == 1) {
          few<Lines, 1>(lines, w, at + iw, out);
          continue;
        }
        if (columns == 2) {
          few<Lines, 2>(lines, w, at + iw, out);
          continue;
        }
      }
      int64_t n = 0;
      for (int i = 0; i < count; ++i) {
        for (int64_t j = 0; j < columns; ++j) {
          s[n++] = moved(lines[i], w[j]);
        }
      }
      pixel<0>(s, n, at + iw, out);
    }
  }

  static Source moved(const Source& line, const Column& w) {
    return {line.grad + w.grad, line.codes + w.codes, line.label + w.label};
  }

  template <int Lines, int Columns>
  void few(const Source* lines, const Column* w, int64_t at, S* out) const {
    Source s[Lines * Columns];
    for (int i = 0; i < Lines; ++i) {
      for (int j = 0; j < Columns; ++j) {
        s[i * Columns + j] = moved(lines[i], w[j]);
      }
    }
    pixel<Lines * Columns>(s, Lines * Columns, at, out);
  }

  // The last vector ends with the pixel, and does some channels twice. N: how
  // many sources, 0 for any number.
  template <int N>
  void pixel(const Source* s, int64_t n, int64_t at, S* out) const {
    const int64_t channels = channels_;
    int64_t c = 0;
    for (; c + 4 * L <= channels; c += 4 * L) {
      gather<4, N>(s, n, at, c, out);
    }
    for (; c + L <= channels; c += L) {
      gather<1, N>(s, n, at, c, out);
    }
    if (c < channels && channels > L) {
      gather<1, N>(s, n, at, channels - L, out);
    } else if (c < channels) {
      gather_few(s, n, at, out);
    }
  }

  // V vectors of channels from c on.
  template <int V, int N>
  static void gather(
      const Source* s,
      int64_t n,
      int64_t at,
      int64_t c,
      S* out) {
    Vec<A> sum[V] = {};
    const auto add = [&](const Source& from) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        add_coded<A>(
            sum[v],
            load_as(from.grad + c + v * L),
            from.codes + c + v * L,
            static_cast<C>(kTaps ? from.label : at));
      }
    };
    if constexpr (N > 0) {
#pragma GCC unroll 4
      for (int i = 0; i < N; ++i) {
        add(s[i]);
      }
    } else {
      for (int64_t i = 0; i < n; ++i) {
        add(s[i]);
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      store_as(out + c + v * L, sum[v]);
    }
  }

  // Fewer channels than a vector has.
  void gather_few(const Source* s, int64_t n, int64_t at, S* out) const {
    const int lanes = static_cast<int>(channels_);
#if defined(TC_AVX512)
    const unsigned mask = (1u << lanes) - 1;
    Vec<A> total = {};
    for (int64_t i = 0; i < n; ++i) {
      const C label = static_cast<C>(kTaps ? s[i].label : at);
      const unsigned chosen = lanes_equal<L>(s[i].codes, label, mask);
      total += load_lanes(s[i].grad, chosen, Vec<A>{});
    }
    store_lanes(out, total, mask);
#else
    A sum[L] = {};
    for (int64_t i = 0; i < n; ++i) {
      const C label = static_cast<C>(kTaps ? s[i].label : at);
      for (int c = 0; c < lanes; ++c) {
        sum[c] += s[i].codes[c] == label ? static_cast<A>(s[i].grad[c]) : A(0);
      }
    }
    for (int c = 0; c < lanes; ++c) {
      out[c] = S(sum[c]);
    }
#endif
  }

  const PoolCodes& k_;
  const PoolProblem& p_;
  const int64_t channels_;
  const S* grad_;
  const C* codes_;
  S* gx_;
  const PoolSources depth_, height_;
  std::vector<Column> columns_; // of position i: first_[i] and on
  std::vector<int64_t> first_;
  int64_t most_lines_, most_; // sources of one position
};

} // namespace

template <typename S, typename C>
void pool_grad_channels_kernel(const PoolGrad& g, const void* grad, void* gx) {
  const PixelGrads<S, C> grads(g, grad, gx);
  const int64_t work = g.k.p.channels * g.k.p.in[2] * 4;
  parallel_for(grads.rows(), pool_grain(work), [&](int64_t begin, int64_t end) {
    grads.some(begin, end);
  });
}

#define TC_INSTANTIATE(S)                              \
  template void pool_grad_channels_kernel<S, uint8_t>( \
      const PoolGrad&, const void*, void*);            \
  template void pool_grad_channels_kernel<S, int32_t>( \
      const PoolGrad&, const void*, void*);            \
  template void pool_grad_channels_kernel<S, int64_t>( \
      const PoolGrad&, const void*, void*);
TC_INSTANTIATE(float)
TC_INSTANTIATE(double)
TC_INSTANTIATE(half)
TC_INSTANTIATE(bfloat16)
#undef TC_INSTANTIATE

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

#endif
