// Max pooling of planes with contiguous rows and windows of any kind: a
// vector's worth of planes is turned to channel order, a slab that stays in
// cache at a time, and pooled there, where no window needs lanes to meet.
#include "cpu/pool_max_vector.h"

#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/parallel.h"

#ifndef TC_ISA
#define TC_SELF "cpu/pool_max_planes.cpp"
#include "cpu/foreach_isa.h"

namespace torchconv {
namespace cpu {

void max_pool_planes(const MaxPool& m, const void* x, void* y, void* codes) {
  switch (m.p.dtype) {
    case DType::f64:
      return TC_DISPATCH(max_pool_planes_kernel<double>)(m, x, y, codes);
    case DType::f16:
      return TC_DISPATCH(max_pool_planes_kernel<half>)(m, x, y, codes);
    case DType::bf16:
      return TC_DISPATCH(max_pool_planes_kernel<bfloat16>)(m, x, y, codes);
    default:
      return TC_DISPATCH(max_pool_planes_kernel<float>)(m, x, y, codes);
  }
}

} // namespace cpu
} // namespace torchconv

#else // one instruction set

#include "cpu/pool_simd.h"

#include "cpu/pool_max_driver.h"

#include "cpu/pool_max_pixels.h"

#include "cpu/pool_planes_simd.h"

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// The windows [begin, end) of an axis, and the input positions [first, last)
// they span. Where padding hides a dilated window's first tap, it begins behind
// the next one.
struct AxisPart {
  int64_t begin, end, first, last;
  AxisPart(const PoolAxis& axis, int64_t b, int64_t e)
      : begin(b),
        end(e),
        first(std::numeric_limits<int64_t>::max()),
        last(0) {
    for (int64_t o = b; o < e; ++o) {
      const PoolAxis::Window& w = axis.windows[o];
      first = std::min(first, w.begin);
      last = std::max(last, w.begin + (w.count - 1) * axis.step + 1);
    }
  }
  int64_t outputs() const {
    return end - begin;
  }
  int64_t inputs() const {
    return last - first;
  }
  void cut(const PoolAxis& from, PoolAxis& to) const {
    to.step = from.step;
    to.label_step = from.label_step;
    to.windows.assign(from.windows.begin() + begin, from.windows.begin() + end);
    for (PoolAxis::Window& w : to.windows) {
      w.begin -= first;
    }
  }
};

template <typename S, bool Codes>
class PlanePool {
  using A = acc_t<S>;
  using I = Label<A>;
  static constexpr int L = kLanes<A>;
  static constexpr int64_t kSlab = 512 * 1024; // bytes of turned input

 public:
  PlanePool(const MaxPool& m, const S* x, S* y, void* codes)
      : m_(m),
        x_(x),
        y_(y),
        finish_{y, codes, m.codes} {
    const PoolProblem& p = m.p;
    const int64_t pixels = kSlab / (L * static_cast<int64_t>(sizeof(A)));
    depth_ = p.out[0];
    height_ = p.out[1];
    if (pool_in_plane(p) > pixels) {
      depth_ = 1;
      const int64_t slices = AxisReach(m.axis[0]).span;
      const AxisReach reach(m.axis[1]);
      const int64_t rows = pixels / (slices * p.in[2]) - reach.span;
      const int64_t apart = std::max<int64_t>(p.in[1] / p.out[1], 1);
      height_ = std::clamp<int64_t>(rows / apart + 1, 1, p.out[1]);
    }
  }

  void run() const {
    const PoolProblem& p = m_.p;
    const int64_t planes = p.batch * p.channels;
    const int64_t groups = (planes + L - 1) / L;
    const int64_t parts = ((p.out[0] + depth_ - 1) / depth_) *
        ((p.out[1] + height_ - 1) / height_);
    const int64_t work = pool_in_plane(p) * L / parts;
    parallel_for(
        groups * parts, pool_grain(work), [&](int64_t begin, int64_t end) {
          PlanePool self(*this);
          for (int64_t u = begin; u < end; ++u) {
            self.part(u / parts, u % parts);
          }
        });
  }

 private:
  void part(int64_t group, int64_t part) {
    const PoolProblem& p = m_.p;
    const int64_t bands = (p.out[1] + height_ - 1) / height_;
    const int64_t od = part / bands * depth_, oh = part % bands * height_;
    const AxisPart depth(m_.axis[0], od, std::min(od + depth_, p.out[0]));
    const AxisPart height(m_.axis[1], oh, std::min(oh + height_, p.out[1]));
    const int64_t first = group * L;
    const int planes =
        static_cast<int>(std::min<int64_t>(L, p.batch * p.channels - first));
    const S* from[L];
    int64_t to[L];
    for (int j = 0; j < L; ++j) {
      const int64_t plane = first + (j < planes ? j : 0);
      const int64_t n = plane / p.channels, c = plane % p.channels;
      from[j] = x_ + n * p.x_stride_n + c * p.x_stride_c;
      to[j] = n * p.y_stride_n + c * p.y_stride_c;
    }
    turn(from, depth, height);
    pool(depth, height);
    turn_back(to, planes, depth, height);
  }

