#include "cpu/fold.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "core/parallel.h"

#ifndef TC_ISA

namespace torchconv {
namespace cpu {
namespace {

// Elements that are only moved, or added part by part.
struct Complex64 {
  float part[2];
};
struct Complex128 {
  double part[2];
};
struct Boolean {
  uint8_t value;
};

// The window positions [lo, hi) whose tap, at `start` for position 0, lies
// inside [0, n).
struct Reach {
  int64_t lo, hi;
};
inline Reach reach(int64_t start, int64_t step, int64_t n, int64_t out) {
  const int64_t lo =
      std::min(ceil_div(std::max<int64_t>(-start, 0), step), out);
  const int64_t hi =
      std::min(ceil_div(std::max<int64_t>(n - start, 0), step), out);
  return {lo, std::max(lo, hi)};
}

} // namespace
} // namespace cpu
} // namespace torchconv

#define TC_SELF "cpu/fold.cpp"
#include "cpu/foreach_isa.h"

namespace torchconv {
namespace cpu {

void unfold(const FoldProblem& f, FoldType t, const void* x, void* columns) {
  switch (t) {
    case FoldType::f32:
      return TC_DISPATCH(unfold_kernel<uint32_t>)(f, x, columns);
    case FoldType::f64:
    case FoldType::c64:
      return TC_DISPATCH(unfold_kernel<uint64_t>)(f, x, columns);
    case FoldType::f16:
    case FoldType::bf16:
      return TC_DISPATCH(unfold_kernel<uint16_t>)(f, x, columns);
    case FoldType::c128:
      return TC_DISPATCH(unfold_kernel<Complex128>)(f, x, columns);
    case FoldType::boolean:
      return TC_DISPATCH(unfold_kernel<uint8_t>)(f, x, columns);
  }
}

void fold(const FoldProblem& f, FoldType t, const void* columns, void* image) {
  switch (t) {
    case FoldType::f32:
      return TC_DISPATCH(fold_kernel<float>)(f, columns, image);
    case FoldType::f64:
      return TC_DISPATCH(fold_kernel<double>)(f, columns, image);
    case FoldType::f16:
      return TC_DISPATCH(fold_kernel<half>)(f, columns, image);
    case FoldType::bf16:
      return TC_DISPATCH(fold_kernel<bfloat16>)(f, columns, image);
    case FoldType::c64:
      return TC_DISPATCH(fold_kernel<Complex64>)(f, columns, image);
    case FoldType::c128:
      return TC_DISPATCH(fold_kernel<Complex128>)(f, columns, image);
    case FoldType::boolean:
      return TC_DISPATCH(fold_kernel<Boolean>)(f, columns, image);
  }
}

} // namespace cpu
} // namespace torchconv

#else // one instruction set

#include "cpu/simd.h"

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// A constant step lets the compiler turn the loop into shuffles.
template <typename T>
inline void copy_strided(T* to, const T* from, int64_t n, int64_t step) {
  if (step == 1) {
    for (int64_t i = 0; i < n; ++i) {
      to[i] = from[i];
    }
  } else if (step == 2) {
    for (int64_t i = 0; i < n; ++i) {
      to[i] = from[2 * i];
    }
  } else {
    for (int64_t i = 0; i < n; ++i) {
      to[i] = from[i * step];
    }
  }
}

// What the elements of a row are added up in.
template <typename S>
struct Sum {
  using A = acc_t<S>;
  static void add(A* to, const S* from, int64_t n) {
    constexpr int L = kLanes<A>;
    int64_t i = 0;
    for (; i + L <= n; i += L) {
      store(to + i, load(to + i) + load_as(from + i));
    }
    if (i < n) { // `to` has slack
      const int lanes = static_cast<int>(n - i);
      store(to + i, load(to + i) + load_as_partial(from + i, lanes));
    }
  }
  static void add_one(A* to, const S& from) {
    *to += static_cast<A>(from);
  }
  static void write(S* to, const A* from, int64_t n) {
    constexpr int L = kLanes<A>;
    int64_t i = 0;
    for (; i + L <= n; i += L) {
      store_as(to + i, load(from + i));
    }
    if (i < n) {
      store_as_partial(to + i, load(from + i), static_cast<int>(n - i));
    }
  }
};

