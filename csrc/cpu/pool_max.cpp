// Window tables, the choice of kernel, and the kernel for everything: any
// strides, any type, any windows, one output at a time.
#include "cpu/pool_max.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/parallel.h"
#include "cpu/pool_max_near.h"
#include "cpu/pool_max_vector.h"

namespace torchconv {
namespace cpu {
namespace {

MaxPool with_labels(const PoolProblem& p, CodeKind codes, bool sliding) {
  MaxPool m;
  m.p = p;
  m.codes = codes;
  m.sliding = sliding;
  m.empty_windows = false;
  return m;
}

// What moving by one tap (u8) or by one input position (i32, i64) along a
// dimension adds to a code.
int64_t unit(const MaxPool& m, int dim) {
  const int64_t* size = m.codes == CodeKind::u8 ? m.p.kernel : m.p.in;
  int64_t n = 1;
  for (int i = dim + 1; i < 3; ++i) {
    n *= size[i];
  }
  return n;
}

template <typename T>
T lowest_value() {
  if constexpr (std::is_same_v<T, float> || std::is_same_v<T, double>) {
    return -std::numeric_limits<T>::infinity();
  } else {
    return std::numeric_limits<T>::lowest();
  }
}

void put_code(CodeKind kind, void* codes, int64_t at, int64_t code) {
  switch (kind) {
    case CodeKind::u8:
      static_cast<uint8_t*>(codes)[at] = static_cast<uint8_t>(code);
      break;
    case CodeKind::i32:
      static_cast<int32_t*>(codes)[at] = static_cast<int32_t>(code);
      break;
    case CodeKind::i64:
      static_cast<int64_t*>(codes)[at] = code;
      break;
    case CodeKind::none:
      break;
  }
}

template <typename S>
void max_pool_any(const MaxPool& m, const S* x, S* y, void* codes) {
  using A = acc_t<S>;
  const PoolProblem& p = m.p;
  const int64_t rows = p.batch * p.channels * p.out[0] * p.out[1];
  const int64_t work = pool_in_plane(p) / (p.out[0] * p.out[1]) + p.out[2];
  parallel_for(rows, pool_grain(work), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t oh = row % p.out[1];
      const int64_t od = row / p.out[1] % p.out[0];
      const int64_t plane = row / (p.out[1] * p.out[0]);
      const int64_t n = plane / p.channels, c = plane % p.channels;
      const PoolAxis::Window& wd = m.axis[0].windows[od];
      const PoolAxis::Window& wh = m.axis[1].windows[oh];
      const S* xr = x + n * p.x_stride_n + c * p.x_stride_c +
          wd.begin * p.x_stride[0] + wh.begin * p.x_stride[1];
      const int64_t yr = n * p.y_stride_n + c * p.y_stride_c +
          od * p.y_stride[0] + oh * p.y_stride[1];
      const int64_t step_d = m.axis[0].step * p.x_stride[0];
      const int64_t step_h = m.axis[1].step * p.x_stride[1];
      const int64_t step_w = m.axis[2].step * p.x_stride[2];
      for (int64_t ow = 0; ow < p.out[2]; ++ow) {
        const PoolAxis::Window& ww = m.axis[2].windows[ow];
        const S* xw = xr + ww.begin * p.x_stride[2];
        A best = lowest_value<A>();
        int64_t code = wd.label + wh.label + ww.label;
        for (int64_t d = 0; d < wd.count; ++d) {
          for (int64_t h = 0; h < wh.count; ++h) {
            for (int64_t w = 0; w < ww.count; ++w) {
              const A v = xw[d * step_d + h * step_h + w * step_w];
              if (v > best || v != v) {
                best = v;
                code = wd.label + wh.label + ww.label +
                    d * m.axis[0].label_step + h * m.axis[1].label_step +
                    w * m.axis[2].label_step;
              }
            }
          }
        }
        if (wd.count * wh.count * ww.count == 0) {
          code = m.codes == CodeKind::u8 ? 0 : -1;
        }
        y[yr + ow * p.y_stride[2]] = S(best);
        put_code(m.codes, codes, yr + ow * p.y_stride[2], code);
      }
    }
  });
}

bool is_floating(DType t) {
  return t == DType::f32 || t == DType::f64 || t == DType::f16 ||
      t == DType::bf16;
}

// Vectors run along the last dimension: a trivial one moves to the front. The
// codes do not change, they are sums over the dimensions.
void rotate_trivial(MaxPool& m) {
  PoolProblem& p = m.p;
  for (int i = 0; i < 2 && p.in[2] == 1 && p.out[2] == 1; ++i) {
    for (int64_t* v :
         {p.in,
          p.out,
          p.kernel,
          p.stride,
          p.padding,
          p.dilation,
          p.x_stride,
          p.y_stride}) {
      std::swap(v[2], v[1]);
      std::swap(v[1], v[0]);
    }
    std::swap(m.axis[2], m.axis[1]);
    std::swap(m.axis[1], m.axis[0]);
  }
}

// Planes without gaps that one window covers wholly are one row. Codes do not
// change: taps and positions are both row-major.
void merge_global(MaxPool& m) {
  PoolProblem& p = m.p;
  const auto whole = [&](int i) {
    const PoolAxis& axis = m.axis[i];
    return p.out[i] == 1 && axis.step == 1 &&
        axis.windows[0].count == p.in[i] && axis.windows[0].label == 0;
  };
  for (int i = 1; i >= 0 && whole(2) && whole(i); --i) {
    const bool gapless =
        p.in[i] == 1 || p.x_stride[i] == p.in[2] * p.x_stride[2];
    if (!gapless || m.axis[i].label_step != p.in[2] * m.axis[2].label_step) {
      return;
    }
    p.in[2] *= p.in[i];
    p.in[i] = 1;
    m.axis[2].windows[0].count = p.in[2];
    m.axis[i].windows[0].count = 1;
    m.axis[i].label_step = 0;
  }
}

// The vector kernel for rows of stride 1.
auto row_kernel(const MaxPool& m) {
  // A vector of outputs, if windows are close and there are outputs enough.
  constexpr int64_t kShort = 20;
  const bool short_rows = m.p.in[2] <= kShort && m.p.channels >= kShort;
  if (m.sliding && m.p.stride[2] <= 2 && m.p.out[2] > 1 && !short_rows) {
    return &max_pool_rows;
  }
  // A vector of inputs, if windows have several of them.
  constexpr int64_t kWide = 64;
  const PoolAxis& axis = m.axis[2];
  const bool wide = axis.step == 1 &&
      std::all_of(axis.windows.begin(),
                  axis.windows.end(),
                  [](const PoolAxis::Window& w) { return w.count >= kWide; });
  if (wide) {
    return &max_pool_wide;
  }
  // A vector of planes, if there are enough to be worth turning them, and the
  // rows that a row of outputs reads fit a cache that way: these are not cut.
  constexpr int64_t kLongest = 1 << 16;
  const auto reach = [](const PoolAxis& a) {
    int64_t most = 1;
    for (const PoolAxis::Window& w : a.windows) {
      most = std::max(most, (w.count - 1) * a.step + 1);
    }
    return most;
  };
  const bool fits = reach(m.axis[0]) * reach(m.axis[1]) * m.p.in[2] <= kLongest;
  return m.p.batch * m.p.channels >= 4 && fits ? &max_pool_planes
                                               : &max_pool_columns;
}

template <typename S>
void run_any(const MaxPool& m, const void* x, void* y, void* codes) {
  max_pool_any(m, static_cast<const S*>(x), static_cast<S*>(y), codes);
}

} // namespace

