// Fractional max pooling: the windows of every plane start where that plane's
// random samples put them.
#include <algorithm>
#include <limits>

#include "core/parallel.h"
#include "cpu/pool_max.h"

namespace torchconv {
namespace cpu {
namespace {

// Starts of the windows along one dimension, as torch draws them: in the
// arithmetic of the tensor's own type, each operation rounded.
template <typename S>
void window_starts(
    S sample,
    int64_t in,
    int64_t out,
    int64_t kernel,
    int64_t* start) {
  using A = acc_t<S>;
  const A u = sample;
  const A alpha =
      out > 1 ? A(S(A(S(A(in - kernel))) / A(S(A(out - 1))))) : A(0);
  const auto whole = [&](A v) { // towards zero, and safe for any sample
    return std::abs(v) < A(1e9) ? static_cast<int64_t>(v) : int64_t{0};
  };
  for (int64_t o = 0; o + 1 < out; ++o) {
    const A at = A(S(A(S(A(S(A(o))) + u)) * alpha));
    start[o] =
        std::clamp<int64_t>(whole(at) - whole(A(S(u * alpha))), 0, in - kernel);
  }
  start[out - 1] = in - kernel;
}

template <typename S>
void fractional(
    const PoolProblem& p,
    int nd,
    const S* samples,
    const S* x,
    S* y,
    int64_t* indices) {
  using A = acc_t<S>;
  const int64_t work = pool_out_plane(p) * pool_taps(p);
  // The taps of a window, relative to its first one.
  struct Tap {
    int64_t offset, index;
  };
  std::vector<Tap> taps;
  for (int64_t d = 0; d < p.kernel[0]; ++d) {
    for (int64_t h = 0; h < p.kernel[1]; ++h) {
      for (int64_t w = 0; w < p.kernel[2]; ++w) {
        taps.push_back(
            {d * p.x_stride[0] + h * p.x_stride[1] + w * p.x_stride[2],
             (d * p.in[1] + h) * p.in[2] + w});
      }
    }
  }
  const auto planes = [&](int64_t begin, int64_t end) {
    std::vector<int64_t> start[3];
    for (int i = 0; i < 3; ++i) {
      start[i].resize(p.out[i]);
    }
    for (int64_t plane = begin; plane < end; ++plane) {
      const int64_t n = plane / p.channels, c = plane % p.channels;
      for (int i = 0; i < 3; ++i) {
        const int d = i - (3 - nd);
        if (d < 0) {
          start[i][0] = 0;
          continue;
        }
        // torch's 2-d operator takes the samples from the last dimension on,
        // its 3-d operator from the first.
        const S sample = samples[plane * nd + (nd == 3 ? d : nd - 1 - d)];
        window_starts(sample, p.in[i], p.out[i], p.kernel[i], start[i].data());
      }
      const S* xp = x + n * p.x_stride_n + c * p.x_stride_c;
      const int64_t yp = n * p.y_stride_n + c * p.y_stride_c;
      for (int64_t od = 0; od < p.out[0]; ++od) {
        for (int64_t oh = 0; oh < p.out[1]; ++oh) {
          for (int64_t ow = 0; ow < p.out[2]; ++ow) {
            const int64_t d0 = start[0][od], h0 = start[1][oh],
                          w0 = start[2][ow];
            const S* from = xp + d0 * p.x_stride[0] + h0 * p.x_stride[1] +
                w0 * p.x_stride[2];
            A best = -std::numeric_limits<A>::infinity();
            int64_t chosen = 0;
            for (const Tap& t : taps) {
              const A v = from[t.offset];
              const bool take = v > best || v != v;
              best = take ? v : best;
              chosen = take ? t.index : chosen;
            }
            const int64_t index = (d0 * p.in[1] + h0) * p.in[2] + w0 + chosen;
            const int64_t at = yp + od * p.y_stride[0] + oh * p.y_stride[1] +
                ow * p.y_stride[2];
            y[at] = S(best);
            indices[at] = index;
          }
        }
      }
    }
  };
  parallel_for(p.batch * p.channels, pool_grain(work), planes);
}

template <typename S>
void run(
    const PoolProblem& p,
    int nd,
    const void* samples,
    const void* x,
    void* y,
    int64_t* indices) {
  fractional(
      p,
      nd,
      static_cast<const S*>(samples),
      static_cast<const S*>(x),
      static_cast<S*>(y),
      indices);
}

} // namespace

void fractional_max_pool(
    const PoolProblem& p,
    int nd,
    const void* samples,
    const void* x,
    void* y,
    int64_t* indices) {
  switch (p.dtype) {
    case DType::f64:
      return run<double>(p, nd, samples, x, y, indices);
    case DType::f16:
      return run<half>(p, nd, samples, x, y, indices);
    case DType::bf16:
      return run<bfloat16>(p, nd, samples, x, y, indices);
    default: // the binding lets no integer type through
      return run<float>(p, nd, samples, x, y, indices);
  }
}

} // namespace cpu
} // namespace torchconv
