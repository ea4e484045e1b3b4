#include "cpu/pool_lp.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/parallel.h"
#include "cpu/pool_near_spread.h"

#ifndef TC_ISA
#define TC_SELF "cpu/pool_lp.cpp"
#include "cpu/foreach_isa.h"

namespace torchconv {
namespace cpu {

void lp_forward(
    WindowSum& w,
    DType dtype,
    double norm_type,
    int64_t taps,
    const void* x,
    void* y) {
  switch (dtype) {
    case DType::f32:
      return TC_DISPATCH(lp_forward_kernel<float>)(w, norm_type, taps, x, y);
    case DType::f64:
      return TC_DISPATCH(lp_forward_kernel<double>)(w, norm_type, taps, x, y);
    case DType::f16:
      return TC_DISPATCH(lp_forward_kernel<half>)(w, norm_type, taps, x, y);
    default: // the binding lets no other type through
      return TC_DISPATCH(lp_forward_kernel<bfloat16>)(w, norm_type, taps, x, y);
  }
}

void lp_input_grad(
    WindowSum& w,
    DType dtype,
    double norm_type,
    int64_t taps,
    const void* gy,
    const void* x,
    const void* y,
    void* gx) {
  switch (dtype) {
    case DType::f32:
      return TC_DISPATCH(lp_input_grad_kernel<float>)(
          w, norm_type, taps, gy, x, y, gx);
    case DType::f64:
      return TC_DISPATCH(lp_input_grad_kernel<double>)(
          w, norm_type, taps, gy, x, y, gx);
    case DType::f16:
      return TC_DISPATCH(lp_input_grad_kernel<half>)(
          w, norm_type, taps, gy, x, y, gx);
    default: // the binding lets no other type through
      return TC_DISPATCH(lp_input_grad_kernel<bfloat16>)(
          w, norm_type, taps, gy, x, y, gx);
  }
}

} // namespace cpu
} // namespace torchconv

#else // one instruction set

#include "cpu/simd.h"

#include "cpu/shuffle.h"

#include "cpu/pool_lanes.h"

#if defined(TC_AVX512)
#include "cpu/pool_mask_simd.h"

#include "cpu/pool_near_rows.h"
#endif

#include "cpu/pool_avg_io.h"

#if defined(TC_AVX512)
#include "cpu/pool_near_sums.h"
#endif

#include "cpu/pool_avg_rows.h"

#include "cpu/pool_avg_pixels.h"

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

template <typename A>
inline Vec<A> square_root(const Vec<A>& v) {
#if defined(TC_AVX512)
  if constexpr (sizeof(A) == 4) {
    return (Vec<A>)_mm512_sqrt_ps((__m512)v);
  } else {
    return (Vec<A>)_mm512_sqrt_pd((__m512d)v);
  }
#elif defined(TC_AVX2)
  if constexpr (sizeof(A) == 4) {
    return (Vec<A>)_mm256_sqrt_ps((__m256)v);
  } else {
    return (Vec<A>)_mm256_sqrt_pd((__m256d)v);
  }
#else
  Vec<A> r;
  for (int j = 0; j < kLanes<A>; ++j) {
    r[j] = std::sqrt(v[j]);
  }
  return r;
#endif
}

// v to a power that is the same for all: without a call where it can be.
template <typename A>
struct Power {
  A exponent;

  Vec<A> operator()(const Vec<A>& v) const {
    if (exponent == A(1)) {
      return v;
    }
    if (exponent == A(2)) {
      return v * v;
    }
    if (exponent == A(0.5)) {
      return square_root<A>(v);
    }
    if (exponent == A(-1)) {
      return A(1) / v;
    }
    if (exponent == A(3)) {
      return v * v * v;
    }
    if (exponent == A(0)) {
      return broadcast(A(1));
    }
    Vec<A> r;
    for (int j = 0; j < kLanes<A>; ++j) {
      r[j] = std::pow(v[j], exponent);
    }
    return r;
  }
  A operator()(A v) const {
    return operator()(broadcast(v))[0];
  }
};

// x^p.
template <typename S>
struct Powers : Plain<S> {
  using A = acc_t<S>;
  Power<A> power;

  Powers(const RowList<S>& x, A p) : Plain<S>{x}, power{p} {}

