// The gradient of max pooling along contiguous rows (NCHW) with windows of two
// or three neighbours, one or two apart, from codes of one byte, in AVX-512. An
// input gathers from the few windows that hold it; which outputs these are,
// seen from an input, is known when this is compiled. Codes outside a row are
// loaded as no tap, so that no vector has an edge.
#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/parallel.h"
#include "cpu/pool_grad_near.h"
#include "cpu/pool_near_spread.h"

#ifndef TC_ISA
#define TC_SELF "cpu/pool_grad_near.cpp"
#include "cpu/avx512_only.h"

namespace torchconv {
namespace cpu {

bool pool_grad_near(const PoolGrad& g, const void* grad, void* gx) {
#if defined(__x86_64__)
  const PoolProblem& p = g.k.p;
  const int64_t k = p.kernel[2], s = p.stride[2];
  if (active_isa() != Isa::avx512 || !(k == 2 || k == 3) ||
      !(s == 1 || s == 2) || p.padding[2] > 1 || p.dilation[2] != 1 ||
      g.tap_unit[2] != 1 || p.kernel[0] * p.kernel[1] > 9) {
    return false;
  }
  switch (p.dtype) {
    case DType::f64:
      avx512::pool_grad_near_kernel<double>(g, grad, gx);
      break;
    case DType::f16:
      avx512::pool_grad_near_kernel<half>(g, grad, gx);
      break;
    case DType::bf16:
      avx512::pool_grad_near_kernel<bfloat16>(g, grad, gx);
      break;
    default:
      avx512::pool_grad_near_kernel<float>(g, grad, gx);
  }
  return true;
#else
  return false;
#endif
}

} // namespace cpu
} // namespace torchconv

#else // the one instruction set

#include "cpu/pool_grad_simd.h"

#include "cpu/pool_mask_simd.h"

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

constexpr int kMostRows = 9; // of outputs that see one row of inputs

// Input rows h, h + step, ... of slice d, and the rows of outputs that see the
// first of them; each next one is seen by the next rows, by the same taps.
struct GradRun {
  int64_t d, h, step, count;
  int rows;
  int64_t out_d[kMostRows], out_h[kMostRows], label[kMostRows];
};

std::vector<GradRun> grad_runs(const PoolGrad& g) {
  const PoolProblem& p = g.k.p;
  const PoolSources depth(g, 0), height(g, 1);
  // Rows of one residue of the stride follow each other; those of the other
  // come while these are still in the first cache.
  const int64_t step = p.stride[1];
  const int64_t most = std::max<int64_t>(4096 / (p.in[2] * step), 1);
  std::vector<GradRun> runs;
  for (int64_t d = 0; d < p.in[0]; ++d) {
    for (int64_t from = 0; from < p.in[1]; from += step * most) {
      for (int64_t phase = 0; phase < step; ++phase) {
        const int64_t end = std::min(from + step * most, p.in[1]);
        GradRun* last = nullptr;
        for (int64_t h = from + phase; h < end; h += step) {
          GradRun run{d, h, step, 1, 0, {}, {}, {}};
          for (auto a = depth.begin(d); a != depth.end(d); ++a) {
            for (auto b = height.begin(h); b != height.end(h); ++b) {
              run.out_d[run.rows] = a->out;
              run.out_h[run.rows] = b->out;
              run.label[run.rows++] = a->label + b->label;
            }
          }
          bool same = last != nullptr && last->rows == run.rows;
          for (int r = 0; same && r < run.rows; ++r) {
            same = last->label[r] == run.label[r] &&
                last->out_h[r] + last->count == run.out_h[r];
          }
          if (same) {
            ++last->count;
          } else {
            runs.push_back(run);
            last = &runs.back();
          }
        }
      }
    }
  }
  return runs;
}

