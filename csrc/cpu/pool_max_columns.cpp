// Max pooling along contiguous rows whose windows are not one or two apart
// (adaptive pooling, wide strides): the rows of a window are reduced first, in
// vectors of columns, then each output takes the maximum of its columns.
#include "cpu/pool_max_vector.h"

#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/parallel.h"

#ifndef TC_ISA
#define TC_SELF "cpu/pool_max_columns.cpp"
#include "cpu/foreach_isa.h"

namespace torchconv {
namespace cpu {

void max_pool_columns(const MaxPool& m, const void* x, void* y, void* codes) {
  switch (m.p.dtype) {
    case DType::f64:
      return TC_DISPATCH(max_pool_columns_kernel<double>)(m, x, y, codes);
    case DType::f16:
      return TC_DISPATCH(max_pool_columns_kernel<half>)(m, x, y, codes);
    case DType::bf16:
      return TC_DISPATCH(max_pool_columns_kernel<bfloat16>)(m, x, y, codes);
    default:
      return TC_DISPATCH(max_pool_columns_kernel<float>)(m, x, y, codes);
  }
}

} // namespace cpu
} // namespace torchconv

#else // one instruction set

#include "cpu/pool_simd.h"

#include "cpu/pool_max_driver.h"

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

template <typename S>
class ColumnKernel {
 public:
  using Storage = S;
  using Acc = acc_t<S>;
  // Equal maxima of two columns are told apart by their rows: codes are kept
  // also where nobody asked for them.
  static constexpr bool kCodes = true;
  static constexpr bool kWholeWindows = false;

  ColumnKernel(const MaxPool& m, const S* x, S* y, void* codes)
      : finish{y, codes, m.codes},
        m_(m),
        x_(x),
        best_(m.p.in[2] + L),
        row_(m.p.in[2] + L) {}

  int64_t groups() const {
    return m_.p.batch * m_.p.channels;
  }
  int64_t line() const {
    return m_.p.out[2];
  }
  void enter(int64_t group) {
    const int64_t n = group / m_.p.channels, c = group % m_.p.channels;
    plane_ = x_ + n * m_.p.x_stride_n + c * m_.p.x_stride_c;
    y_plane_ = n * m_.p.y_stride_n + c * m_.p.y_stride_c;
  }
  const S* row(int64_t id, int64_t ih) const {
    return plane_ + id * m_.p.x_stride[0] + ih * m_.p.x_stride[1];
  }
  int64_t out(int64_t od, int64_t oh) const {
    return y_plane_ + od * m_.p.y_stride[0] + oh * m_.p.y_stride[1];
  }

  template <typename F>
  void each(const F& f) const {
    for (int64_t o = 0; o < m_.p.out[2]; o += L) {
      f(std::integral_constant<int, 1>(),
        o,
        o,
        static_cast<int>(std::min<int64_t>(L, m_.p.out[2] - o)));
    }
  }

  void reduce(
      const S* const* rows,
      const Label<Acc>* labels,
      int n,
      const Sink<Acc>& sink) {
    reduce_rows(rows, labels, n);
    const PoolAxis& axis = m_.axis[2];
    const I label_step = static_cast<I>(axis.label_step);
    for (int64_t o0 = 0; o0 < m_.p.out[2]; o0 += L) {
      const int lanes = static_cast<int>(std::min<int64_t>(L, line() - o0));
      alignas(kVectorBytes) A best[L] = {};
      alignas(kVectorBytes) I code[L] = {};
      for (int j = 0; j < lanes; ++j) {
        const PoolAxis::Window& w = axis.windows[o0 + j];
        A top = best_[w.begin];
        I top_row = row_[w.begin];
        I top_label = static_cast<I>(w.label);
        I label = top_label;
        for (int64_t t = 1; t < w.count; ++t) {
          const int64_t i = w.begin + t * axis.step;
          const A v = best_[i];
          const I r = row_[i];
          label += label_step;
          // In the order of the window an upper row comes before a lower one.
          // Which way it goes is chance: selected by bits, not by branches.
          const I take = -static_cast<I>(
              (v > top) | ((v == top) & (r < top_row)) |
              ((v != v) & ((top == top) | (r >= top_row))));
          I bits, top_bits;
          std::memcpy(&bits, &v, sizeof(A));
          std::memcpy(&top_bits, &top, sizeof(A));
          top_bits ^= (bits ^ top_bits) & take;
          std::memcpy(&top, &top_bits, sizeof(A));
          top_row ^= (r ^ top_row) & take;
          top_label ^= (label ^ top_label) & take;
        }
        best[j] = top;
        code[j] = top_row + top_label;
      }
      if (sink.best == nullptr) {
        finish(sink.out + o0, load(best), load(code), lanes);
      } else {
        store(sink.best + o0, load(best));
        store(sink.code + o0, load(code));
      }
    }
  }

  Finish<S, true> finish;

 private:
  using A = Acc;
  using I = Label<A>;
  static constexpr int L = kLanes<A>;

  // The maximum of each column and the label of its row.
  void reduce_rows(const S* const* rows, const I* labels, int n) {
    const int64_t in = m_.p.in[2];
    for (int64_t i = 0; i < in; i += L) {
      const bool whole = i + L <= in;
      Vec<A> best = lowest<A>();
      Vec<I> row = Vec<I>{} + labels[0];
      for (int r = 0; r < n; ++r) {
        take<true, A>(
            best,
            row,
            whole ? load_as(rows[r] + i) : load_window(rows[r], i, in),
            Vec<I>{} + labels[r]);
      }
      store(best_.data() + i, best);
      store(row_.data() + i, row);
    }
  }

  const MaxPool& m_;
  const S* x_;
  const S* plane_ = nullptr;
  int64_t y_plane_ = 0;
  std::vector<A> best_; // of the rows at hand, by column
  std::vector<I> row_;
};

} // namespace

template <typename S>
void max_pool_columns_kernel(
    const MaxPool& m,
    const void* x,
    void* y,
    void* codes) {
  const ColumnKernel<S> kernel(
      m, static_cast<const S*>(x), static_cast<S*>(y), codes);
  PoolDriver<ColumnKernel<S>>(m, kernel).run();
}

template void max_pool_columns_kernel<float>(
    const MaxPool&,
    const void*,
    void*,
    void*);
template void max_pool_columns_kernel<double>(
    const MaxPool&,
    const void*,
    void*,
    void*);
template void max_pool_columns_kernel<half>(
    const MaxPool&,
    const void*,
    void*,
    void*);
template void max_pool_columns_kernel<bfloat16>(
    const MaxPool&,
    const void*,
    void*,
    void*);

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

#endif