template <typename C, typename T>
struct ComplexSum {
  using A = C;
  static void add(A* to, const C* from, int64_t n) {
    Sum<T>::add(to->part, from->part, 2 * n);
  }
  static void add_one(A* to, const C& from) {
    to->part[0] += from.part[0];
    to->part[1] += from.part[1];
  }
  static void write(C* to, const A* from, int64_t n) {
    std::copy(from, from + n, to);
  }
};
template <>
struct Sum<Complex64> : ComplexSum<Complex64, float> {};
template <>
struct Sum<Complex128> : ComplexSum<Complex128, double> {};

template <>
struct Sum<Boolean> {
  using A = Boolean;
  static void add(A* to, const Boolean* from, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      to[i].value |= from[i].value;
    }
  }
  static void add_one(A* to, const Boolean& from) {
    to->value |= from.value;
  }
  static void write(Boolean* to, const A* from, int64_t n) {
    std::copy(from, from + n, to);
  }
};

// Rows of the image, each gathered from the columns. The sums of a row are
// kept apart by position modulo the stride, so that every tap of a row of
// windows is one run of additions side by side.
template <typename S>
class FoldRows {
  using A = typename Sum<S>::A;
  static constexpr int64_t kSlack = 16; // elements; covers any vector
  static constexpr int64_t kMostPhases = 64;

 public:
  FoldRows(const FoldProblem& f, const S* columns, S* image)
      : f_(f),
        columns_(columns),
        image_(image) {
    const PoolProblem& p = f.p;
    const int64_t last = (p.kernel[2] - 1) * p.dilation[2];
    phases_ = p.stride[2] <= kMostPhases ? p.stride[2] : 0;
    pitch_ = phases_ ? p.out[2] + last / phases_ + 1 + kSlack
                     : (p.out[2] - 1) * p.stride[2] + last + 1 + kSlack;
    // The image may reach beyond the last window.
    const int64_t reach = p.in[2] + p.padding[2];
    pitch_ = std::max(pitch_, (phases_ ? reach / phases_ + 1 : reach) + kSlack);
    for (int i = 0; i < 3; ++i) {
      apart_ &= (p.kernel[i] - 1) * p.dilation[i] < p.stride[i];
      filled_ &= p.kernel[i] == p.stride[i];
    }
  }

  void rows(int64_t begin, int64_t end) {
    const PoolProblem& p = f_.p;
    std::vector<A> sums(apart_ ? 0 : pitch_ * std::max<int64_t>(phases_, 1));
    for (int64_t u = begin; u < end; ++u) {
      const int64_t h = u % p.in[1], d = u / p.in[1] % p.in[0];
      const int64_t plane = u / (p.in[1] * p.in[0]);
      const S* columns = columns_ + plane / p.channels * f_.columns_n +
          plane % p.channels * pool_taps(p) * f_.columns_row;
      if (apart_) {
        copy_row(image_ + u * p.in[2], columns, d, h);
        continue;
      }
      std::fill(sums.begin(), sums.end(), A{});
      for (int64_t a = 0; a < p.kernel[0]; ++a) {
        const int64_t od = window(0, d, a);
        for (int64_t b = 0; od >= 0 && b < p.kernel[1]; ++b) {
          const int64_t oh = window(1, h, b);
          if (oh >= 0) {
            add_taps(sums.data(), taps(columns, a, b, od, oh));
          }
        }
      }
      write(image_ + u * p.in[2], sums.data());
    }
  }

 private:
  // The window position whose tap t lies on i, or -1.
  int64_t window(int dim, int64_t i, int64_t t) const {
    const PoolProblem& p = f_.p;
    const int64_t at = i + p.padding[dim] - t * p.dilation[dim];
    if (at < 0 || at % p.stride[dim] != 0) {
      return -1;
    }
    const int64_t o = at / p.stride[dim];
    return o < p.out[dim] ? o : -1;
  }

