// Scatter, gather and unpool: the choice of kernel, and the kernels for any codes
// and strides, one element at a time.
#include "cpu/pool_index.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <vector>

#include "core/parallel.h"
#include "cpu/isa.h"
#include "cpu/pool_grad_near.h"
#include "cpu/pool_index_flat.h"
#include "cpu/pool_index_vector.h"

namespace torchconv {
namespace cpu {
namespace {

constexpr int64_t kNowhere = -1; // as any negative position

// The codes of one row of outputs, read as flat positions of the plane.
template <typename C>
struct CodeRow {
  const C* codes;
  int64_t step, step_c, plane;

  // Output ow of the channel c places after the row's own; kNowhere if its
  // code is outside the plane.
  int64_t position(int64_t ow, int64_t c = 0) const {
    const int64_t code = codes[ow * step + c * step_c];
    return code >= 0 && code < plane ? code : kNowhere;
  }
};

// Where a tap lies relative to the start of its window.
struct Tap {
  int64_t d, h, w, flat;
};

template <>
struct CodeRow<uint8_t> {
  const uint8_t* codes;
  int64_t step, step_c;
  const Tap* taps;
  bool inside; // all taps, as to the first two dimensions
  int64_t start[3], stride, size[3], base, reach;

  int64_t position(int64_t ow, int64_t c = 0) const {
    const Tap& t = taps[codes[ow * step + c * step_c]];
    const int64_t w = start[2] + ow * stride;
    if (inside && w >= 0 && w + reach < size[2]) {
      return base + w + t.flat;
    }
    const auto in = [](int64_t i, int64_t n) {
      return static_cast<uint64_t>(i) < static_cast<uint64_t>(n);
    };
    const bool ok = in(w + t.w, size[2]) &&
        (inside ||
         (in(start[0] + t.d, size[0]) && in(start[1] + t.h, size[1])));
    return ok ? base + w + t.flat : kNowhere;
  }
};

template <typename C>
class CodeReader {
 public:
  explicit CodeReader(const PoolCodes& k) : k_(k) {
    if constexpr (std::is_same_v<C, uint8_t>) {
      const PoolProblem& p = k.p;
      const int64_t kh = p.kernel[1], kw = p.kernel[2];
      for (int64_t i = 0; i < kMaxTapCode; ++i) {
        const Tap t{
            i / (kh * kw) * p.dilation[0],
            i / kw % kh * p.dilation[1],
            i % kw * p.dilation[2],
            0};
        const int64_t flat = (t.d * p.in[1] + t.h) * p.in[2] + t.w;
        // What is no tap is outside wherever its window starts.
        const int64_t far = std::numeric_limits<int64_t>::min() / 2;
        taps_[i] =
            i < pool_taps(p) ? Tap{t.d, t.h, t.w, flat} : Tap{0, 0, far, far};
      }
    }
  }

  CodeRow<C> row(int64_t n, int64_t c, int64_t od, int64_t oh) const {
    const PoolProblem& p = k_.p;
    const C* codes = static_cast<const C*>(k_.codes) + n * k_.c_stride_n +
        c * k_.c_stride_c + od * k_.c_stride[0] + oh * k_.c_stride[1];
    if constexpr (std::is_same_v<C, uint8_t>) {
      const int64_t d = od * p.stride[0] - p.padding[0];
      const int64_t h = oh * p.stride[1] - p.padding[1];
      const bool inside = d >= 0 && h >= 0 &&
          d + (p.kernel[0] - 1) * p.dilation[0] < p.in[0] &&
          h + (p.kernel[1] - 1) * p.dilation[1] < p.in[1];
      return {
          codes,
          k_.c_stride[2],
          k_.c_stride_c,
          taps_,
          inside,
          {d, h, -p.padding[2]},
          p.stride[2],
          {p.in[0], p.in[1], p.in[2]},
          (d * p.in[1] + h) * p.in[2],
          (p.kernel[2] - 1) * p.dilation[2]};
    } else {
      return {codes, k_.c_stride[2], k_.c_stride_c, pool_in_plane(p)};
    }
  }

