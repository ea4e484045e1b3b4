// The gradient of max pooling along contiguous rows (NCHW). Inputs `stride`
// apart have the same taps of neighbouring windows: they are one phase, and a
// vector is that many inputs of one phase.
#include "cpu/pool_index_vector.h"

#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>

#include "core/parallel.h"

#ifndef TC_ISA
#define TC_SELF "cpu/pool_index_rows.cpp"
#include "cpu/foreach_isa.h"

namespace torchconv {
namespace cpu {

void pool_grad_rows(const PoolGrad& g, const void* grad, void* gx) {
  switch (g.k.p.dtype) {
    case DType::f64:
      return TC_DISPATCH(pool_grad_rows_kernel<double>)(g, grad, gx);
    case DType::f16:
      return TC_DISPATCH(pool_grad_rows_kernel<half>)(g, grad, gx);
    case DType::bf16:
      return TC_DISPATCH(pool_grad_rows_kernel<bfloat16>)(g, grad, gx);
    default:
      return TC_DISPATCH(pool_grad_rows_kernel<float>)(g, grad, gx);
  }
}

} // namespace cpu
} // namespace torchconv

#else // one instruction set

#include "cpu/pool_grad_simd.h"

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// The windows of input q * stride + phase: output q + shift, by this tap.
struct PhaseTap {
  int64_t shift, label;
};

std::vector<std::vector<PhaseTap>> phases(const PoolGrad& g) {
  const PoolProblem& p = g.k.p;
  std::vector<std::vector<PhaseTap>> list(p.stride[2]);
  for (int64_t r = 0; r < p.stride[2]; ++r) {
    for (int64_t t = p.kernel[2] - 1; t >= 0; --t) {
      const int64_t at = r + p.padding[2] - t * p.dilation[2];
      const int64_t shift = ceil_div(at, p.stride[2]);
      if (shift * p.stride[2] == at) {
        list[r].push_back({shift, t * g.tap_unit[2]});
      }
    }
  }
  return list;
}

// The sums of a vector of inputs of one phase, from position q on.
template <typename S>
inline Vec<acc_t<S>> gather_phase(
    const std::vector<GradSource<S>>& rows,
    const std::vector<PhaseTap>& taps,
    int64_t q,
    int64_t out) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  Vec<A> sum{};
  for (const GradSource<S>& row : rows) {
    for (const PhaseTap& tap : taps) {
      const int64_t o = q + tap.shift;
      const uint8_t label = static_cast<uint8_t>(row.label + tap.label);
      if (o >= 0 && o + L <= out) {
        add_chosen<S>(
            sum, load_as(row.grad + o), load_codes<L>(row.codes + o), label);
      } else if (o > -L && o < out) {
        add_chosen<S>(
            sum,
            load_window<S>(row.grad, o, out, A(0)),
            load_codes_window<L>(row.codes, o, out),
            label);
      }
    }
  }
  return sum;
}

} // namespace

template <typename S>
void pool_grad_rows_kernel(const PoolGrad& g, const void* gradv, void* gxv) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  const PoolCodes& k = g.k;
  const PoolProblem& p = k.p;
  const S* grad = static_cast<const S*>(gradv);
  const uint8_t* codes = static_cast<const uint8_t*>(k.codes);
  S* gx = static_cast<S*>(gxv);
  const PoolSources depth(g, 0), height(g, 1);
  const std::vector<std::vector<PhaseTap>> phase = phases(g);
  const int64_t s = p.stride[2], in = p.in[2], out = p.out[2];
  const int64_t count = (in + s - 1) / s; // inputs of a phase, at most
  const int64_t work = in * 4;
  const int64_t rows = p.batch * p.channels * p.in[0] * p.in[1];
  parallel_for(rows, pool_grain(work), [&](int64_t begin, int64_t end) {
    std::vector<GradSource<S>> lines;
    std::vector<A> mixed(s > 2 ? s * L : 0);
    for (int64_t row = begin; row < end; ++row) {
      const int64_t ih = row % p.in[1];
      const int64_t id = row / p.in[1] % p.in[0];
      const int64_t plane = row / (p.in[1] * p.in[0]);
      const int64_t n = plane / p.channels, c = plane % p.channels;
      lines.clear();
      for (auto d = depth.begin(id); d != depth.end(id); ++d) {
        for (auto h = height.begin(ih); h != height.end(ih); ++h) {
          lines.push_back(
              {grad + n * p.y_stride_n + c * p.y_stride_c +
                   d->out * p.y_stride[0] + h->out * p.y_stride[1],
               codes + n * k.c_stride_n + c * k.c_stride_c +
                   d->out * k.c_stride[0] + h->out * k.c_stride[1],
               d->label + h->label});
        }
      }
      S* to = gx + n * p.x_stride_n + c * p.x_stride_c + id * p.x_stride[0] +
          ih * p.x_stride[1];
      // The last vectors end with the row, and do some inputs twice.
      for (int64_t next = 0; next < count; next += L) {
        const int64_t q = std::min(next, std::max<int64_t>(count - L, 0));
        const int64_t left = in - q * s;
        if (s == 1) {
          store_first(
              to + q,
              gather_phase<S>(lines, phase[0], q, out),
              static_cast<int>(std::min<int64_t>(L, left)));
        } else if (s == 2) {
          const Vec<A> a = gather_phase<S>(lines, phase[0], q, out);
          const Vec<A> b = gather_phase<S>(lines, phase[1], q, out);
          store_first(
              to + q * 2,
              interleave<0, A>(a, b),
              static_cast<int>(std::min<int64_t>(L, left)));
          if (left > L) {
            store_first(
                to + q * 2 + L,
                interleave<1, A>(a, b),
                static_cast<int>(std::min<int64_t>(L, left - L)));
          }
        } else {
          for (int64_t r = 0; r < s; ++r) {
            store(
                mixed.data() + r * L, gather_phase<S>(lines, phase[r], q, out));
          }
          for (int64_t i = 0; i < std::min(left, s * L); ++i) {
            to[q * s + i] = S(mixed[i % s * L + i / s]);
          }
        }
      }
    }
  });
}

template void pool_grad_rows_kernel<float>(const PoolGrad&, const void*, void*);
template void pool_grad_rows_kernel<double>(
    const PoolGrad&,
    const void*,
    void*);
template void pool_grad_rows_kernel<half>(const PoolGrad&, const void*, void*);
template void pool_grad_rows_kernel<bfloat16>(
    const PoolGrad&,
    const void*,
    void*);

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

#endif
