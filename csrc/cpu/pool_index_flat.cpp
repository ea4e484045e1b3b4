#include "cpu/pool_index_flat.h"

#include <atomic>
#include <type_traits>
#include <vector>

#include "core/parallel.h"

namespace torchconv {
namespace cpu {
namespace {

// The planes of the three tensors, and how they are shared out: planes one by
// one or, where channels lie side by side, in blocks of channels.
class FlatPlanes {
 public:
  explicit FlatPlanes(const PoolCodes& k, int64_t most_channels = 256)
      : k_(k),
        p_(k.p),
        x_step_(Plane(k.p.in, k.p.x_stride).step),
        y_step_(Plane(k.p.out, k.p.y_stride).step),
        c_step_(Plane(k.p.out, k.c_stride).step),
        by_pixel_(p_.channels > 1 && (p_.x_stride_c == 1 || k.c_stride_c == 1)),
        width_(by_pixel_ ? std::min(p_.channels, most_channels) : 1),
        blocks_((p_.channels + width_ - 1) / width_) {}

  int64_t width() const {
    return width_;
  }

  // f(block, block of channels) for all of them, on all threads; to_work says
  // what a plane costs.
  template <typename F>
  void for_each(int64_t work, const F& f) const {
    parallel_for(
        p_.batch * blocks_,
        pool_grain(work * width_),
        [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) {
            const int64_t c = i % blocks_ * width_;
            f(i / blocks_, c, std::min(width_, p_.channels - c));
          }
        });
  }

  // f(code, offset in y, channel of the block) for each output of channels
  // [c, c + width) of sample n; those of one channel come in order.
  template <typename C, typename F>
  void outputs(int64_t n, int64_t c, int64_t width, const F& f) const {
    const int64_t count = pool_out_plane(p_);
    const int64_t y = n * p_.y_stride_n + c * p_.y_stride_c;
    const C* codes =
        static_cast<const C*>(k_.codes) + n * k_.c_stride_n + c * k_.c_stride_c;
    const int64_t y_step = y_step_, c_step = c_step_;
    if (!by_pixel_ && y_step == 1 && c_step == 1) {
      for (int64_t i = 0; i < count; ++i) {
        f(codes[i], y + i, 0);
      }
    } else if (!by_pixel_) {
      for (int64_t i = 0; i < count; ++i) {
        f(codes[i * c_step], y + i * y_step, 0);
      }
    } else if (p_.y_stride_c == 1 && k_.c_stride_c == 1) {
      for (int64_t i = 0; i < count; ++i) {
        for (int64_t j = 0; j < width; ++j) {
          f(codes[i * c_step + j], y + i * y_step + j, j);
        }
      }
    } else {
      const int64_t y_c = p_.y_stride_c, c_c = k_.c_stride_c;
      for (int64_t i = 0; i < count; ++i) {
        for (int64_t j = 0; j < width; ++j) {
          f(codes[i * c_step + j * c_c], y + i * y_step + j * y_c, j);
        }
      }
    }
  }

  // Where channels [c, ...) of sample n begin in x.
  int64_t x_offset(int64_t n, int64_t c) const {
    return n * p_.x_stride_n + c * p_.x_stride_c;
  }
  int64_t x_step() const {
    return x_step_;
  }
  // Whether the channels of a block lie side by side in x.
  bool side_by_side() const {
    return by_pixel_ && p_.x_stride_c == 1;
  }

  // Zeros positions [begin, end) of channels [c, c + width) of sample n of x.
  template <typename T>
  void clear(
      T* x,
      int64_t n,
      int64_t c,
      int64_t width,
      int64_t begin,
      int64_t end) const {
    T* to = x + x_offset(n, c) + begin * x_step_;
    const int64_t size = end - begin;
    if (!side_by_side()) {
      for (int64_t j = 0; j < width; ++j) {
        T* plane = to + j * p_.x_stride_c;
        if (x_step_ == 1) {
          std::fill_n(plane, size, T(0));
          continue;
        }
        for (int64_t i = 0; i < size; ++i) {
          plane[i * x_step_] = T(0);
        }
      }
    } else if (width == x_step_) {
      std::fill_n(to, size * width, T(0));
    } else {
      for (int64_t i = 0; i < size; ++i) {
        std::fill_n(to + i * x_step_, width, T(0));
      }
    }
  }

  // f(code, offset in y, offset in this block of x of a position and channel)
  // for each output, as above.
  template <typename C, typename F>
  void places(int64_t n, int64_t c, int64_t width, const F& f) const {
    const int64_t step = x_step_, step_c = p_.x_stride_c;
    if (!by_pixel_ && step == 1) {
      return outputs<C>(n, c, width, [&](C code, int64_t y, int64_t) {
        f(code, y, static_cast<int64_t>(code));
      });
    }
    outputs<C>(n, c, width, [&](C code, int64_t y, int64_t j) {
      // Codes have not been checked yet: a bad one may overflow.
      const uint64_t at =
          static_cast<uint64_t>(code) * static_cast<uint64_t>(step);
      f(code, y, static_cast<int64_t>(at) + j * step_c);
    });
  }

