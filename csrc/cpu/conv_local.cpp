// Position-dependent convolution: see conv_local_plan.h for the parts.
//
// The floor for a locally connected layer is reading (or, for weight_grad,
// writing) the weights once. A small tile is a product of matrices per class,
// and the floor is the arithmetic.
#include "cpu/conv_local.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>

#include "core/parallel.h"
#include "cpu/conv_local_plan.h"

#ifndef TC_ISA
#define TC_SELF "cpu/conv_local.cpp"
#include "cpu/foreach_isa.h"

namespace torchconv {
namespace cpu {
namespace {

int64_t acc_size(DType t) {
  return t == DType::f64 || t == DType::i64 ? 8 : 4;
}

// Among how many tasks a gradient should divide a group's channels, given that
// there are `others` independent tasks already. More slices than threads need
// would only read gy more often.
int64_t slices_wanted(int64_t others, int threads) {
  return others >= threads
      ? 1
      : ceil_div(2 * threads, std::max<int64_t>(others, 1));
}

} // namespace

LocalPlan local_plan_of(const LocalProblem& p, Pass pass, int threads) {
  int64_t others = p.conv.groups;
  if (pass == Pass::weight_grad) {
    others *= p.classes();
  }
  const bool sliced = pass != Pass::forward && threads > 1;
  LocalPlan plan = local_plan(
      p,
      sliced,
      slices_wanted(others, threads),
      acc_size(p.conv.dtype),
      threads);
  plan.scratch = acc_size(p.conv.dtype) == 8
      ? local_scratch<double>(p, plan, nullptr).bytes
      : local_scratch<float>(p, plan, nullptr).bytes;
  return plan;
}

// input_grad of a half type adds up in float: a dense float copy of gx.
static bool needs_wide(const ConvProblem& c) {
  return c.dtype == DType::f16 || c.dtype == DType::bf16;
}

int64_t conv_local_workspace(const LocalProblem& p, Pass pass, int threads) {
  const LocalPlan plan = local_plan_of(p, pass, threads);
  int64_t bytes = LocalTables(p.conv, nullptr).bytes + plan.scratch * threads;
  if (pass == Pass::input_grad && needs_wide(p.conv)) {
    bytes += p.conv.batch * p.conv.in_channels * p.conv.in_pixels() * 4;
  }
  return bytes;
}

#define TC_LOCAL_DISPATCH(fn, ...)                        \
  switch (p.conv.dtype) {                                 \
    case DType::f32:                                      \
      return TC_DISPATCH(fn<float>)(__VA_ARGS__);         \
    case DType::f64:                                      \
      return TC_DISPATCH(fn<double>)(__VA_ARGS__);        \
    case DType::f16:                                      \
      return TC_DISPATCH(fn<half>)(__VA_ARGS__);          \
    case DType::bf16:                                     \
      return TC_DISPATCH(fn<bfloat16>)(__VA_ARGS__);      \
    default: /* the binding lets no other type through */ \
      return TC_DISPATCH(fn<int64_t>)(__VA_ARGS__);       \
  }

void conv_local_forward(
    const LocalProblem& p,
    const void* x,
    const void* w,
    const void* bias,
    void* y,
    void* workspace) {
  const LocalPlan plan = local_plan_of(p, Pass::forward, pool_threads());
  TC_LOCAL_DISPATCH(local_forward, p, plan, x, w, bias, y, workspace);
}

void conv_local_input_grad(
    const LocalProblem& p,
    const void* gy,
    const void* w,
    void* gx,
    void* workspace) {
  const LocalPlan plan = local_plan_of(p, Pass::input_grad, pool_threads());
  TC_LOCAL_DISPATCH(local_input_grad, p, plan, gy, w, gx, workspace);
}

void conv_local_weight_grad(
    const LocalProblem& p,
    const void* gy,
    const void* x,
    void* gw,
    void* workspace) {
  const LocalPlan plan = local_plan_of(p, Pass::weight_grad, pool_threads());
  TC_LOCAL_DISPATCH(local_weight_grad, p, plan, gy, x, gw, workspace);
}

} // namespace cpu
} // namespace torchconv

#else // one instruction set

#include "cpu/simd.h"

#include "cpu/conv_local_patch.h"
#include "cpu/conv_local_tile.h"

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

