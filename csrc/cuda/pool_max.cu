// Max pooling. One thread for each output, or for 16 bytes of channels where
// these lie side by side; a warp for each output where windows are large and
// far apart, as in global pooling, so that its lanes read side by side.
//
// Compiled for sm_80, sm_90a and PTX; it has not run on hardware yet.
#include "cuda/pool_max.h"

#include <type_traits>

#include "core/pool_fractional.h"
#include "cuda/element.cuh"
#include "cuda/launch.cuh"
#include "cuda/pool_index.cuh"

namespace torchconv {
namespace cuda {
namespace {

enum class Windows : int8_t { sliding, adaptive, fractional };

struct Params {
  PoolProblem p;
  Windows windows;
  CodeKind kind;
  bool channels_innermost;
  int nd; // samples of each plane
  const void* samples;
  const void* x;
  void* y;
  void* codes;
};

// The taps of one window along one dimension that are inside the input: input
// positions begin + j * step, 0 <= j < count; `label` and `label_step` are what
// they add to the code.
struct Span {
  int64_t begin, count, step, label, label_step;
};

template <typename T>
struct RoundTo {
  __host__ __device__ compute_t<T> operator()(compute_t<T> v) const {
    return widened(narrowed<T>(v));
  }
};

// torch's 2-d operator takes the samples from the last dimension on, its 3-d
// operator from the first.
template <typename T>
__device__ int64_t
fractional_begin(const Params& a, const PoolPlace& o, int dim) {
  const int d = dim - (3 - a.nd);
  if (d < 0) {
    return 0;
  }
  const PoolProblem& p = a.p;
  const T* samples =
      static_cast<const T*>(a.samples) + (o.n * p.channels + o.c) * a.nd;
  return fractional_start(
      widened(samples[a.nd == 3 ? d : a.nd - 1 - d]),
      o.at[dim],
      p.in[dim],
      p.out[dim],
      p.kernel[dim],
      RoundTo<T>());
}

template <typename T>
__device__ Span span_of(const Params& a, const PoolPlace& o, int dim) {
  const PoolProblem& p = a.p;
  const bool taps = a.kind == CodeKind::u8;
  int64_t unit = 1; // what one position further along dim adds to a code
  for (int i = dim + 1; i < 3; ++i) {
    unit *= taps ? p.kernel[i] : p.in[i];
  }
  Span s;
  s.step = 1;
  if (a.windows == Windows::sliding) {
    const PoolWindow w = pool_window(p, dim, o.at[dim]);
    s.step = p.dilation[dim];
    s.begin = w.start + w.tap_begin * s.step;
    s.count = w.tap_end - w.tap_begin;
    s.label = unit * (taps ? w.tap_begin : s.begin);
    s.label_step = unit * (taps ? 1 : s.step);
    return s;
  }
  if (a.windows == Windows::adaptive) {
    s.begin = adaptive_begin(o.at[dim], p.in[dim], p.out[dim]);
    s.count = adaptive_end(o.at[dim], p.in[dim], p.out[dim]) - s.begin;
  } else if constexpr (!std::numeric_limits<T>::is_integer) {
    s.begin = fractional_begin<T>(a, o, dim);
    s.count = p.kernel[dim];
  }
  s.label = unit * s.begin;
  s.label_step = unit;
  return s;
}

__device__ inline void put_code(const Params& a, int64_t at, int64_t code) {
  if (a.kind == CodeKind::u8) {
    static_cast<uint8_t*>(a.codes)[at] = static_cast<uint8_t>(code);
  } else if (a.kind == CodeKind::i32) {
    static_cast<int32_t*>(a.codes)[at] = static_cast<int32_t>(code);
  } else if (a.kind == CodeKind::i64) {
    static_cast<int64_t*>(a.codes)[at] = code;
  }
}

// The codes of V outputs side by side, in as few accesses as their size allows.
template <int V, typename C>
__device__ inline void put_run(
    void* codes,
    int64_t at,
    const int64_t (&code)[V]) {
  C* to = static_cast<C*>(codes) + at;
  constexpr int bytes = V * static_cast<int>(sizeof(C));
  if constexpr (bytes % 16 == 0) {
    constexpr int per = kVector<C>;
#pragma unroll
    for (int j = 0; j < V; j += per) {
      C part[per];
      for (int i = 0; i < per; ++i) {
        part[i] = static_cast<C>(code[j + i]);
      }
      store<per>(to + j, part);
    }
  } else {
    using Word = std::conditional_t<
        bytes == 8,
        uint64_t,
        std::conditional_t<bytes == 4, uint32_t, uint16_t>>;
    static_assert(sizeof(Word) == bytes, "");
    C all[V];
    for (int j = 0; j < V; ++j) {
      all[j] = static_cast<C>(code[j]);
    }
    Word word;
    std::memcpy(&word, all, bytes);
    *reinterpret_cast<Word*>(to) = word;
  }
}

template <int V>
__device__ inline void put_codes(
    const Params& a,
    int64_t at,
    const int64_t (&code)[V]) {
  if constexpr (V == 1) {
    put_code(a, at, code[0]);
  } else if (a.kind == CodeKind::u8) {
    put_run<V, uint8_t>(a.codes, at, code);
  } else if (a.kind == CodeKind::i32) {
    put_run<V, int32_t>(a.codes, at, code);
  } else if (a.kind == CodeKind::i64) {
    put_run<V, int64_t>(a.codes, at, code);
  }
}

// The code of a window without taps.
__device__ inline int64_t no_code(const Params& a) {
  return a.kind == CodeKind::u8 ? 0 : -1;
}

template <typename T, int V>
__global__ void __launch_bounds__(kPoolThreads, V == 1 ? 3 : 2)
    max_pool_kernel(const __grid_constant__ Params a) {
  using A = compute_t<T>;
  // Codes are kept relative to the window's first: 32 bits do where the plane
  // is small, and vectors need their registers.
  using Code = std::conditional_t<V == 1, int64_t, int32_t>;
  const PoolProblem& p = a.p;
  const int64_t vectors = p.channels / V;
  const int64_t total = p.batch * vectors * pool_out_plane(p);
  for (int64_t i = first_piece(); i < total; i += piece_step()) {
    PoolPlace o = pool_place(i, vectors, p.out, a.channels_innermost);
    o.c *= V;
    const Span d = span_of<T>(a, o, 0);
    const Span h = span_of<T>(a, o, 1);
    const Span w = span_of<T>(a, o, 2);
    const T* x = static_cast<const T*>(a.x) +
        x_offset(p, o.n, o.c, d.begin, h.begin, w.begin);
    const int64_t label = d.label + h.label + w.label;
    const bool empty = d.count * h.count * w.count == 0;
    A best[V];
    Code code[V];
    for (int j = 0; j < V; ++j) {
      best[j] = lowest<A>();
      code[j] = 0;
    }
    for (int64_t id = 0; id < d.count; ++id) {
      for (int64_t ih = 0; ih < h.count; ++ih) {
        const T* row =
            x + id * d.step * p.x_stride[0] + ih * h.step * p.x_stride[1];
        auto here = static_cast<Code>(id * d.label_step + ih * h.label_step);
#pragma unroll 4
        for (int64_t iw = 0; iw < w.count; ++iw) {
          A v[V];
          load<V>(row + iw * w.step * p.x_stride[2], v);
          for (int j = 0; j < V; ++j) {
            if (v[j] > best[j] || v[j] != v[j]) {
              best[j] = v[j];
              code[j] = here;
            }
          }
          here += static_cast<Code>(w.label_step);
        }
      }
    }
    const int64_t at = y_offset(p, o.n, o.c, o.at[0], o.at[1], o.at[2]);
    store<V>(static_cast<T*>(a.y) + at, best);
    int64_t codes[V];
    for (int j = 0; j < V; ++j) {
      codes[j] = empty ? no_code(a) : label + code[j];
    }
    put_codes<V>(a, at, codes);
  }
}

// A value and its place in the window, of which the larger goes first.
template <typename A>
struct Candidate {
  A value;
  int64_t place; // -1: none yet
};

template <typename A>
__device__ Candidate<A> better(const Candidate<A>& a, const Candidate<A>& b) {
  if (a.place < 0 || b.place < 0) {
    return a.place < 0 ? b : a;
  }
  const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
  if (a_nan || b_nan) {
    return a_nan && (!b_nan || a.place > b.place) ? a : b;
  }
  if (a.value != b.value) {
    return a.value > b.value ? a : b;
  }
  return a.place < b.place ? a : b;
}

template <typename T>
__global__ void max_pool_warp_kernel(const __grid_constant__ Params a) {
  using A = compute_t<T>;
  const PoolProblem& p = a.p;
  const int64_t total = p.batch * p.channels * pool_out_plane(p);
  const int lane = static_cast<int>(threadIdx.x) % warpSize;
  for (int64_t i = first_piece() / warpSize; i < total;
       i += piece_step() / warpSize) {
    const PoolPlace o = pool_place(i, p.channels, p.out, false);
    const Span d = span_of<T>(a, o, 0);
    const Span h = span_of<T>(a, o, 1);
    const Span w = span_of<T>(a, o, 2);
    const T* x = static_cast<const T*>(a.x) +
        x_offset(p, o.n, o.c, d.begin, h.begin, w.begin);
    const int64_t taps = d.count * h.count * w.count;
    Candidate<A> best = {lowest<A>(), -1};
    for (int64_t k = lane; k < taps; k += warpSize) {
      int64_t rest = k;
      const int64_t iw = take(rest, w.count);
      const int64_t ih = take(rest, h.count);
      const A v = widened(
          x[rest * d.step * p.x_stride[0] + ih * h.step * p.x_stride[1] +
            iw * w.step * p.x_stride[2]]);
      best = better(best, {v, k});
    }
    for (int step = warpSize / 2; step > 0; step /= 2) {
      const Candidate<A> other = {
          __shfl_xor_sync(0xffffffffu, best.value, step),
          __shfl_xor_sync(0xffffffffu, best.place, step)};
      best = better(best, other);
    }
    if (lane == 0) {
      int64_t code = no_code(a);
      if (best.place >= 0) {
        int64_t rest = best.place;
        const int64_t iw = take(rest, w.count);
        const int64_t ih = take(rest, h.count);
        code = d.label + h.label + w.label + rest * d.label_step +
            ih * h.label_step + iw * w.label_step;
      }
      const int64_t at = y_offset(p, o.n, o.c, o.at[0], o.at[1], o.at[2]);
      static_cast<T*>(a.y)[at] = narrowed<T>(best.value);
      put_code(a, at, code);
    }
  }
}

// Threads with an output each would read rows that are apart by about
// in / out elements, each a few cache lines of its own; from some size on the
// lanes of a warp do better on one window after the other.
bool windows_apart(const Params& a) {
  const PoolProblem& p = a.p;
  int64_t taps = 1;
  for (int i = 0; i < 3; ++i) {
    taps *= a.windows == Windows::adaptive ? ceil_div(p.in[i], p.out[i])
                                           : p.kernel[i];
  }
  const int64_t apart =
      a.windows == Windows::sliding ? p.stride[2] : p.in[2] / p.out[2];
  return a.windows != Windows::fractional && p.x_stride[2] == 1 && taps >= 32 &&
      apart >= 4;
}

template <typename T>
void start(Params a, const Queue& queue) {
  const PoolProblem& p = a.p;
  const int64_t outputs = p.batch * p.channels * pool_out_plane(p);
  constexpr int V = kVector<T>;
  a.channels_innermost = channels_first_in_memory(p.y_stride_c, p.channels);
  if (a.windows != Windows::fractional &&
      pool_in_plane(p) < (int64_t{1} << 31) && aligned16(a.x) &&
      aligned16(a.y) && aligned16(a.codes) &&
      channel_vectors(V, p.channels, p.x_stride_n, p.x_stride_c, p.x_stride) &&
      channel_vectors(V, p.channels, p.y_stride_n, p.y_stride_c, p.y_stride)) {
    launch(
        "max_pool",
        max_pool_kernel<T, V>,
        {pool_blocks(outputs / V), kPoolThreads},
        queue,
        a);
  } else if (windows_apart(a)) {
    launch(
        "max_pool",
        max_pool_warp_kernel<T>,
        {pool_blocks(outputs * 32), kPoolThreads},
        queue,
        a);
  } else {
    launch(
        "max_pool",
        max_pool_kernel<T, 1>,
        {pool_blocks(outputs), kPoolThreads},
        queue,
        a);
  }
}

} // namespace

void max_pool(
    const PoolProblem& p,
    bool sliding,
    CodeKind kind,
    const void* x,
    void* y,
    void* codes,
    const Queue& queue) {
  Params a{};
  a.p = p;
  a.windows = sliding ? Windows::sliding : Windows::adaptive;
  a.kind = kind;
  a.x = x;
  a.y = y;
  a.codes = codes;
  if (is_floating(p.dtype)) {
    with_floating(p.dtype, "max_pool", [&](auto element) {
      start<typename decltype(element)::type>(a, queue);
    });
    return;
  }
  a.channels_innermost = channels_first_in_memory(p.y_stride_c, p.channels);
  const int64_t outputs = p.batch * p.channels * pool_out_plane(p);
  with_integer(p.dtype, "max_pool", [&](auto element) {
    launch(
        "max_pool",
        max_pool_kernel<typename decltype(element)::type, 1>,
        {pool_blocks(outputs), kPoolThreads},
        queue,
        a);
  });
}

void fractional_max_pool(
    const PoolProblem& p,
    int nd,
    const void* samples,
    const void* x,
    void* y,
    int64_t* indices,
    const Queue& queue) {
  Params a{};
  a.p = p;
  a.windows = Windows::fractional;
  a.kind = CodeKind::i64;
  a.nd = nd;
  a.samples = samples;
  a.x = x;
  a.y = y;
  a.codes = indices;
  with_floating(p.dtype, "fractional_max_pool", [&](auto element) {
    start<typename decltype(element)::type>(a, queue);
  });
}

} // namespace cuda
} // namespace torchconv