// K taps, S apart, P elements of padding.
template <typename T, int K, int S, int P>
class NearGrad {
  using A = acc_t<T>;
  static constexpr int L = kLanes<A>;
  using Spread = NearSpread<K, S, P>;
  static constexpr int kFirst = Spread::kFirst, kShifts = Spread::kShifts;

 public:
  NearGrad(const PoolGrad& g, const T* grad, T* gx)
      : g_(g),
        grad_(grad),
        codes_(static_cast<const uint8_t*>(g.k.codes)),
        gx_(gx),
        vectors_((g.k.p.in[2] + S * L - 1) / (S * L)) {
    for (int64_t i = 0; i < vectors_; ++i) {
      for (int s = 0; s < kShifts; ++s) {
        inside_.push_back(
            static_cast<uint16_t>(
                lanes_inside(i * L + kFirst + s, g.k.p.out[2], L)));
      }
      for (int s = 0; s < S; ++s) {
        write_.push_back(
            static_cast<uint16_t>(
                lanes_inside((i * S + s) * L, g.k.p.in[2], L)));
      }
    }
  }

  void run(const GradRun& r, int64_t n, int64_t c) const {
    const PoolCodes& k = g_.k;
    const PoolProblem& p = k.p;
    Rows rows;
    rows.n = r.rows;
    rows.grad = grad_ + n * p.y_stride_n + c * p.y_stride_c + kFirst;
    rows.codes = codes_ + n * k.c_stride_n + c * k.c_stride_c + kFirst;
    for (int i = 0; i < r.rows; ++i) {
      rows.grad_at[i] = r.out_d[i] * p.y_stride[0] + r.out_h[i] * p.y_stride[1];
      rows.code_at[i] = r.out_d[i] * k.c_stride[0] + r.out_h[i] * k.c_stride[1];
      rows.label[i] = static_cast<int>(r.label[i]);
    }
    T* to = gx_ + n * p.x_stride_n + c * p.x_stride_c + r.d * p.x_stride[0] +
        r.h * p.x_stride[1];
    if (r.rows == 1) {
      some<1>(rows, to, r.step * p.x_stride[1], r.count);
    } else if (r.rows == 2) {
      some<2>(rows, to, r.step * p.x_stride[1], r.count);
    } else {
      some<0>(rows, to, r.step * p.x_stride[1], r.count);
    }
  }

 private:
  struct Rows {
    const T* grad; // of the plane
    const uint8_t* codes;
    int64_t grad_at[kMostRows], code_at[kMostRows];
    int label[kMostRows];
    int n;
  };

  // N rows of outputs see each of the `count` input rows; 0 is any number.
  template <int N>
  __attribute__((noinline)) void some(
      Rows rows,
      T* to,
      int64_t to_step,
      int64_t count) const {
    const int n = N > 0 ? N : rows.n;
    const int64_t grad_step = g_.k.p.y_stride[1], code_step = g_.k.c_stride[1];
    const int64_t vectors = vectors_;
    const uint16_t *inside = inside_.data(), *write = write_.data();
    for (int64_t row = 0; row < count; ++row) {
      for (int64_t i = 0; i < vectors; ++i) {
        Vec<A> sum[2] = {};
#pragma GCC unroll 2
        for (int r = 0; r < n; ++r) {
          add_row(
              rows.grad + rows.grad_at[r] + i * L,
              rows.codes + rows.code_at[r] + i * L,
              rows.label[r],
              inside + i * kShifts,
              sum,
              std::make_integer_sequence<int, kShifts>{});
        }
        T* at = to + i * S * L;
        if constexpr (S == 1) {
          store_lanes(at, sum[0], write[i]);
        } else {
          store_lanes(at, interleave<0, A>(sum[0], sum[1]), write[2 * i]);
          if (write[2 * i + 1] != 0) { // half of the stores of short rows
            store_lanes(
                at + L, interleave<1, A>(sum[0], sum[1]), write[2 * i + 1]);
          }
        }
      }
      rows.grad += grad_step;
      rows.codes += code_step;
      to += to_step;
    }
  }

