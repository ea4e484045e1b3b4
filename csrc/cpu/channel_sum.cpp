#include "cpu/channel_sum.h"

#include <algorithm>

#include "core/parallel.h"

#ifndef TC_ISA
#define TC_SELF "cpu/channel_sum.cpp"
#include "cpu/foreach_isa.h"

namespace torchconv {
namespace cpu {

void channel_sum(const ChannelSum& p, const void* x, void* out) {
  switch (p.dtype) {
    case DType::f32:
      return TC_DISPATCH(channel_sum_kernel<float>)(p, x, out);
    case DType::f64:
      return TC_DISPATCH(channel_sum_kernel<double>)(p, x, out);
    case DType::f16:
      return TC_DISPATCH(channel_sum_kernel<half>)(p, x, out);
    case DType::bf16:
      return TC_DISPATCH(channel_sum_kernel<bfloat16>)(p, x, out);
    default: // the binding lets no other type through
      return TC_DISPATCH(channel_sum_kernel<int64_t>)(p, x, out);
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

// A row of contiguous pixels of one channel: four running vectors, so that the
// latency of an addition is hidden, folded in a fixed order. Rows are summed
// on their own first: the error grows with the root of the size, not with it.
template <typename S>
acc_t<S> row_sum(const S* x, int64_t n) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  Vec<A> s[4] = {};
  int64_t i = 0;
  for (; i + 4 * L <= n; i += 4 * L) {
    for (int j = 0; j < 4; ++j) {
      s[j] += load_as(x + i + j * L);
    }
  }
  for (; i + L <= n; i += L) {
    s[0] += load_as(x + i);
  }
  if (i < n) {
    s[1] += load_as_partial(x + i, static_cast<int>(n - i));
  }
  s[0] = (s[0] + s[1]) + (s[2] + s[3]);
  A sum = 0;
  for (int j = 0; j < L; ++j) {
    sum += s[0][j];
  }
  return sum;
}

} // namespace

template <typename S>
void channel_sum_kernel(const ChannelSum& given, const void* xv, void* outv) {
  using A = acc_t<S>;
  // Expanded gradients (of a mean) hold one value many times: it is multiplied,
  // since rounding errors of equal additions do not cancel.
  ChannelSum p = given;
  A times = 1;
  const auto collapse = [&](int64_t& size, int64_t stride) {
    if (stride == 0 && size > 1) {
      times *= static_cast<A>(size);
      size = 1;
    }
  };
  collapse(p.batch, p.stride_n);
  for (int d = 0; d < 3; ++d) {
    collapse(p.size[d], p.stride[d]);
  }
  constexpr int L = kLanes<A>;
  const S* x = static_cast<const S*>(xv);
  S* out = static_cast<S*>(outv);
  if (p.stride_c == 1 && p.channels > 1) {
    // channels_last: a vector is L channels of one pixel.
    const int64_t blocks = (p.channels + L - 1) / L;
    parallel_for(blocks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        const int n =
            static_cast<int>(std::min<int64_t>(L, p.channels - b * L));
        Vec<A> total{};
        for (int64_t i = 0; i < p.batch; ++i) {
          for (int64_t d = 0; d < p.size[0]; ++d) {
            for (int64_t h = 0; h < p.size[1]; ++h) {
              const S* row = x + i * p.stride_n + d * p.stride[0] +
                  h * p.stride[1] + b * L;
              Vec<A> sum{};
              for (int64_t w = 0; w < p.size[2]; ++w) {
                sum += n == L ? load_as(row + w * p.stride[2])
                              : load_as_partial(row + w * p.stride[2], n);
              }
              total += sum;
            }
          }
        }
        store_as_partial(out + b * L, total * broadcast(times), n);
      }
    });
    return;
  }
  // Rows that follow one another without a gap are one row.
  int64_t size[3] = {p.size[0], p.size[1], p.size[2]};
  const bool dense = p.stride[2] == 1 || size[2] == 1;
  if (dense && p.stride[1] == size[2]) {
    size[2] *= size[1];
    size[1] = 1;
    if (p.stride[0] == size[2]) {
      size[2] *= size[0];
      size[0] = 1;
    }
  }
  parallel_for(p.channels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      A total = 0;
      for (int64_t i = 0; i < p.batch; ++i) {
        for (int64_t d = 0; d < size[0]; ++d) {
          for (int64_t h = 0; h < size[1]; ++h) {
            const S* row = x + i * p.stride_n + c * p.stride_c +
                d * p.stride[0] + h * p.stride[1];
            if (dense) {
              total += row_sum(row, size[2]);
            } else {
              A sum = 0;
              for (int64_t w = 0; w < size[2]; ++w) {
                sum += static_cast<A>(row[w * p.stride[2]]);
              }
              total += sum;
            }
          }
        }
      }
      out[c] = S(total * times);
    }
  });
}

template void channel_sum_kernel<float>(const ChannelSum&, const void*, void*);
template void channel_sum_kernel<double>(const ChannelSum&, const void*, void*);
template void channel_sum_kernel<half>(const ChannelSum&, const void*, void*);
template void channel_sum_kernel<bfloat16>(
    const ChannelSum&,
    const void*,
    void*);
template void channel_sum_kernel<int64_t>(
    const ChannelSum&,
    const void*,
    void*);

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

#endif
