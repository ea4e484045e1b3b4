// Max pooling along contiguous rows (NCHW) with windows of two or three
// neighbours, one or two apart, in AVX-512. NaN is not propagated here but
// seen: then the general kernels, which cost more, do it all again.
#include <algorithm>
#include <atomic>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/parallel.h"
#include "cpu/pool_max_near.h"

#ifndef TC_ISA
#define TC_SELF "cpu/pool_max_near.cpp"
#include "cpu/avx512_only.h"

namespace torchconv {
namespace cpu {
namespace {

bool near_windows(const MaxPool& m) {
  const PoolProblem& p = m.p;
  const int64_t k = p.kernel[2], s = p.stride[2];
  // Of more rows each is better reduced once, where codes are wanted.
  const int64_t most = m.codes == CodeKind::none ? 9 : 4;
  // Bytes number the taps in the order of the dimensions, unless a trivial one
  // was moved.
  if (m.codes == CodeKind::u8 &&
      (m.axis[2].label_step != 1 || m.axis[1].label_step != k ||
       m.axis[0].label_step != k * p.kernel[1])) {
    return false;
  }
  return m.sliding && (k == 2 || k == 3) && (s == 1 || s == 2) &&
      p.dilation[0] == 1 && p.dilation[1] == 1 && p.dilation[2] == 1 &&
      p.kernel[0] * p.kernel[1] <= most && p.in[2] > 1;
}

} // namespace

bool max_pool_near(const MaxPool& m, const void* x, void* y, void* codes) {
#if defined(__x86_64__)
  if (active_isa() != Isa::avx512 || !near_windows(m)) {
    return false;
  }
  switch (m.p.dtype) {
    case DType::f64:
      return avx512::max_pool_near_kernel<double>(m, x, y, codes);
    case DType::f16:
      return avx512::max_pool_near_kernel<half>(m, x, y, codes);
    case DType::bf16:
      return avx512::max_pool_near_kernel<bfloat16>(m, x, y, codes);
    default:
      return avx512::max_pool_near_kernel<float>(m, x, y, codes);
  }
#else
  return false;
#endif
}

} // namespace cpu
} // namespace torchconv

#else // the one instruction set

#include "cpu/simd.h"

#include "cpu/shuffle.h"

#include "cpu/pool_mask_simd.h"

#include "cpu/pool_near_rows.h"

#include "cpu/pool_near_codes.h"

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// Maxima alone.
template <typename T>
struct Largest {
  using Storage = T;
  using A = acc_t<T>;
  unsigned nan = 0; // lanes that had one

  Vec<A> fill() const {
    return broadcast(-std::numeric_limits<A>::infinity());
  }
  Vec<A> load(const T* p, unsigned mask) const {
    return load_lanes(p, mask, fill());
  }
  Vec<A> join(const Vec<A>& a, const Vec<A>& b) const {
    return larger_of<A>(b, a);
  }
  void check(const Vec<A>& a, const Vec<A>& b) {
    nan |= lanes_with_nan<A>(a, b);
  }
  void put(T* to, int64_t i, const Vec<A>& v, unsigned mask) const {
    store_lanes(to + i, v, mask);
  }
};

// Elements of a run: enough for a thread, and no more bytes of codes than
// stay in the first cache until they become positions.
constexpr int64_t kRun = 8192;

NearWindows near_windows_of(const MaxPool& m) {
  const PoolProblem& p = m.p;
  std::vector<int64_t> bounds[2][2];
  for (int i = 0; i < 2; ++i) {
    for (const PoolAxis::Window& w : m.axis[i].windows) {
      bounds[i][0].push_back(w.begin);
      bounds[i][1].push_back(w.begin + w.count);
    }
  }
  const int64_t* begin[2] = {bounds[0][0].data(), bounds[1][0].data()};
  const int64_t* end[2] = {bounds[0][1].data(), bounds[1][1].data()};
  NearWindows w;
  w.in = p.in[2];
  w.out = p.out[2];
  w.pad = p.padding[2];
  std::copy(p.x_stride, p.x_stride + 2, w.stride);
  std::copy(p.y_stride, p.y_stride + 2, w.to_stride);
  // Rows of a run begin with the same tap: short inputs cut windows that are
  // equally high at different ends.
  std::vector<int64_t> first_tap;
  for (int64_t h = 0; h < p.out[1]; ++h) {
    first_tap.push_back(begin[1][h] - h * p.stride[1] + p.padding[1]);
  }
  w.runs = near_runs(
      p.out,
      begin,
      end,
      first_tap.data(),
      std::max<int64_t>(kRun / w.out, 1),
      1);
  return w;
}