template <typename A>
LocalScratch<A> my_scratch(
    const LocalProblem& p,
    const LocalPlan& plan,
    const LocalTables& tables,
    void* workspace) {
  const int64_t thread = thread_pool().thread_index();
  return local_scratch<A>(
      p,
      plan,
      static_cast<char*>(workspace) + tables.bytes + thread * plan.scratch);
}

} // namespace

template <typename S>
void local_forward(
    const LocalProblem& p,
    const LocalPlan& plan,
    const void* xv,
    const void* wv,
    const void* biasv,
    void* yv,
    void* workspace) {
  using A = acc_t<S>;
  const ConvProblem& c = p.conv;
  const S* x = static_cast<const S*>(xv);
  const S* w = static_cast<const S*>(wv);
  const S* bias = static_cast<const S*>(biasv);
  S* y = static_cast<S*>(yv);
  const int64_t rows = c.out_group();
  LocalTables tables(c, workspace);
  tables.fill(c);
  const auto narrow = [&](const LocalScratch<A>& s,
                          const LocalClass& k,
                          int64_t row,
                          int64_t g,
                          int64_t first,
                          int64_t last) {
    S* out[kLocalMaxColumns];
    each_column(
        p,
        tables,
        k,
        first,
        last,
        s.off,
        [&](const LocalColumn& column, const LocalTaps& taps, int64_t q) {
          gather(
              c,
              taps,
              x + column.n * c.x.n + g * c.in_group() * c.x.c,
              c.in_group(),
              s.patch + q * plan.padded,
              plan.padded);
          out[q] = at(y, c.y, column, g * rows);
        });
    for (int64_t r = 0; r < rows;) {
      const S* b = bias == nullptr ? nullptr : bias + row + r;
      const S* from = w + (row + r) * plan.row;
      const int64_t step = r + kDotRows <= rows ? kDotRows : 1;
      const auto dot =
          step == 1 ? &dot_columns<S, 1> : &dot_columns<S, kDotRows>;
      dot(from, plan.row, s.patch, plan.padded, last - first, b, out, c.y.c);
      for (int64_t q = 0; q < last - first; ++q) {
        out[q] += step * c.y.c;
      }
      r += step;
    }
  };
  const auto wide = [&](const LocalScratch<A>& s,
                        const LocalClass& k,
                        int64_t row,
                        int64_t g,
                        int64_t first,
                        int64_t last) {
    gather_wide(
        p,
        tables,
        k,
        first,
        last,
        x + g * c.in_group() * c.x.c,
        c.in_group(),
        s.patch);
    outer<S, A>(
        w + row * plan.row,
        plan.row,
        1,
        s.patch,
        kLocalMaxColumns,
        plan.row,
        s.sums,
        kLocalMaxColumns,
        rows,
        last - first,
        false);
    S* out[kLocalMaxColumns];
    LocalColumn column(p, k, first);
    for (int64_t q = 0; q < last - first; ++q) {
      out[q] = at(y, c.y, column, g * rows);
      column.next(p, k);
    }
    for (int64_t r = 0; r < rows; ++r) {
      const A b = bias == nullptr ? A(0) : static_cast<A>(bias[row + r]);
      for (int64_t q = 0; q < last - first; ++q) {
        out[q][r * c.y.c] = S(s.sums[r * kLocalMaxColumns + q] + b);
      }
    }
  };
  const auto block =
      [&](const LocalScratch<A>& s, int64_t number, int64_t first) {
        const LocalClass k = local_class(p, number);
        const int64_t last = std::min(first + plan.block, k.columns);
        for (int64_t g = 0; g < c.groups && first < last; ++g) {
          const int64_t row = number * c.out_channels + g * rows;
          if (plan.wide) {
            wide(s, k, row, g, first, last);
          } else {
            narrow(s, k, row, g, first, last);
          }
        }
      };
  parallel_for(plan.runs * plan.blocks, 1, [&](int64_t begin, int64_t end) {
    const LocalScratch<A> s = my_scratch<A>(p, plan, tables, workspace);
    for (int64_t item = begin; item < end; ++item) {
      const int64_t number = item / plan.blocks * plan.run;
      const int64_t stop = std::min(number + plan.run, plan.classes);
      for (int64_t i = number; i < stop; ++i) {
        block(s, i, item % plan.blocks * plan.block);
      }
    }
  });
}

