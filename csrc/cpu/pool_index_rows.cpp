// The gradient of max pooling along contiguous rows (NCHW). Inputs `stride`
// apart have the same taps of neighbouring windows: they are one phase, and a
// vector is that many inputs of one phase.
#include "cpu/pool_index_vector.h"

#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

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

std::vector<PhaseTap> phase_taps(const PoolGrad& g, int64_t phase) {
  const PoolProblem& p = g.k.p;
  std::vector<PhaseTap> list;
  for (int64_t t = p.kernel[2] - 1; t >= 0; --t) {
    const int64_t at = phase + p.padding[2] - t * p.dilation[2];
    const int64_t shift = ceil_div(at, p.stride[2]);
    if (shift * p.stride[2] == at) {
      list.push_back({shift, t * g.tap_unit[2]});
    }
  }
  return list;
}

// Rows of outputs as vectors of inputs read them: before their beginning and
// beyond their end too. Where inputs of the row are affected, codes there must
// name no tap: then the codes of a slice are copied, well before they are
// used, into lines with such codes on either side. Gradients may be anything,
// and are copied only where they would not be the tensor's.
template <typename S>
class GradLines {
 public:
  GradLines(
      const PoolGrad& g,
      const S* grad,
      int64_t before,
      int64_t after,
      bool padded)
      : k_(g.k),
        before_(before),
        after_(after),
        padded_(padded),
        line_(before + g.k.p.out[2] + after),
        grad_{
            grad,
            grad,
            extent(g.k.p.y_stride_n, g.k.p.y_stride_c, g.k.p.y_stride)},
        codes_{
            static_cast<const uint8_t*>(g.k.codes),
            static_cast<const uint8_t*>(g.k.codes),
            extent(k_.c_stride_n, k_.c_stride_c, k_.c_stride)} {}

  // Plane (n, c), and those of its slices that are begin ... end.
  void enter(
      int64_t n,
      int64_t c,
      const PoolSources::Source* begin,
      const PoolSources::Source* end) {
    const PoolProblem& p = k_.p;
    grad_.plane = grad_.base + n * p.y_stride_n + c * p.y_stride_c;
    codes_.plane = codes_.base + n * k_.c_stride_n + c * k_.c_stride_c;
    first_ = begin;
    const int64_t rows = (end - begin) * p.out[1];
    if (!padded_ && codes_.holds(p, k_.c_stride, begin, end, before_, after_) &&
        grad_.holds(p, p.y_stride, begin, end, before_, after_)) {
      copied_ = false;
      return;
    }
    copied_ = true;
    if (static_cast<int64_t>(code_lines_.size()) < rows * line_) {
      code_lines_.assign(rows * line_, kNoTap);
      grad_lines_.resize(rows * line_);
    }
    whole_grad_ = grad_.holds(p, p.y_stride, begin, end, before_, after_);
    int64_t at = before_;
    for (const auto* d = begin; d != end; ++d) {
      for (int64_t h = 0; h < p.out[1]; ++h, at += line_) {
        std::memcpy(
            code_lines_.data() + at,
            codes_.plane + d->out * k_.c_stride[0] + h * k_.c_stride[1],
            p.out[2]);
        if (!whole_grad_) {
          std::memcpy(
              grad_lines_.data() + at,
              grad_.plane + d->out * p.y_stride[0] + h * p.y_stride[1],
              p.out[2] * sizeof(S));
        }
      }
    }
  }

  // Row h of slice d.
  GradSource<S> row(const PoolSources::Source* d, const PoolSources::Source* h)
      const {
    const PoolProblem& p = k_.p;
    const S* grad =
        grad_.plane + d->out * p.y_stride[0] + h->out * p.y_stride[1];
    const int64_t label = d->label + h->label;
    if (!copied_) {
      return {
          grad,
          codes_.plane + d->out * k_.c_stride[0] + h->out * k_.c_stride[1],
          label};
    }
    const int64_t at = ((d - first_) * p.out[1] + h->out) * line_ + before_;
    return {
        whole_grad_ ? grad : grad_lines_.data() + at,
        code_lines_.data() + at,
        label};
  }

 private:
  static constexpr uint8_t kNoTap = 255;

  template <typename T>
  struct Tensor {
    const T *base, *plane;
    int64_t extent;
    // Whether it has what vectors read around these slices of the plane.
    bool holds(
        const PoolProblem& p,
        const int64_t stride[3],
        const PoolSources::Source* begin,
        const PoolSources::Source* end,
        int64_t before,
        int64_t after) const {
      if (begin == end) {
        return true;
      }
      const int64_t first = plane - base + begin->out * stride[0];
      const int64_t last = plane - base + (end - 1)->out * stride[0] +
          (p.out[1] - 1) * stride[1] + p.out[2];
      return first >= before && last + after <= extent;
    }
  };

