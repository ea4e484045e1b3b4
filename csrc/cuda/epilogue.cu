// One thread for each 16 bytes of the result: the pass is bound by memory.
//
// Compiled for sm_80, sm_90a and PTX; it has not run on hardware yet.
#include "cuda/epilogue.h"

#include "cuda/element.cuh"
#include "cuda/epilogue.cuh"
#include "cuda/index.cuh"
#include "cuda/launch.cuh"

namespace torchconv {
namespace cuda {
namespace {

constexpr int kThreads = 256;

struct Params {
  Epilogue e;
  void* result;
  int64_t vectors; // that are whole and aligned in result and residual
  int64_t n;
};

template <int N, typename T>
__device__ void finish(const Epilogue& e, T* to, const T* residual) {
  using A = compute_t<T>;
  A v[N];
  load(to, v);
  if (residual != nullptr) {
    A r[N];
    load(residual, r);
    for (int i = 0; i < N; ++i) {
      v[i] += r[i];
    }
  }
  const A a = static_cast<A>(e.a), b = static_cast<A>(e.b);
  for (int i = 0; i < N; ++i) {
    v[i] = activated(e.activation, v[i], a, b);
  }
  store(to, v);
}

template <typename T>
__global__ void epilogue_kernel(const __grid_constant__ Params p) {
  constexpr int N = kVector<T>;
  T* to = static_cast<T*>(p.result);
  const T* residual = static_cast<const T*>(p.e.residual);
  const auto at = [&](int64_t i) {
    return residual == nullptr ? nullptr : residual + i;
  };
  for (int64_t i = first_piece(); i < p.vectors; i += piece_step()) {
    finish<N>(p.e, to + i * N, at(i * N));
  }
  for (int64_t i = p.vectors * N + first_piece(); i < p.n; i += piece_step()) {
    finish<1>(p.e, to + i, at(i));
  }
}

} // namespace

void apply_epilogue(
    DType dtype,
    const Epilogue& e,
    void* result,
    int64_t n,
    const Queue& queue) {
  with_floating(dtype, "conv", [&](auto element) {
    using T = typename decltype(element)::type;
    const bool aligned = aligned16(result) && aligned16(e.residual);
    const Params p = {e, result, aligned ? n / kVector<T> : 0, n};
    const int64_t pieces = aligned ? (n + kVector<T> - 1) / kVector<T> : n;
    launch(
        "epilogue",
        epilogue_kernel<T>,
        {(pieces + kThreads - 1) / kThreads, kThreads},
        queue,
        p);
  });
}

} // namespace cuda
} // namespace torchconv