template <typename S>
void local_input_grad(
    const LocalProblem& p,
    const LocalPlan& plan,
    const void* gyv,
    const void* wv,
    void* gxv,
    void* workspace) {
  using A = acc_t<S>;
  constexpr bool kWide = !std::is_same_v<A, S>;
  const S* gy = static_cast<const S*>(gyv);
  const S* w = static_cast<const S*>(wv);
  S* gx = static_cast<S*>(gxv);
  // Where the sums grow: gx itself, or a dense copy in the wider type.
  LocalProblem q = p;
  A* sums;
  if constexpr (kWide) {
    ConvProblem& c = q.conv;
    // Behind the scratch of the threads; see conv_local_workspace.
    sums = reinterpret_cast<A*>(
        static_cast<char*>(workspace) + LocalTables(c, nullptr).bytes +
        plan.scratch * pool_threads());
    c.x = {
        c.in_channels * c.in_pixels(),
        c.in_pixels(),
        {c.in[1] * c.in[2], c.in[2], 1}};
  } else {
    sums = gx;
  }
  const ConvProblem& c = q.conv;
  // Rows of the weight are taken a few at a time, so that they stream from
  // memory in order; each sum is a chain over all of them all the same.
  constexpr int64_t kRows = 8;
  const int64_t rows = c.out_group();
  LocalTables tables(c, workspace);
  tables.fill(c);
  parallel_for(c.groups * plan.slices, 1, [&](int64_t begin, int64_t end) {
    const LocalScratch<A> s = my_scratch<A>(q, plan, tables, workspace);
    for (int64_t item = begin; item < end; ++item) {
      const int64_t g = item / plan.slices;
      const int64_t c0 = item % plan.slices * plan.slice;
      const int64_t count = std::min(plan.slice, c.in_group() - c0);
      const int64_t width = count * plan.taps;
      A* planes = sums + (g * c.in_group() + c0) * c.x.c;
      for (int64_t n = 0; n < c.batch; ++n) {
        for (int64_t a = 0; a < c.in[0]; ++a) {
          for (int64_t b = 0; b < c.in[1]; ++b) {
            for (int64_t ch = 0; ch < count; ++ch) {
              A* line =
                  planes + n * c.x.n + ch * c.x.c + a * c.x.s[0] + b * c.x.s[1];
              for (int64_t i = 0; i < c.in[2]; ++i) {
                line[i * c.x.s[2]] = 0;
              }
            }
          }
        }
      }
      // Which columns are added to an input in which order depends on the
      // problem alone, not on threads: runs of kLocalRun classes.
      const int64_t steps = ceil_div(plan.classes, kLocalRun) * plan.blocks;
      for (int64_t step = 0; step < steps; ++step) {
        const int64_t begin_class = step / plan.blocks * kLocalRun;
        const int64_t end_class =
            std::min(begin_class + kLocalRun, plan.classes);
        const int64_t first = step % plan.blocks * plan.block;
        for (int64_t number = begin_class; number < end_class; ++number) {
          const LocalClass k = local_class(q, number);
          const int64_t last = std::min(first + plan.block, k.columns);
          if (first >= last) {
            continue;
          }
          const S* kernel = w +
              (number * c.out_channels + g * rows) * plan.row + c0 * plan.taps;
          pack_grad(q, k, first, last, gy + g * rows * c.y.c, rows, s.grad);
          const int64_t at_once = last - first < 6 ? kRows : rows;
          for (int64_t r = 0; r < rows; r += at_once) {
            outer<A, S>(
                s.grad + r,
                rows,
                1,
                kernel + r * plan.row,
                plan.row,
                std::min(at_once, rows - r),
                s.patch,
                plan.padded,
                last - first,
                width,
                r > 0);
          }
          each_column(
              q,
              tables,
              k,
              first,
              last,
              s.off,
              [&](const LocalColumn& column, const LocalTaps& taps, int64_t i) {
                scatter(
                    c,
                    taps,
                    s.patch + i * plan.padded,
                    count,
                    planes + column.n * c.x.n);
              });
        }
      }
      if constexpr (kWide) {
        const Strides& to = p.conv.x;
        for (int64_t n = 0; n < c.batch; ++n) {
          for (int64_t ch = 0; ch < count; ++ch) {
            const int64_t channel = g * c.in_group() + c0 + ch;
            const A* from = planes + n * c.x.n + ch * c.x.c;
            for (int64_t a = 0; a < c.in[0]; ++a) {
              for (int64_t b = 0; b < c.in[1]; ++b) {
                for (int64_t i = 0; i < c.in[2]; ++i) {
                  gx[n * to.n + channel * to.c + a * to.s[0] + b * to.s[1] +
                     i * to.s[2]] = S(*from++);
                }
              }
            }
          }
        }
      }
    }
  });
}