  int64_t extent(int64_t n, int64_t c, const int64_t stride[3]) const {
    const PoolProblem& p = k_.p;
    int64_t last = (p.batch - 1) * n + (p.channels - 1) * c;
    for (int i = 0; i < 3; ++i) {
      last += (p.out[i] - 1) * stride[i];
    }
    return last + 1;
  }

  const PoolCodes& k_;
  const int64_t before_, after_;
  const bool padded_;
  const int64_t line_;
  Tensor<S> grad_;
  Tensor<uint8_t> codes_;
  const PoolSources::Source* first_ = nullptr;
  bool copied_ = false, whole_grad_ = true;
  std::vector<uint8_t> code_lines_;
  std::vector<S> grad_lines_;
};

// The sums of a vector of inputs of one phase, from position q on.
template <typename S>
inline Vec<acc_t<S>> gather_phase(
    const std::vector<GradSource<S>>& rows,
    const std::vector<PhaseTap>& taps,
    int64_t q) {
  constexpr int L = kLanes<acc_t<S>>;
  Vec<acc_t<S>> sum{};
  for (const GradSource<S>& row : rows) {
    for (const PhaseTap& tap : taps) {
      const int64_t o = q + tap.shift;
      add_chosen<S>(
          sum,
          load_as(row.grad + o),
          load_codes<L>(row.codes + o),
          static_cast<uint8_t>(row.label + tap.label));
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
  S* gx = static_cast<S*>(gxv);
  const PoolSources depth(g, 0), height(g, 1);
  const int64_t s = p.stride[2], in = p.in[2];
  const std::vector<PhaseTap> even = phase_taps(g, 0);
  const std::vector<PhaseTap> odd =
      s == 2 ? phase_taps(g, 1) : std::vector<PhaseTap>();
  const int64_t count = (in + s - 1) / s; // inputs of a phase, at most
  // How far the outputs that vectors touch lie outside the row.
  int64_t before = 0, after = 0;
  bool padded = false; // and whether inputs of the row are affected
  for (const auto* taps : {&even, &odd}) {
    const int64_t inputs = (in - (taps == &odd) + s - 1) / s;
    for (const PhaseTap& tap : *taps) {
      padded |= tap.shift < 0 || inputs - 1 + tap.shift >= p.out[2];
      before = std::max(before, -tap.shift);
      after =
          std::max(after, std::max<int64_t>(count, L) + tap.shift - p.out[2]);
    }
  }
  const auto one_row = [&](const std::vector<GradSource<S>>& sources, S* to) {
    // The last vectors end with the row, and do some inputs twice.
    for (int64_t next = 0; next < count; next += L) {
      const int64_t q = std::min(next, std::max<int64_t>(count - L, 0));
      const int64_t left = in - q * s;
      const Vec<A> a = gather_phase<S>(sources, even, q);
      if (s == 1) {
        store_first(to + q, a, static_cast<int>(std::min<int64_t>(L, left)));
        continue;
      }
      const Vec<A> b = gather_phase<S>(sources, odd, q);
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
    }
  };
  // A unit of work is a slice of a plane.
  const int64_t slices = p.batch * p.channels * p.in[0];
  const int64_t work = p.in[1] * in * 4;
  parallel_for(slices, pool_grain(work), [&](int64_t begin, int64_t end) {
    GradLines<S> lines(g, static_cast<const S*>(gradv), before, after, padded);
    std::vector<GradSource<S>> sources;
    for (int64_t slice = begin; slice < end; ++slice) {
      const int64_t id = slice % p.in[0], plane = slice / p.in[0];
      const int64_t n = plane / p.channels, c = plane % p.channels;
      lines.enter(n, c, depth.begin(id), depth.end(id));
      S* to = gx + n * p.x_stride_n + c * p.x_stride_c + id * p.x_stride[0];
      for (int64_t ih = 0; ih < p.in[1]; ++ih) {
        sources.clear();
        for (auto d = depth.begin(id); d != depth.end(id); ++d) {
          for (auto h = height.begin(ih); h != height.end(ih); ++h) {
            sources.push_back(lines.row(d, h));
          }
        }
        one_row(sources, to + ih * p.x_stride[1]);
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