  template <int... Shift>
  __attribute__((always_inline)) static void add_row(
      const T* grad,
      const uint8_t* codes,
      int label,
      const uint16_t* inside,
      Vec<A> (&sum)[2],
      std::integer_sequence<int, Shift...>) {
    const __m128i none = _mm_set1_epi8(static_cast<char>(255));
    const auto one = [&](auto shift) __attribute__((always_inline)) {
      constexpr int s = decltype(shift)::value;
      const unsigned mask = inside[s];
      const Vec<A> v = load_lanes(grad + s, mask, Vec<A>{});
      const __m128i code =
          _mm_mask_loadu_epi8(none, static_cast<__mmask16>(mask), codes + s);
#pragma GCC unroll 2
      for (int phase = 0; phase < S; ++phase) {
        if (Spread::sees(phase, s)) {
          const int tap = Spread::tap(phase, s);
          const __mmask16 k = _mm_cmpeq_epi8_mask(
              code, _mm_set1_epi8(static_cast<char>(label + tap)));
          if constexpr (sizeof(A) == 4) {
            sum[phase] = (Vec<A>)_mm512_mask_add_ps(
                (__m512)sum[phase], k, (__m512)sum[phase], (__m512)v);
          } else {
            sum[phase] = (Vec<A>)_mm512_mask_add_pd(
                (__m512d)sum[phase],
                static_cast<__mmask8>(k),
                (__m512d)sum[phase],
                (__m512d)v);
          }
        }
      }
    };
    (one(std::integral_constant<int, Shift>()), ...);
  }

  const PoolGrad& g_;
  const T* grad_;
  const uint8_t* codes_;
  T* gx_;
  int64_t vectors_; // of inputs, S side by side
  std::vector<uint16_t> inside_; // lanes of outputs: one for each shift
  std::vector<uint16_t> write_; // lanes of inputs
};

template <typename T, int K, int S, int P>
void near_grad(const PoolGrad& g, const T* grad, T* gx) {
  const PoolProblem& p = g.k.p;
  const NearGrad<T, K, S, P> near(g, grad, gx);
  const std::vector<GradRun> runs = grad_runs(g);
  const int64_t count = static_cast<int64_t>(runs.size());
  const int64_t work = pool_in_plane(p) * 4 / count;
  parallel_for(
      p.batch * p.channels * count,
      pool_grain(work),
      [&](int64_t begin, int64_t end) {
        int64_t plane = begin / count, i = begin % count;
        for (int64_t u = begin; u < end; ++plane, i = 0) {
          const int64_t n = plane / p.channels, c = plane % p.channels;
          for (; i < count && u < end; ++i, ++u) {
            near.run(runs[i], n, c);
          }
        }
      });
}

} // namespace

template <typename T>
void pool_grad_near_kernel(const PoolGrad& g, const void* grad, void* gx) {
  const PoolProblem& p = g.k.p;
  const auto padded = [&](auto taps, auto stride) {
    const T* from = static_cast<const T*>(grad);
    T* to = static_cast<T*>(gx);
    p.padding[2] == 0 ? near_grad<T, taps, stride, 0>(g, from, to)
                      : near_grad<T, taps, stride, 1>(g, from, to);
  };
  const std::integral_constant<int, 1> one;
  const std::integral_constant<int, 2> two;
  const std::integral_constant<int, 3> three;
  if (p.kernel[2] == 2) {
    p.stride[2] == 1 ? padded(two, one) : padded(two, two);
  } else {
    p.stride[2] == 1 ? padded(three, one) : padded(three, two);
  }
}

#define TC_INSTANTIATE(T) \
  template void pool_grad_near_kernel<T>(const PoolGrad&, const void*, void*);
TC_INSTANTIATE(float)
TC_INSTANTIATE(double)
TC_INSTANTIATE(half)
TC_INSTANTIATE(bfloat16)
#undef TC_INSTANTIATE

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

#endif