 private:
  const PoolCodes& k_;
  Tap taps_[std::is_same_v<C, uint8_t> ? kMaxTapCode : 1];
};

// Channels that lie side by side are taken in blocks.
struct Blocks {
  int64_t channels, width, count; // count: of all batches together
  Blocks(const PoolProblem& p, bool side_by_side)
      : channels(p.channels),
        width(side_by_side && p.channels > 1 ? 16 : 1) {
    per_batch_ = (channels + width - 1) / width;
    count = p.batch * per_batch_;
  }
  int64_t batch(int64_t block) const {
    return block / per_batch_;
  }
  int64_t first(int64_t block) const {
    return block % per_batch_ * width;
  }
  int64_t size(int64_t block) const {
    return std::min(width, channels - first(block));
  }

 private:
  int64_t per_batch_;
};

// Calls f(position, offset in y, place in the block) for the outputs of a
// block of channels; those of one channel come in order.
template <typename C, typename F>
void for_each_output(
    const PoolProblem& p,
    const CodeReader<C>& reader,
    const Blocks& blocks,
    int64_t block,
    const F& f) {
  const int64_t n = blocks.batch(block), c0 = blocks.first(block);
  const int64_t width = blocks.size(block);
  for (int64_t od = 0; od < p.out[0]; ++od) {
    for (int64_t oh = 0; oh < p.out[1]; ++oh) {
      const CodeRow<C> row = reader.row(n, c0, od, oh);
      const int64_t y = n * p.y_stride_n + c0 * p.y_stride_c +
          od * p.y_stride[0] + oh * p.y_stride[1];
      for (int64_t ow = 0; ow < p.out[2]; ++ow) {
        if (blocks.width == 1) {
          f(row.position(ow), y + ow * p.y_stride[2], 0);
          continue;
        }
        for (int64_t c = 0; c < width; ++c) {
          f(row.position(ow, c), y + ow * p.y_stride[2] + c * p.y_stride_c, c);
        }
      }
    }
  }
}

template <typename F>
void for_each_block(const Blocks& blocks, int64_t work, const F& f) {
  parallel_for(blocks.count, pool_grain(work * blocks.width), f);
}

// Zeros `size` positions of `width` channels; step elements lie between two.
template <typename T>
void clear(T* p, int64_t size, int64_t step, int64_t width) {
  if (step == width || size == 1) {
    std::fill(p, p + size * width, T(0));
    return;
  }
  for (int64_t i = 0; i < size; ++i) {
    std::fill(p + i * step, p + i * step + width, T(0));
  }
}

template <typename S, typename C>
void scatter(const PoolCodes& k, const void* gradv, void* gxv) {
  using A = acc_t<S>;
  const PoolProblem& p = k.p;
  const S* grad = static_cast<const S*>(gradv);
  S* gx = static_cast<S*>(gxv);
  const int64_t step = Plane(p.in, p.x_stride).step; // gx is ours: dense
  const int64_t size = pool_in_plane(p);
  const Blocks blocks(p, p.x_stride_c == 1);
  const auto run = [&](int64_t begin, int64_t end) {
    const CodeReader<C> reader(k);
    // Sums need memory of their own where the result's type is too narrow for
    // them. It is zero between two blocks.
    constexpr bool kNarrow = !std::is_same_v<A, S>;
    const int64_t width = blocks.width;
    std::vector<A> sums(kNarrow ? size * width : 0);
    for (int64_t i = begin; i < end; ++i) {
      S* out =
          gx + blocks.batch(i) * p.x_stride_n + blocks.first(i) * p.x_stride_c;
      clear(out, size, step, blocks.size(i));
      const auto outputs = [&](const auto& f) {
        for_each_output(
            p, reader, blocks, i, [&](int64_t at, int64_t y, int64_t c) {
              if (at >= 0) {
                f(at, y, c);
              }
            });
      };
      if constexpr (kNarrow) {
        outputs([&](int64_t at, int64_t y, int64_t c) {
          sums[at * width + c] += A(grad[y]);
        });
        outputs([&](int64_t at, int64_t, int64_t c) {
          out[at * step + c] = S(sums[at * width + c]);
        });
        outputs([&](int64_t at, int64_t, int64_t c) {
          sums[at * width + c] = A(0);
        });
      } else {
        outputs([&](int64_t at, int64_t y, int64_t c) {
          out[at * step + c] += grad[y];
        });
      }
    }
  };
  for_each_block(blocks, size + pool_out_plane(p), run);
}

// A sum over the windows that hold an input costs a vector step for each of
// them; adding to one input ten scalar ones or so for each output.
bool few_windows(const PoolProblem& p) {
  const int64_t lanes = (active_isa() == Isa::avx512     ? 64
                             : active_isa() == Isa::avx2 ? 32
                                                         : 16) /
      (p.dtype == DType::f64 ? 8 : 4);
  int64_t windows = 1; // that hold one input, at most
  for (int i = 0; i < 3; ++i) {
    windows *= ceil_div(p.kernel[i], p.stride[i]);
  }
  return windows <= 4 * lanes;
}

// Uses the vector kernels where they are the faster ones and can.
bool scatter_vectors(const PoolCodes& k, const void* grad, void* gx) {
  if (!(codes_of_windows(k) || k.adaptive) || k.p.dtype == DType::i64 ||
      pool_out_plane(k.p) == 0) {
    return false;
  }
  PoolGrad g{k, {k.p.kernel[1] * k.p.kernel[2], k.p.kernel[2], 1}};
  PoolProblem& p = g.k.p;
  // Vectors run along the last dimension: a trivial one moves to the front.
  for (int i = 0; i < 2 && p.in[2] == 1 && p.out[2] == 1; ++i) {
    for (int64_t* v :
         {p.in,
          p.out,
          p.kernel,
          p.stride,
          p.padding,
          p.dilation,
          p.x_stride,
          p.y_stride,
          g.k.c_stride,
          g.tap_unit}) {
      std::swap(v[2], v[1]);
      std::swap(v[1], v[0]);
    }
  }
  if (p.channels > 1 && p.x_stride_c == 1 && p.y_stride_c == 1 &&
      g.k.c_stride_c == 1) {
    return pool_grad_channels(g, grad, gx);
  }
  const bool rows = (p.x_stride[2] == 1 || p.in[2] == 1) &&
      ((p.y_stride[2] == 1 && g.k.c_stride[2] == 1) || p.out[2] == 1);
  if (k.kind == CodeKind::u8 && rows && pool_grad_near(g, grad, gx)) {
    return true;
  }
  if (k.kind == CodeKind::u8 && rows && few_windows(p) && p.stride[2] <= 2 &&
      pool_taps(p) < kMaxTapCode) {
    pool_grad_rows(g, grad, gx);
    return true;
  }
  return false;
}

// Moves bits only, so the type is the element's size.
template <typename B, typename C>
void gather(const PoolCodes& k, const void* xv, void* outv) {
  const PoolProblem& p = k.p;
  const B* x = static_cast<const B*>(xv);
  B* out = static_cast<B*>(outv);
  const Plane plane(p.in, p.x_stride);
  const Blocks blocks(p, p.y_stride_c == 1);
  const auto run = [&](int64_t begin, int64_t end) {
    const CodeReader<C> reader(k);
    for (int64_t i = begin; i < end; ++i) {
      const B* from =
          x + blocks.batch(i) * p.x_stride_n + blocks.first(i) * p.x_stride_c;
      for_each_output(
          p, reader, blocks, i, [&](int64_t at, int64_t y, int64_t c) {
            out[y] = at < 0 ? B(0) : from[plane.offset(at) + c * p.x_stride_c];
          });
    }
  };
  for_each_block(blocks, pool_out_plane(p), run);
}

template <typename B>
void unpool(const PoolCodes& k, const void* xv, void* outv) {
  const PoolProblem& p = k.p;
  const B* x = static_cast<const B*>(xv);
  B* out = static_cast<B*>(outv);
  const int64_t size = pool_in_plane(p);
  const int64_t step = Plane(p.in, p.x_stride).step; // out is ours: dense
  const Blocks blocks(p, p.x_stride_c == 1);
  const auto run = [&](int64_t begin, int64_t end) {
    const CodeReader<int64_t> reader(k);
    for (int64_t i = begin; i < end; ++i) {
      B* to =
          out + blocks.batch(i) * p.x_stride_n + blocks.first(i) * p.x_stride_c;
      clear(to, size, step, blocks.size(i));
      for_each_output(
          p, reader, blocks, i, [&](int64_t at, int64_t y, int64_t c) {
            to[at * step + c] = x[y];
          });
    }
  };
  for_each_block(blocks, size + pool_out_plane(p), run);
}

template <typename S>
void scatter_codes(const PoolCodes& k, const void* grad, void* gx) {
  switch (k.kind) {
    case CodeKind::u8:
      return scatter<S, uint8_t>(k, grad, gx);
    case CodeKind::i32:
      return scatter<S, int32_t>(k, grad, gx);
    default:
      return scatter<S, int64_t>(k, grad, gx);
  }
}

template <typename B>
void gather_codes(const PoolCodes& k, const void* x, void* out) {
  switch (k.kind) {
    case CodeKind::u8:
      return gather<B, uint8_t>(k, x, out);
    case CodeKind::i32:
      return gather<B, int32_t>(k, x, out);
    default:
      return gather<B, int64_t>(k, x, out);
  }
}

// Whether all codes are positions of the plane; the first that is none.
bool good_indices(const PoolCodes& k, int64_t* wrong) {
  const PoolProblem& p = k.p;
  const Blocks blocks(p, k.c_stride_c == 1);
  const CodeReader<int64_t> reader(k);
  std::atomic<int64_t> first{blocks.count}; // block with a bad index
  const auto check = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      bool ok = true;
      for_each_output(p, reader, blocks, i, [&](int64_t at, int64_t, int64_t) {
        ok &= at >= 0;
      });
      if (!ok) {
        int64_t seen = first.load();
        while (i < seen && !first.compare_exchange_weak(seen, i)) {
        }
        return;
      }
    }
  };
  for_each_block(blocks, pool_out_plane(p), check);
  if (first.load() == blocks.count) {
    return true;
  }
  const int64_t block = first.load();
  const int64_t* index = static_cast<const int64_t*>(k.codes) +
      blocks.batch(block) * k.c_stride_n + blocks.first(block) * k.c_stride_c;
  for (int64_t i = 0; i < pool_out_plane(p); ++i) {
    const int64_t ow = i % p.out[2], oh = i / p.out[2] % p.out[1],
                  od = i / (p.out[2] * p.out[1]);
    for (int64_t c = 0; c < blocks.size(block); ++c) {
      *wrong = index
          [c * k.c_stride_c + od * k.c_stride[0] + oh * k.c_stride[1] +
           ow * k.c_stride[2]];
      if (*wrong < 0 || *wrong >= pool_in_plane(p)) {
        return false;
      }
    }
  }
  return false;
}

} // namespace