  // The first tap of row (a, b) of the windows of row (od, oh).
  const S* taps(const S* columns, int64_t a, int64_t b, int64_t od, int64_t oh)
      const {
    const PoolProblem& p = f_.p;
    return columns + (a * p.kernel[1] + b) * p.kernel[2] * f_.columns_row +
        (od * p.out[1] + oh) * p.out[2] * f_.columns_position;
  }

  // A row of an image whose elements lie in one window at most.
  void copy_row(S* to, const S* columns, int64_t d, int64_t h) const {
    const PoolProblem& p = f_.p;
    const int64_t n = p.in[2], step = p.dilation[2];
    if (!filled_ || p.out[2] * p.stride[2] - p.padding[2] < n) {
      std::fill(to, to + n, S{});
    }
    int64_t a = p.kernel[0] - 1, b = p.kernel[1] - 1;
    while (a >= 0 && window(0, d, a) < 0) {
      --a;
    }
    while (b >= 0 && window(1, h, b) < 0) {
      --b;
    }
    if (a < 0 || b < 0) {
      return std::fill(to, to + n, S{});
    }
    const S* from = taps(columns, a, b, window(0, d, a), window(1, h, b));
    for (int64_t o = 0; o < p.out[2]; ++o, from += f_.columns_position) {
      const int64_t start = o * p.stride[2] - p.padding[2];
      const Reach in = reach(start, step, n, p.kernel[2]);
      const S* tap = from + in.lo * f_.columns_row;
      for (int64_t t = in.lo; t < in.hi; ++t, tap += f_.columns_row) {
        to[start + t * step] = *tap;
      }
    }
  }

  void add_taps(A* sums, const S* from) const {
    const PoolProblem& p = f_.p;
    const int64_t step = f_.columns_position;
    for (int64_t t = 0; t < p.kernel[2]; ++t, from += f_.columns_row) {
      const int64_t at = t * p.dilation[2];
      const int64_t n = p.out[2];
      if (phases_ == 0) {
        for (int64_t o = 0; o < n; ++o) {
          Sum<S>::add_one(sums + at + o * p.stride[2], from[o * step]);
        }
        continue;
      }
      A* to = sums + at % phases_ * pitch_ + at / phases_;
      if (step == 1) {
        Sum<S>::add(to, from, n);
      } else {
        for (int64_t o = 0; o < n; ++o) {
          Sum<S>::add_one(to + o, from[o * step]);
        }
      }
    }
  }

  void write(S* to, const A* sums) const {
    const int64_t n = f_.p.in[2], pad = f_.p.padding[2];
    if (phases_ <= 1) {
      return Sum<S>::write(to, sums + pad, n);
    }
    int64_t i = 0;
    if (phases_ == 2) {
      if (pad % 2 == 1) {
        Sum<S>::write(to, sums + pitch_ + pad / 2, 1);
        i = 1;
      }
      const A* even = sums + (i + pad) / 2;
      const A* odd = even + pitch_;
      const int64_t pairs = (n - i) / 2;
      S* rest = to + i;
      for (int64_t j = 0; j < pairs; ++j) {
        rest[2 * j] = S(even[j]);
        rest[2 * j + 1] = S(odd[j]);
      }
      i += 2 * pairs;
    }
    int64_t q = (i + pad) / phases_, r = (i + pad) % phases_;
    for (; i < n; ++i) {
      to[i] = S(sums[r * pitch_ + q]);
      if (++r == phases_) {
        r = 0;
        ++q;
      }
    }
  }

  const FoldProblem& f_;
  const S* columns_;
  S* image_;
  int64_t phases_; // the stride; zero is too many, sums are in plain order
  int64_t pitch_; // from one phase's sums to the next's
  bool apart_ = true; // no two windows share an element
  bool filled_ = true; // and they leave none out between them
};

} // namespace