 private:
  const PoolCodes& k_;
  const PoolProblem& p_;
  const int64_t x_step_, y_step_, c_step_;
  const bool by_pixel_;
  const int64_t width_, blocks_;
};

// A code that is a position; any other is negative or too large.
template <typename C>
inline bool names(C code, int64_t size) {
  return static_cast<uint64_t>(static_cast<int64_t>(code)) <
      static_cast<uint64_t>(size);
}

// Zeros a block of channels in front of those who write into it, so that what they
// write is in the cache: codes mostly grow. Where one jumps ahead, more is zeroed
// at once; channels that lie apart are zeroed as a whole.
template <typename T>
class ClearedAhead {
 public:
  ClearedAhead(
      const FlatPlanes& planes,
      T* x,
      int64_t n,
      int64_t c,
      int64_t width,
      int64_t size)
      : planes_(planes),
        x_(x),
        n_(n),
        c_(c),
        width_(width),
        size_(size),
        ahead_(
            planes.side_by_side() || width == 1
                ? kAhead / (width * static_cast<int64_t>(sizeof(T)))
                : size) {
    // Small planes are zeroed before a code is known: nobody waits for it.
    reach(0);
  }

  // Whether this is a position of the block; it has been zeroed then.
  template <typename C>
  bool has(C code) {
    return names(code, cleared_) || (names(code, size_) && reach(code));
  }
  void finish() {
    planes_.clear(x_, n_, c_, width_, cleared_, size_);
  }

 private:
  static constexpr int64_t kAhead = 1 << 18; // bytes

  __attribute__((noinline)) bool reach(int64_t code) {
    const int64_t end = std::min(size_, code + 1 + ahead_);
    planes_.clear(x_, n_, c_, width_, cleared_, end);
    cleared_ = end;
    return true;
  }

  const FlatPlanes& planes_;
  T* const x_;
  const int64_t n_, c_, width_, size_, ahead_;
  int64_t cleared_ = 0;
};

template <typename S, typename C>
void scatter(const PoolCodes& k, const void* gradv, void* gxv) {
  using A = acc_t<S>;
  constexpr bool kNarrow = !std::is_same_v<A, S>;
  const S* grad = static_cast<const S*>(gradv);
  S* gx = static_cast<S*>(gxv);
  const int64_t size = pool_in_plane(k.p);
  const FlatPlanes planes(k, kNarrow ? 32 : 256);
  const int64_t step = planes.x_step(), step_c = k.p.x_stride_c;
  const int64_t work = size + pool_out_plane(k.p);
  planes.for_each(work, [&](int64_t n, int64_t c, int64_t width) {
    S* to = gx + planes.x_offset(n, c);
    if constexpr (kNarrow) {
      planes.clear(gx, n, c, width, 0, size);
      // Sums need memory of their own: the result's type is too narrow.
      std::vector<A> sums(size * width);
      planes.template outputs<C>(
          n, c, width, [&](C code, int64_t y, int64_t j) {
            if (names(code, size)) {
              sums[code * width + j] += A(grad[y]);
            }
          });
      planes.template outputs<C>(n, c, width, [&](C code, int64_t, int64_t j) {
        if (names(code, size)) {
          to[code * step + j * step_c] = S(sums[code * width + j]);
        }
      });
    } else {
      ClearedAhead<S> zeros(planes, gx, n, c, width, size);
      planes.template places<C>(
          n, c, width, [&](C code, int64_t y, int64_t at) {
            if (zeros.has(code)) {
              to[at] += grad[y];
            }
          });
      zeros.finish();
    }
  });
}

// Moves bits only, so the type is the element's size.
template <typename B, typename C>
void gather(const PoolCodes& k, const void* xv, void* outv) {
  const B* x = static_cast<const B*>(xv);
  B* out = static_cast<B*>(outv);
  const int64_t size = pool_in_plane(k.p);
  const FlatPlanes planes(k);
  planes.for_each(
      pool_out_plane(k.p), [&](int64_t n, int64_t c, int64_t width) {
        const B* from = x + planes.x_offset(n, c);
        planes.template places<C>(
            n, c, width, [&](C code, int64_t y, int64_t at) {
              out[y] = names(code, size) ? from[at] : B(0);
            });
      });
}

template <typename B>
bool unpool(const PoolCodes& k, const void* xv, void* outv) {
  const B* x = static_cast<const B*>(xv);
  B* out = static_cast<B*>(outv);
  const FlatPlanes planes(k);
  const int64_t size = pool_in_plane(k.p);
  const int64_t work = size + pool_out_plane(k.p);
  std::atomic<bool> good{true};
  planes.for_each(work, [&](int64_t n, int64_t c, int64_t width) {
    B* to = out + planes.x_offset(n, c);
    ClearedAhead<B> zeros(planes, out, n, c, width, size);
    bool all = true;
    planes.template places<int64_t>(
        n, c, width, [&](int64_t code, int64_t y, int64_t at) {
          if (zeros.has(code)) {
            to[at] = x[y];
          } else {
            all = false;
          }
        });
    zeros.finish();
    if (!all) {
      good.store(false, std::memory_order_relaxed);
    }
  });
  return good.load();
}

template <typename S>
void scatter_codes(const PoolCodes& k, const void* grad, void* gx) {
  return k.kind == CodeKind::i32 ? scatter<S, int32_t>(k, grad, gx)
                                 : scatter<S, int64_t>(k, grad, gx);
}

template <typename B>
void gather_codes(const PoolCodes& k, const void* x, void* out) {
  return k.kind == CodeKind::i32 ? gather<B, int32_t>(k, x, out)
                                 : gather<B, int64_t>(k, x, out);
}

} // namespace

void flat_scatter(const PoolCodes& k, const void* grad, void* gx) {
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

void flat_gather(const PoolCodes& k, const void* x, void* out) {
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

bool flat_unpool(const PoolCodes& k, const void* x, void* out) {
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