void pool_scatter(const PoolCodes& k, const void* grad, void* gx) {
  if (scatter_vectors(k, grad, gx)) {
    return;
  }
  if (flat_codes(k)) {
    return flat_scatter(k, grad, gx);
  }
  switch (k.p.dtype) {
    case DType::f32:
      return scatter_codes<float>(k, grad, gx);
    case DType::f64:
      return scatter_codes<double>(k, grad, gx);
    case DType::f16:
      return scatter_codes<half>(k, grad, gx);
    case DType::bf16:
      return scatter_codes<bfloat16>(k, grad, gx);
    default: // the binding lets no other type through
      return scatter_codes<int64_t>(k, grad, gx);
  }
}

void pool_gather(const PoolCodes& k, const void* x, void* out) {
  if (flat_codes(k)) {
    return flat_gather(k, x, out);
  }
  switch (dtype_size(k.p.dtype)) {
    case 1:
      return gather_codes<uint8_t>(k, x, out);
    case 2:
      return gather_codes<uint16_t>(k, x, out);
    case 4:
      return gather_codes<uint32_t>(k, x, out);
    default:
      return gather_codes<uint64_t>(k, x, out);
  }
}

bool max_unpool(const PoolCodes& k, const void* x, void* out, int64_t* wrong) {
  if (flat_codes(k)) {
    return flat_unpool(k, x, out) || good_indices(k, wrong);
  }
  if (!good_indices(k, wrong)) {
    return false;
  }
  switch (dtype_size(k.p.dtype)) {
    case 1:
      unpool<uint8_t>(k, x, out);
      break;
    case 2:
      unpool<uint16_t>(k, x, out);
      break;
    case 4:
      unpool<uint32_t>(k, x, out);
      break;
    default:
      unpool<uint64_t>(k, x, out);
  }
  return true;
}

} // namespace cpu
} // namespace torchconv