  Vec<A> vec(int64_t r, int64_t i, int64_t c) const {
    return power(Plain<S>::vec(r, i, c));
  }
  Vec<A> part(int64_t r, int64_t i, int64_t c, int lanes) const {
    // Lanes that are not there would be 0^p, which need not be zero.
    const Vec<A> v = power(Plain<S>::part(r, i, c, lanes));
    alignas(kVectorBytes) A kept[kLanes<A>];
    store(kept, v);
    return load_partial(kept, lanes);
  }
  A one(int64_t r, int64_t i) const {
    return power(Plain<S>::one(r, i));
  }
#if defined(TC_AVX512)
  // p = 2
  struct Near {
    Vec<A> lanes(const S* p, unsigned mask) const {
      const Vec<A> v = load_lanes(p, mask, Vec<A>{});
      return v * v;
    }
  };
  Near near() const {
    return {};
  }
#endif
};

// (K * mean)^(1/p).
template <typename S>
struct Roots : Average<S> {
  using A = acc_t<S>;
  A taps;
  Power<A> power;

  Roots(void* y, const WindowSum& w, const A* width, A taps_, A exponent)
      : Average<S>(y, w, width),
        taps(taps_),
        power{exponent} {}

  void put(int64_t i, const Vec<A>& v) const {
    part(i, v, kLanes<A>);
  }
  void part(int64_t i, const Vec<A>& v, int lanes) const {
    this->store(i, power(this->averaged(i, v) * taps), lanes);
  }
  void put_at(int64_t c, const Vec<A>& v) const {
    store_as(this->q + c, power(this->averaged_at(v) * taps));
  }
  void part_at(int64_t c, const Vec<A>& v, int lanes) const {
    store_as_partial(this->q + c, power(this->averaged_at(v) * taps), lanes);
  }
#if defined(TC_AVX512)
  // p = 2
  struct Near {
    typename Average<S>::Near mean;
    A taps;
    Vec<A> finished(const S*, int64_t i, const Vec<A>& v, unsigned) const {
      return square_root<A>(mean.averaged(i, v) * taps);
    }
  };
  Near near(int64_t d, int64_t h) {
    return {Average<S>::near(d, h), taps};
  }
#endif
};

// gy * y^(1-p), zero where y is; y laid out as gy.
template <typename S>
struct RootGradients : Plain<S> {
  using A = acc_t<S>;
  const S* y;
  Power<A> power;

  RootGradients(const RowList<S>& gy, const S* y_, A exponent)
      : Plain<S>{gy},
        y(y_),
        power{exponent} {}

  const S* y_at(int64_t r, int64_t i, int64_t c) const {
    return y + (this->x.at(r, i, c) - this->x.base);
  }
  Vec<A> product(const Vec<A>& g, const Vec<A>& v) const {
    return v == A(0) ? Vec<A>{} : g * power(v);
  }
  Vec<A> vec(int64_t r, int64_t i, int64_t c) const {
    return product(Plain<S>::vec(r, i, c), load_as(y_at(r, i, c)));
  }
  Vec<A> part(int64_t r, int64_t i, int64_t c, int lanes) const {
    return product(
        Plain<S>::part(r, i, c, lanes), load_as_partial(y_at(r, i, c), lanes));
  }
  A one(int64_t r, int64_t i) const {
    const A v = static_cast<A>(*y_at(r, i, 0));
    return v == A(0) ? A(0) : Plain<S>::one(r, i) * power(v);
  }
#if defined(TC_AVX512)
  // p = 2
  struct Near {
    int64_t y; // bytes from gy to y
    Vec<A> lanes(const S* p, unsigned mask) const {
      const S* at =
          reinterpret_cast<const S*>(reinterpret_cast<const char*>(p) + y);
      const Vec<A> root = load_lanes(at, mask, Vec<A>{});
      const Vec<A> g = load_lanes(p, mask, Vec<A>{}) / root;
      return root == A(0) ? Vec<A>{} : g;
    }
  };
  Near near() const {
    return {
        reinterpret_cast<const char*>(y) -
        reinterpret_cast<const char*>(this->x.base)};
  }
#endif
};

// Sums times K * x^(p-1); x laid out as gx.
template <typename S>
struct InputGradients : Scaled<S> {
  static constexpr bool kRepeats = false; // x is a factor
  using A = acc_t<S>;
  const S* x;
  Power<A> power;