template <typename T>
void unfold_kernel(const FoldProblem& f, const void* xv, void* columns_v) {
  const PoolProblem& p = f.p;
  const T* x = static_cast<const T*>(xv);
  T* columns = static_cast<T*>(columns_v);
  const int64_t positions = pool_out_plane(p);
  const int64_t heights = p.kernel[0] * p.kernel[1], K = p.kernel[2];
  const int64_t grain =
      std::max<int64_t>(1, 32768 / (positions * K + p.out[0] * p.out[1]));
  std::vector<Reach> inside(K);
  for (int64_t k = 0; k < K; ++k) {
    inside[k] =
        reach(k * p.dilation[2] - p.padding[2], p.stride[2], p.in[2], p.out[2]);
  }
  // A unit is the taps of one row of the kernel on one plane: the rows of the
  // input stay in cache while they are read once for each tap.
  const int64_t units = p.batch * p.channels * heights;
  parallel_for(units, grain, [&](int64_t begin, int64_t end) {
    for (int64_t u = begin; u < end; ++u) {
      const int64_t plane = u / heights;
      const int64_t kd = u % heights / p.kernel[1], kh = u % p.kernel[1];
      const T* from = x + plane / p.channels * p.x_stride_n +
          plane % p.channels * p.x_stride_c;
      T* to = columns + u * K * positions;
      for (int64_t o = 0; o < p.out[0] * p.out[1]; ++o) {
        const int64_t d =
            o / p.out[1] * p.stride[0] - p.padding[0] + kd * p.dilation[0];
        const int64_t h =
            o % p.out[1] * p.stride[1] - p.padding[1] + kh * p.dilation[1];
        const bool outside = d < 0 || d >= p.in[0] || h < 0 || h >= p.in[1];
        for (int64_t k = 0; k < K; ++k) {
          const Reach r = outside ? Reach{p.out[2], p.out[2]} : inside[k];
          T* row = to + k * positions + o * p.out[2];
          std::fill(row, row + r.lo, T{});
          if (r.lo < r.hi) {
            const int64_t w =
                r.lo * p.stride[2] - p.padding[2] + k * p.dilation[2];
            copy_strided(
                row + r.lo,
                from + d * p.x_stride[0] + h * p.x_stride[1] +
                    w * p.x_stride[2],
                r.hi - r.lo,
                p.stride[2] * p.x_stride[2]);
          }
          std::fill(row + r.hi, row + p.out[2], T{});
        }
      }
    }
  });
}

template <typename S>
void fold_kernel(const FoldProblem& f, const void* columns, void* image) {
  const PoolProblem& p = f.p;
  const int64_t units = p.batch * p.channels * p.in[0] * p.in[1];
  const int64_t taps = ceil_div(p.kernel[0], p.stride[0]) *
      ceil_div(p.kernel[1], p.stride[1]) * p.kernel[2];
  const int64_t work = p.in[2] + taps * p.out[2];
  const int64_t grain = std::max<int64_t>(1, 32768 / work);
  parallel_for(units, grain, [&](int64_t begin, int64_t end) {
    FoldRows<S>(f, static_cast<const S*>(columns), static_cast<S*>(image))
        .rows(begin, end);
  });
}

#define TC_UNFOLD(T) \
  template void unfold_kernel<T>(const FoldProblem&, const void*, void*);
#define TC_FOLD(S) \
  template void fold_kernel<S>(const FoldProblem&, const void*, void*);
TC_UNFOLD(uint8_t)
TC_UNFOLD(uint16_t)
TC_UNFOLD(uint32_t)
TC_UNFOLD(uint64_t)
TC_UNFOLD(Complex128)
TC_FOLD(float)
TC_FOLD(double)
TC_FOLD(half)
TC_FOLD(bfloat16)
TC_FOLD(Complex64)
TC_FOLD(Complex128)
TC_FOLD(Boolean)
#undef TC_UNFOLD
#undef TC_FOLD

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

#endif
