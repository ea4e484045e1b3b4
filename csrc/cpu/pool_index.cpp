// Scatter, gather and unpool for any codes and strides, one element at a time.
#include "cpu/pool_index.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <vector>

#include "core/parallel.h"
#include "cpu/isa.h"
#include "cpu/pool_index_vector.h"

namespace torchconv {
namespace cpu {
namespace {

constexpr int64_t kNowhere = -1;

// Turns codes into flat positions of the plane, kNowhere for one outside it.
// One reader walks the outputs of one plane; row() goes to a row of outputs.
template <typename C>
class CodeReader {
 public:
  explicit CodeReader(const PoolCodes& k) : k_(k), p_(k.p) {
    if (std::is_same_v<C, uint8_t>) {
      taps_ = pool_taps(p_);
      for (int64_t t = 0; t < std::min(taps_, kMaxTapCode); ++t) {
        tap_[t][0] = t / (p_.kernel[1] * p_.kernel[2]) * p_.dilation[0];
        tap_[t][1] = t / p_.kernel[2] % p_.kernel[1] * p_.dilation[1];
        tap_[t][2] = t % p_.kernel[2] * p_.dilation[2];
        flat_[t] = (tap_[t][0] * p_.in[1] + tap_[t][1]) * p_.in[2] + tap_[t][2];
      }
      for (int i = 0; i < 3; ++i) {
        reach_[i] = (p_.kernel[i] - 1) * p_.dilation[i];
      }
    }
    plane_size_ = pool_in_plane(p_);
  }

  void row(int64_t n, int64_t c, int64_t od, int64_t oh) {
    codes_ = static_cast<const C*>(k_.codes) + n * k_.c_stride_n +
        c * k_.c_stride_c + od * k_.c_stride[0] + oh * k_.c_stride[1];
    if (std::is_same_v<C, uint8_t>) {
      start_[0] = od * p_.stride[0] - p_.padding[0];
      start_[1] = oh * p_.stride[1] - p_.padding[1];
      inside_ = start_[0] >= 0 && start_[0] + reach_[0] < p_.in[0] &&
          start_[1] >= 0 && start_[1] + reach_[1] < p_.in[1];
    }
  }

  // Of the channel `c` places after the row's own.
  int64_t position(int64_t ow, int64_t c = 0) const {
    const int64_t code = codes_[ow * k_.c_stride[2] + c * k_.c_stride_c];
    if (!std::is_same_v<C, uint8_t>) {
      return code >= 0 && code < plane_size_ ? code : kNowhere;
    }
    if (code >= taps_) {
      return kNowhere;
    }
    const int64_t w = ow * p_.stride[2] - p_.padding[2];
    const bool inside = inside_ && w >= 0 && w + reach_[2] < p_.in[2];
    if (!inside) {
      const int64_t d = start_[0] + tap_[code][0];
      const int64_t h = start_[1] + tap_[code][1];
      const int64_t i = w + tap_[code][2];
      if (d < 0 || d >= p_.in[0] || h < 0 || h >= p_.in[1] || i < 0 ||
          i >= p_.in[2]) {
        return kNowhere;
      }
    }
    return (start_[0] * p_.in[1] + start_[1]) * p_.in[2] + w + flat_[code];
  }

