// Max pooling with the channels innermost (channels_last): a vector is that
// many channels of one output.
#include "cpu/pool_max_vector.h"

#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/parallel.h"

#ifndef TC_ISA
#define TC_SELF "cpu/pool_max_channels.cpp"
#include "cpu/foreach_isa.h"

namespace torchconv {
namespace cpu {

void max_pool_channels(const MaxPool& m, const void* x, void* y, void* codes) {
  switch (m.p.dtype) {
    case DType::f64:
      return TC_DISPATCH(max_pool_channels_kernel<double>)(m, x, y, codes);
    case DType::f16:
      return TC_DISPATCH(max_pool_channels_kernel<half>)(m, x, y, codes);
    case DType::bf16:
      return TC_DISPATCH(max_pool_channels_kernel<bfloat16>)(m, x, y, codes);
    default:
      return TC_DISPATCH(max_pool_channels_kernel<float>)(m, x, y, codes);
  }
}

} // namespace cpu
} // namespace torchconv

#else // one instruction set

#include "cpu/pool_simd.h"

#include "cpu/pool_max_driver.h"

#include "cpu/pool_max_pixels.h"

namespace torchconv {
namespace cpu {
namespace TC_ISA {

template <typename S>
void max_pool_channels_kernel(
    const MaxPool& m,
    const void* xv,
    void* yv,
    void* codes) {
  const S* x = static_cast<const S*>(xv);
  S* y = static_cast<S*>(yv);
  if (m.codes == CodeKind::none) {
    ChannelKernel<S, false> kernel(m, x, y, nullptr);
    PoolDriver<decltype(kernel)>(m, kernel).run();
  } else {
    ChannelKernel<S, true> kernel(m, x, y, codes);
    PoolDriver<decltype(kernel)>(m, kernel).run();
  }
}

template void max_pool_channels_kernel<float>(
    const MaxPool&,
    const void*,
    void*,
    void*);
template void max_pool_channels_kernel<double>(
    const MaxPool&,
    const void*,
    void*,
    void*);
template void max_pool_channels_kernel<half>(
    const MaxPool&,
    const void*,
    void*,
    void*);
template void max_pool_channels_kernel<bfloat16>(
    const MaxPool&,
    const void*,
    void*,
    void*);

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

#endif