  InputGradients(void* gx, const WindowSum& w, const S* x_, A taps, A exponent)
      : Scaled<S>(gx, w),
        x(x_),
        power{exponent} {
    this->factor *= taps;
  }
  Vec<A> product(const Vec<A>& v, const Vec<A>& at) const {
    return v * this->factor * power(at);
  }
  void put(int64_t i, const Vec<A>& v) const {
    part(i, v, kLanes<A>);
  }
  void part(int64_t i, const Vec<A>& v, int lanes) const {
    const int64_t step = this->stride[2];
    const S* row = x + (this->p - this->base) + i * step;
    Vec<A> at{};
    if (step == 1) {
      at = lanes == kLanes<A> ? load_as(row) : load_as_partial(row, lanes);
    } else {
      for (int j = 0; j < lanes; ++j) {
        at[j] = static_cast<A>(row[j * step]);
      }
    }
    this->store(i, product(v, at), lanes);
  }
  void put_at(int64_t c, const Vec<A>& v) const {
    const S* at = x + (this->q - this->base) + c;
    store_as(this->q + c, product(v, load_as(at)));
  }
  void part_at(int64_t c, const Vec<A>& v, int lanes) const {
    const S* at = x + (this->q - this->base) + c;
    store_as_partial(
        this->q + c, product(v, load_as_partial(at, lanes)), lanes);
  }
#if defined(TC_AVX512)
  // p = 2
  struct Near {
    A factor;
    int64_t x; // bytes from gx to x
    Vec<A> finished(const S* row, int64_t i, const Vec<A>& v, unsigned mask)
        const {
      const S* at = reinterpret_cast<const S*>(
          reinterpret_cast<const char*>(row + i) + x);
      return v * factor * load_lanes(at, mask, Vec<A>{});
    }
  };
  Near near(int64_t, int64_t) const {
    return {
        this->factor,
        reinterpret_cast<const char*>(x) -
            reinterpret_cast<const char*>(this->base)};
  }
#endif
};

} // namespace

template <typename S>
void lp_forward_kernel(
    WindowSum& w,
    double norm_type,
    int64_t taps,
    const void* x,
    void* y) {
  using A = acc_t<S>;
  const bool pixels = prefer_pixels<A>(w);
  const std::unique_ptr<A[]> width = row_counts<A>(w);
  const Powers<S> powers(RowList<S>(x, w), static_cast<A>(norm_type));
  const Roots<S> roots(
      y, w, width.get(), static_cast<A>(taps), static_cast<A>(1.0 / norm_type));
#if defined(TC_AVX512)
  if (!pixels && norm_type == 2 && near_sums<Roots<S>>(w)) {
    return run_near_sums(w, powers, roots);
  }
#endif
  run_sums(w, powers, roots, pixels);
}

template <typename S>
void lp_input_grad_kernel(
    WindowSum& w,
    double norm_type,
    int64_t taps,
    const void* gy,
    const void* x,
    const void* y,
    void* gx) {
  using A = acc_t<S>;
  const bool pixels = prefer_pixels<A>(w);
  const RootGradients<S> roots(
      RowList<S>(gy, w),
      static_cast<const S*>(y),
      static_cast<A>(1 - norm_type));
  const InputGradients<S> inputs(
      gx,
      w,
      static_cast<const S*>(x),
      static_cast<A>(taps),
      static_cast<A>(norm_type - 1));
#if defined(TC_AVX512)
  if (!pixels && norm_type == 2 && near_sums<InputGradients<S>>(w)) {
    return run_near_sums(w, roots, inputs);
  }
#endif
  run_sums(w, roots, inputs, pixels);
}

#define TC_INSTANTIATE(S)                               \
  template void lp_forward_kernel<S>(                   \
      WindowSum&, double, int64_t, const void*, void*); \
  template void lp_input_grad_kernel<S>(                \
      WindowSum&,                                       \
      double,                                           \
      int64_t,                                          \
      const void*,                                      \
      const void*,                                      \
      const void*,                                      \
      void*);
TC_INSTANTIATE(float)
TC_INSTANTIATE(double)
TC_INSTANTIATE(half)
TC_INSTANTIATE(bfloat16)
#undef TC_INSTANTIATE

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

#endif