template <typename S>
void local_weight_grad(
    const LocalProblem& p,
    const LocalPlan& plan,
    const void* gyv,
    const void* xv,
    void* gwv,
    void* workspace) {
  using A = acc_t<S>;
  constexpr bool kWide = !std::is_same_v<A, S>;
  const ConvProblem& c = p.conv;
  const S* gy = static_cast<const S*>(gyv);
  const S* x = static_cast<const S*>(xv);
  S* gw = static_cast<S*>(gwv);
  const int64_t rows = c.out_group();
  LocalTables tables(c, workspace);
  tables.fill(c);
  const int64_t items = plan.runs * c.groups * plan.slices;
  parallel_for(items, 1, [&](int64_t begin, int64_t end) {
    const LocalScratch<A> s = my_scratch<A>(p, plan, tables, workspace);
    for (int64_t item = begin; item < end; ++item) {
      const int64_t begin_class = item / (c.groups * plan.slices) * plan.run;
      const int64_t end_class = std::min(begin_class + plan.run, plan.classes);
      const int64_t g = item / plan.slices % c.groups;
      const int64_t c0 = item % plan.slices * plan.slice;
      const int64_t count = std::min(plan.slice, c.in_group() - c0);
      const int64_t width = count * plan.taps;
      const auto kernel_of = [&](int64_t number) {
        return gw + (number * c.out_channels + g * rows) * plan.row +
            c0 * plan.taps;
      };
      for (int64_t i = 0; i < plan.blocks * (end_class - begin_class); ++i) {
        const int64_t number = begin_class + i % (end_class - begin_class);
        const LocalClass k = local_class(p, number);
        const int64_t first = i / (end_class - begin_class) * plan.block;
        const int64_t last = std::min(first + plan.block, k.columns);
        // A class without positions has a gradient of zeros: one empty block.
        if (first > 0 && first >= last) {
          continue;
        }
        each_column(
            p,
            tables,
            k,
            first,
            last,
            s.off,
            [&](const LocalColumn& column, const LocalTaps& taps, int64_t q) {
              gather(
                  c,
                  taps,
                  x + column.n * c.x.n + (g * c.in_group() + c0) * c.x.c,
                  count,
                  s.patch + q * plan.padded,
                  plan.padded);
            });
        pack_grad(p, k, first, last, gy + g * rows * c.y.c, rows, s.grad);
        A* sums;
        int64_t sums_r;
        if constexpr (kWide) {
          sums = s.sums;
          sums_r = plan.padded;
        } else {
          sums = kernel_of(number);
          sums_r = plan.row;
        }
        outer<A, A>(
            s.grad,
            1,
            rows,
            s.patch,
            plan.padded,
            std::max<int64_t>(last - first, 0),
            sums,
            sums_r,
            rows,
            width,
            first > 0);
      }
      if constexpr (kWide) { // one class in a run
        S* kernel = kernel_of(begin_class);
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t i = 0; i < width; ++i) {
            kernel[r * plan.row + i] = S(s.sums[r * plan.padded + i]);
          }
        }
      }
    }
  });
}

#define TC_LOCAL_INSTANTIATE(S)       \
  template void local_forward<S>(     \
      const LocalProblem&,            \
      const LocalPlan&,               \
      const void*,                    \
      const void*,                    \
      const void*,                    \
      void*,                          \
      void*);                         \
  template void local_input_grad<S>(  \
      const LocalProblem&,            \
      const LocalPlan&,               \
      const void*,                    \
      const void*,                    \
      void*,                          \
      void*);                         \
  template void local_weight_grad<S>( \
      const LocalProblem&,            \
      const LocalPlan&,               \
      const void*,                    \
      const void*,                    \
      void*,                          \
      void*);
TC_LOCAL_INSTANTIATE(float)
TC_LOCAL_INSTANTIATE(double)
TC_LOCAL_INSTANTIATE(half)
TC_LOCAL_INSTANTIATE(bfloat16)
TC_LOCAL_INSTANTIATE(int64_t)
#undef TC_LOCAL_INSTANTIATE

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

#endif