// The codes of a run as positions, from rows of bytes side by side.
template <typename I>
void expand_run(
    const PoolProblem& p,
    const NearPositions& positions,
    const NearRun& r,
    const uint8_t* codes,
    I* to) {
  for (int64_t i = 0; i < r.count; ++i) {
    const int64_t d = r.d * p.stride[0] - p.padding[0];
    const int64_t h = (r.h + i) * p.stride[1] - p.padding[1];
    positions.expand(
        codes + i * p.out[2],
        p.out[2],
        static_cast<int32_t>((d * p.in[1] + h) * p.in[2] - p.padding[2]),
        to + r.d * p.y_stride[0] + (r.h + i) * p.y_stride[1]);
  }
}

template <typename T, int K, int S>
bool near_values(const PoolProblem& p, const NearWindows& w, const T* x, T* y) {
  const NearRows<Largest<T>, K, S> near(w);
  std::atomic<bool> numbers{true};
  const int64_t run = p.out[2] * p.kernel[0] * p.kernel[1] * w.runs[0].count;
  each_near_run(p.batch, p.channels, w, pool_grain(run), [&](const auto& runs) {
    Largest<T> op;
    runs([&](int64_t n, int64_t c, const NearRun& r) {
      near.run(
          op,
          r,
          x + n * p.x_stride_n + c * p.x_stride_c,
          y + n * p.y_stride_n + c * p.y_stride_c);
    });
    if (op.nan != 0) {
      numbers.store(false, std::memory_order_relaxed);
    }
  });
  return numbers.load();
}

template <typename T, int K, int S>
bool near_codes(
    const MaxPool& m,
    const NearWindows& w,
    const T* x,
    T* y,
    void* codes) {
  const PoolProblem& p = m.p;
  const NearCodes<T, K, S> near(w, p.kernel[1]);
  const NearPositions positions(p);
  std::atomic<bool> numbers{true};
  const int64_t run =
      p.out[2] * pool_taps(p) * std::min(kRun / p.out[2] + 1, p.out[1]);
  each_near_run(p.batch, p.channels, w, pool_grain(run), [&](const auto& runs) {
    std::vector<uint8_t> bytes(kRun + p.out[2]);
    unsigned nan = 0;
    runs([&](int64_t n, int64_t c, const NearRun& r) {
      const T* from = x + n * p.x_stride_n + c * p.x_stride_c;
      const int64_t to = n * p.y_stride_n + c * p.y_stride_c;
      const int64_t tap_d = r.first[0] - r.d * p.stride[0] + p.padding[0];
      const int64_t tap_h = r.first[1] - r.h * p.stride[1] + p.padding[1];
      const int label = static_cast<int>((tap_d * p.kernel[1] + tap_h) * K);
      if (m.codes == CodeKind::u8) {
        uint8_t* at = static_cast<uint8_t*>(codes) + to + r.d * p.y_stride[0] +
            r.h * p.y_stride[1];
        nan |= near.run(r, from, label, y + to, at, p.y_stride[1]);
        return;
      }
      nan |= near.run(r, from, label, y + to, bytes.data(), p.out[2]);
      if (m.codes == CodeKind::i32) {
        expand_run(
            p, positions, r, bytes.data(), static_cast<int32_t*>(codes) + to);
      } else {
        expand_run(
            p, positions, r, bytes.data(), static_cast<int64_t*>(codes) + to);
      }
    });
    if (nan != 0) {
      numbers.store(false, std::memory_order_relaxed);
    }
  });
  return numbers.load();
}

} // namespace

template <typename T>
bool max_pool_near_kernel(
    const MaxPool& m,
    const void* xv,
    void* yv,
    void* codes) {
  const NearWindows w = near_windows_of(m);
  const T* x = static_cast<const T*>(xv);
  T* y = static_cast<T*>(yv);
  bool numbers = true;
  with_near(m.p.kernel[2], m.p.stride[2], [&](auto taps, auto stride) {
    numbers = m.codes == CodeKind::none
        ? near_values<T, taps, stride>(m.p, w, x, y)
        : near_codes<T, taps, stride>(m, w, x, y, codes);
  });
  return numbers;
}

#define TC_INSTANTIATE(T)                \
  template bool max_pool_near_kernel<T>( \
      const MaxPool&, const void*, void*, void*);
TC_INSTANTIATE(float)
TC_INSTANTIATE(double)
TC_INSTANTIATE(half)
TC_INSTANTIATE(bfloat16)
#undef TC_INSTANTIATE

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

#endif