MaxPool sliding_max_pool(const PoolProblem& p, CodeKind codes) {
  MaxPool m = with_labels(p, codes, true);
  const bool taps = codes == CodeKind::u8;
  for (int i = 0; i < 3; ++i) {
    PoolAxis& axis = m.axis[i];
    axis.step = p.dilation[i];
    axis.label_step = unit(m, i) * (taps ? 1 : p.dilation[i]);
    axis.windows.resize(p.out[i]);
    for (int64_t o = 0; o < p.out[i]; ++o) {
      const PoolWindow w = pool_window(p, i, o);
      const int64_t begin = w.start + w.tap_begin * p.dilation[i];
      const int64_t count = w.tap_end - w.tap_begin;
      m.empty_windows |= count == 0;
      axis.windows[o] = {
          begin, count, unit(m, i) * (taps ? w.tap_begin : begin)};
    }
  }
  return m;
}

MaxPool adaptive_max_pool(const PoolProblem& p, CodeKind codes) {
  MaxPool m = with_labels(p, codes, false);
  for (int i = 0; i < 3; ++i) {
    PoolAxis& axis = m.axis[i];
    axis.label_step = unit(m, i);
    axis.windows.resize(p.out[i]);
    for (int64_t o = 0; o < p.out[i]; ++o) {
      const int64_t begin = adaptive_begin(o, p.in[i], p.out[i]);
      const int64_t end = adaptive_end(o, p.in[i], p.out[i]);
      axis.windows[o] = {begin, end - begin, unit(m, i) * begin};
    }
  }
  return m;
}

void max_pool(MaxPool m, const void* x, void* y, void* codes) {
  const PoolProblem& p = m.p;
  if (p.batch * p.channels * pool_out_plane(p) == 0) {
    return;
  }
  rotate_trivial(m);
  if (is_floating(p.dtype) && !m.empty_windows &&
      pool_in_plane(p) < (int64_t{1} << 31)) {
    if (p.channels > 1 && p.x_stride_c == 1 && p.y_stride_c == 1) {
      return max_pool_channels(m, x, y, codes);
    }
    if ((p.x_stride[2] == 1 || p.in[2] == 1) &&
        (p.y_stride[2] == 1 || p.out[2] == 1)) {
      if (max_pool_near(m, x, y, codes)) {
        return;
      }
      merge_global(m);
      return row_kernel(m)(m, x, y, codes);
    }
  }
  switch (m.p.dtype) {
    case DType::f32:
      return run_any<float>(m, x, y, codes);
    case DType::f64:
      return run_any<double>(m, x, y, codes);
    case DType::f16:
      return run_any<half>(m, x, y, codes);
    case DType::bf16:
      return run_any<bfloat16>(m, x, y, codes);
    case DType::i64:
      return run_any<int64_t>(m, x, y, codes);
    case DType::i32:
      return run_any<int32_t>(m, x, y, codes);
    case DType::i16:
      return run_any<int16_t>(m, x, y, codes);
    case DType::i8:
      return run_any<int8_t>(m, x, y, codes);
    case DType::u8:
      return run_any<uint8_t>(m, x, y, codes);
  }
}

} // namespace cpu
} // namespace torchconv