  void turn(
      const S* const (&from)[L],
      const AxisPart& depth,
      const AxisPart& height) {
    const PoolProblem& p = m_.p;
    const int64_t row = p.in[2], slice = height.inputs() * row;
    xs_.resize(depth.inputs() * slice * L);
    const bool dense = p.x_stride[1] == row || height.inputs() == 1;
    for (int64_t d = 0; d < depth.inputs(); ++d) {
      const int64_t at =
          (depth.first + d) * p.x_stride[0] + height.first * p.x_stride[1];
      A* to = xs_.data() + d * slice * L;
      if (dense) {
        planes_to_lanes<S>(from, at, slice, to);
        continue;
      }
      for (int64_t h = 0; h < height.inputs(); ++h) {
        planes_to_lanes<S>(from, at + h * p.x_stride[1], row, to + h * row * L);
      }
    }
  }

  void pool(const AxisPart& depth, const AxisPart& height) {
    const PoolProblem& p = m_.p;
    MaxPool part;
    PoolProblem& q = part.p;
    q = p;
    depth.cut(m_.axis[0], part.axis[0]);
    height.cut(m_.axis[1], part.axis[1]);
    part.axis[2] = m_.axis[2];
    part.codes = !Codes  ? CodeKind::none
        : sizeof(I) == 4 ? CodeKind::i32
                         : CodeKind::i64;
    part.sliding = part.empty_windows = false;
    q.batch = 1;
    q.channels = L;
    q.in[0] = depth.inputs();
    q.in[1] = height.inputs();
    q.out[0] = depth.outputs();
    q.out[1] = height.outputs();
    q.x_stride_n = q.y_stride_n = 0;
    q.x_stride_c = q.y_stride_c = 1;
    q.x_stride[2] = q.y_stride[2] = L;
    for (int i = 1; i >= 0; --i) {
      q.x_stride[i] = q.x_stride[i + 1] * q.in[i + 1];
      q.y_stride[i] = q.y_stride[i + 1] * q.out[i + 1];
    }
    ys_.resize(pool_out_plane(q) * L);
    codes_.resize(Codes ? ys_.size() : 0);
    const ChannelKernel<A, Codes> kernel(
        part, xs_.data(), ys_.data(), codes_.data());
    PoolDriver<ChannelKernel<A, Codes>>(part, kernel).run_serial();
  }

  void turn_back(
      const int64_t (&to)[L],
      int planes,
      const AxisPart& depth,
      const AxisPart& height) {
    const PoolProblem& p = m_.p;
    const int64_t row = p.out[2];
    const bool dense = p.y_stride[1] == row || height.outputs() == 1;
    const int64_t rows = dense ? 1 : height.outputs();
    const int64_t n = row * height.outputs() / rows;
    for (int64_t d = 0; d < depth.outputs(); ++d) {
      for (int64_t h = 0; h < rows; ++h) {
        const int64_t at = (depth.begin + d) * p.y_stride[0] +
            (height.begin + h) * p.y_stride[1];
        const int64_t i = (d * height.outputs() + h) * row * L;
        lanes_to_planes(
            ys_.data() + i,
            n,
            planes,
            [&](int j, int64_t o, const Vec<A>& v, int lanes) {
              store_first(y_ + to[j] + at + o, v, lanes);
            });
        if constexpr (Codes) {
          lanes_to_planes(
              codes_.data() + i,
              n,
              planes,
              [&](int j, int64_t o, const Vec<I>& v, int lanes) {
                finish_.put_codes(to[j] + at + o, v, lanes);
              });
        }
      }
    }
  }

  const MaxPool& m_;
  const S* x_;
  S* y_;
  Finish<S, Codes> finish_;
  int64_t depth_, height_; // outputs of a slab
  std::vector<A> xs_, ys_;
  std::vector<I> codes_;
};

} // namespace

template <typename S>
void max_pool_planes_kernel(
    const MaxPool& m,
    const void* xv,
    void* yv,
    void* codes) {
  const S* x = static_cast<const S*>(xv);
  S* y = static_cast<S*>(yv);
  if (m.codes == CodeKind::none) {
    PlanePool<S, false>(m, x, y, nullptr).run();
  } else {
    PlanePool<S, true>(m, x, y, codes).run();
  }
}

#define TC_INSTANTIATE(S)                  \
  template void max_pool_planes_kernel<S>( \
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
