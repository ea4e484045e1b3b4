// One thread for each element of a border: it walks the coordinates that show
// its position, and from each the outputs that looked there. Borders are thin.
//
// Compiled for sm_80, sm_90a and PTX; it has not run on hardware yet.
#include "cuda/conv_border.h"

#include "cuda/conv_cost.h"
#include "cuda/conv_gather.cuh"
#include "cuda/conv_pairs.cuh"
#include "cuda/epilogue.cuh"
#include "cuda/launch.cuh"

namespace torchconv {
namespace cuda {
namespace {

constexpr int kThreads = 128;

struct Params {
  ConvProblem p;
  ConvTensors t;
  Interior box[3];
};

template <typename T>
__global__ void border_kernel(const __grid_constant__ Params params) {
  const ConvProblem& p = params.p;
  int64_t size[3];
  for (int d = 0; d < 3; ++d) {
    size[d] = params.box[d].last - params.box[d].first;
  }
  const int64_t total = p.batch * p.in_channels * size[0] * size[1] * size[2];
  for (int64_t e = first_piece(); e < total; e += piece_step()) {
    int64_t n = e;
    const int64_t i2 = params.box[2].first + take(n, size[2]);
    const int64_t i1 = params.box[1].first + take(n, size[1]);
    const int64_t i0 = params.box[0].first + take(n, size[0]);
    int64_t group = take(n, p.in_channels);
    const int64_t channel = group;
    const int64_t c = take(group, p.in_group());
    const T* y = static_cast<const T*>(params.t.y) + n * p.y.n +
        group * p.out_group() * p.y.c;
    const T* w = static_cast<const T*>(params.t.w) +
        group * p.out_group() * p.w.n + c * p.w.c;
    Acc<T> sum = 0;
    each_pair(p, 0, i0, [&](int64_t t0, int64_t o0) {
      each_pair(p, 1, i1, [&](int64_t t1, int64_t o1) {
        each_pair(p, 2, i2, [&](int64_t t2, int64_t o2) {
          const T* from = y + o0 * p.y.s[0] + o1 * p.y.s[1] + o2 * p.y.s[2];
          const T* by = w + t0 * p.w.s[0] + t1 * p.w.s[1] + t2 * p.w.s[2];
          for (int64_t k = 0; k < p.out_group(); ++k) {
            sum += widened(from[k * p.y.c]) * widened(by[k * p.w.n]);
          }
        });
      });
    });
    if (params.t.bias != nullptr) {
      sum += widened(static_cast<const T*>(params.t.bias)[channel]);
    }
    const int64_t o = n * p.x.n + channel * p.x.c + i0 * p.x.s[0] +
        i1 * p.x.s[1] + i2 * p.x.s[2];
    static_cast<T*>(params.t.x)[o] = finished<T>(params.t.epilogue, o, sum);
  }
}

} // namespace

void input_grad_border(const ConvProblem& p, const ConvTensors& t) {
  // In dimension d the border of d, in those before it the interior.
  Params params = {p, t, {}};
  Interior inside[3], all[3];
  for (int d = 0; d < 3; ++d) {
    inside[d] = interior(p, d);
    all[d] = {0, p.in[d]};
  }
  for (int d = 0; d < 3; ++d) {
    const Interior sides[2] = {{0, inside[d].first}, {inside[d].last, p.in[d]}};
    for (const Interior& side : sides) {
      int64_t total = p.batch * p.in_channels;
      for (int e = 0; e < 3; ++e) {
        params.box[e] = e < d ? inside[e] : e == d ? side : all[e];
        total *= params.box[e].last - params.box[e].first;
      }
      if (total == 0) {
        continue;
      }
      with_conv_type(p.dtype, [&](auto type) {
        launch(
            "conv input_grad border",
            border_kernel<decltype(type)>,
            {(total + kThreads - 1) / kThreads, kThreads},
            *t.queue,
            params);
      });
    }
  }
}

double border_cost(const ConvProblem& p) {
  if (p.mode == PaddingMode::zeros) {
    return 0;
  }
  double inside = 1, all = 1;
  for (int d = 0; d < 3; ++d) {
    const Interior r = interior(p, d);
    inside *= static_cast<double>(r.last - r.first);
    all *= static_cast<double>(p.in[d]);
  }
  // Most positions gather from two places; a thread's loads are scattered.
  const double products =
      2 * (all - inside) * p.batch * p.in_channels * p.out_group() * p.taps();
  return kernel_cost(products, peak_rate(p, Unit::fma), 0.02, 0);
}

} // namespace cuda
} // namespace torchconv