 private:
  const PoolCodes& k_;
  const PoolProblem& p_;
  const C* codes_ = nullptr;
  int64_t plane_size_, taps_ = 0, start_[2] = {}, reach_[3] = {};
  bool inside_ = false;
  int64_t tap_[kMaxTapCode][3], flat_[kMaxTapCode];
};

// Where the elements of a plane lie, by their row-major number. When they are
// one step apart throughout, no division is needed to find one.
struct Plane {
  int64_t size[3], stride[3], step = 0;
  bool dense = true;
  Plane(const int64_t in[3], const int64_t strides[3]) {
    std::copy(in, in + 3, size);
    std::copy(strides, strides + 3, stride);
    int64_t inner = 1; // elements inside the dimensions seen so far
    for (int i = 2; i >= 0; --i) {
      if (size[i] == 1) {
        continue;
      }
      if (inner == 1) {
        step = stride[i];
      }
      dense &= stride[i] == step * inner;
      inner *= size[i];
    }
  }
  int64_t offset(int64_t i) const {
    return dense ? i * step
                 : i / (size[1] * size[2]) * stride[0] +
            i / size[2] % size[1] * stride[1] + i % size[2] * stride[2];
  }
};

// Calls f(position, offset in y) for the outputs of plane (n, c) in order.
template <typename C, typename F>
void for_each_output(
    const PoolProblem& p,
    CodeReader<C>& reader,
    int64_t n,
    int64_t c,
    const F& f) {
  for (int64_t od = 0; od < p.out[0]; ++od) {
    for (int64_t oh = 0; oh < p.out[1]; ++oh) {
      reader.row(n, c, od, oh);
      const int64_t y = n * p.y_stride_n + c * p.y_stride_c +
          od * p.y_stride[0] + oh * p.y_stride[1];
      for (int64_t ow = 0; ow < p.out[2]; ++ow) {
        f(reader.position(ow), y + ow * p.y_stride[2]);
      }
    }
  }
}

template <typename F>
void for_each_plane(const PoolProblem& p, int64_t work, const F& f) {
  parallel_for(
      p.batch * p.channels, pool_grain(work), [&](int64_t begin, int64_t end) {
        f(begin, end);
      });
}

// Channels are taken in blocks where they lie side by side. Sums are made in
// memory of their own where the result's type is too narrow for them.
template <typename S, typename C>
void scatter(const PoolCodes& k, const void* gradv, void* gxv) {
  using A = acc_t<S>;
  const PoolProblem& p = k.p;
  const S* grad = static_cast<const S*>(gradv);
  S* gx = static_cast<S*>(gxv);
  const Plane plane(p.in, p.x_stride); // dense: gx is ours
  const int64_t size = pool_in_plane(p);
  const int64_t block = p.x_stride_c == 1 && p.channels > 1 ? 16 : 1;
  const int64_t blocks = (p.channels + block - 1) / block;
  constexpr bool kDirect = std::is_same_v<A, S>;
  const auto run = [&](int64_t begin, int64_t end) {
    CodeReader<C> reader(k);
    std::vector<A> sums(kDirect ? 0 : size * block);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t n = i / blocks, c0 = i % blocks * block;
      const int64_t width = std::min(block, p.channels - c0);
      S* out = gx + n * p.x_stride_n + c0 * p.x_stride_c;
      A* sum = kDirect ? reinterpret_cast<A*>(out) : sums.data();
      const int64_t step = kDirect ? plane.step : block;
      for (int64_t j = 0; j < size; ++j) {
        std::fill(sum + j * step, sum + j * step + width, A(0));
      }
      for (int64_t od = 0; od < p.out[0]; ++od) {
        for (int64_t oh = 0; oh < p.out[1]; ++oh) {
          reader.row(n, c0, od, oh);
          const S* g = grad + n * p.y_stride_n + c0 * p.y_stride_c +
              od * p.y_stride[0] + oh * p.y_stride[1];
          for (int64_t ow = 0; ow < p.out[2]; ++ow) {
            for (int64_t c = 0; c < width; ++c) {
              const int64_t at = reader.position(ow, c);
              if (at != kNowhere) {
                sum[at * step + c] +=
                    A(g[ow * p.y_stride[2] + c * p.y_stride_c]);
              }
            }
          }
        }
      }
      if (!kDirect) {
        for (int64_t j = 0; j < size; ++j) {
          for (int64_t c = 0; c < width; ++c) {
            out[j * plane.step + c] = S(sum[j * block + c]);
          }
        }
      }
    }
  };
  parallel_for(
      p.batch * blocks, pool_grain((size + pool_out_plane(p)) * block), run);
}

// A sum over the windows that hold an input costs a vector step for each of
// their taps; adding to one input a scalar one for each output.
bool few_taps(const PoolProblem& p) {
  const int64_t lanes = (active_isa() == Isa::avx512     ? 64
                             : active_isa() == Isa::avx2 ? 32
                                                         : 16) /
      (p.dtype == DType::f64 ? 8 : 4);
  return pool_taps(p) <= 3 * lanes / 2;
}

// Uses the vector kernels where they are the faster ones and can.
bool scatter_vectors(const PoolCodes& k, const void* grad, void* gx) {
  if (k.kind != CodeKind::u8 || k.p.dtype == DType::i64 || !few_taps(k.p)) {
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
    pool_grad_channels(g, grad, gx);
    return true;
  }
  if ((p.x_stride[2] == 1 || p.in[2] == 1) &&
      ((p.y_stride[2] == 1 && g.k.c_stride[2] == 1) || p.out[2] == 1)) {
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
  const auto run = [&](int64_t begin, int64_t end) {
    CodeReader<C> reader(k);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t n = i / p.channels, c = i % p.channels;
      const B* from = x + n * p.x_stride_n + c * p.x_stride_c;
      for_each_output(p, reader, n, c, [&](int64_t at, int64_t y) {
        out[y] = at == kNowhere ? B(0) : from[plane.offset(at)];
      });
    }
  };
  for_each_plane(p, pool_out_plane(p), run);
}

template <typename B>
void unpool(const PoolCodes& k, const void* xv, void* outv) {
  const PoolProblem& p = k.p;
  const B* x = static_cast<const B*>(xv);
  B* out = static_cast<B*>(outv);
  const Plane plane(p.in, p.x_stride);
  const int64_t size = pool_in_plane(p);
  const auto run = [&](int64_t begin, int64_t end) {
    CodeReader<int64_t> reader(k);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t n = i / p.channels, c = i % p.channels;
      B* to = out + n * p.x_stride_n + c * p.x_stride_c;
      for (int64_t j = 0; j < size; ++j) {
        to[plane.offset(j)] = B(0);
      }
      for_each_output(p, reader, n, c, [&](int64_t at, int64_t y) {
        to[plane.offset(at)] = x[y];
      });
    }
  };
  for_each_plane(p, size + pool_out_plane(p), run);
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

} // namespace

void pool_scatter(const PoolCodes& k, const void* grad, void* gx) {
  if (scatter_vectors(k, grad, gx)) {
    return;
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

bool check_indices(const PoolCodes& k, int64_t* wrong) {
  const PoolProblem& p = k.p;
  const int64_t planes = p.batch * p.channels;
  std::atomic<int64_t> bad{planes}; // the first plane with a bad index
  const auto check = [&](int64_t begin, int64_t end) {
    CodeReader<int64_t> reader(k);
    for (int64_t i = begin; i < end; ++i) {
      bool ok = true;
      for_each_output(
          p, reader, i / p.channels, i % p.channels, [&](int64_t at, int64_t) {
            ok &= at != kNowhere;
          });
      if (!ok) {
        int64_t seen = bad.load();
        while (i < seen && !bad.compare_exchange_weak(seen, i)) {
        }
        return;
      }
    }
  };
  for_each_plane(p, pool_out_plane(p), check);
  if (bad.load() == planes) {
    return true;
  }
  const int64_t* index = static_cast<const int64_t*>(k.codes) +
      bad.load() / p.channels * k.c_stride_n +
      bad.load() % p.channels * k.c_stride_c;
  for (int64_t i = 0; i < pool_out_plane(p); ++i) {
    const int64_t ow = i % p.out[2], oh = i / p.out[2] % p.out[1],
                  od = i / (p.out[2] * p.out[1]);
    *wrong =
        index[od * k.c_stride[0] + oh * k.c_stride[1] + ow * k.c_stride[2]];
    if (*wrong < 0 || *wrong >= pool_in_plane(p)) {
      break;
    }
  }
  return false;
}

void max_unpool(const PoolCodes& k, const void* x, void* out) {
  switch (dtype_size(k.p.dtype)) {
    case 1:
      return unpool<uint8_t>(k, x, out);
    case 2:
      return unpool<uint16_t>(k, x, out);
    case 4:
      return unpool<uint32_t>(k, x, out);
    default:
      return unpool<uint64_t>(k, x, out);
  }
}

} // namespace cpu
} // namespace torchconv
