#include "cpu/epilogue.h"

#include "core/parallel.h"

#ifndef TC_ISA
#define TC_SELF "cpu/epilogue.cpp"
#include "cpu/foreach_isa.h"

namespace torchconv {
namespace cpu {

void apply_epilogue(DType dtype, const Epilogue& e, void* result, int64_t n) {
  switch (dtype) {
    case DType::f64:
      return TC_DISPATCH(epilogue_pass<double>)(e, result, n);
    case DType::f16:
      return TC_DISPATCH(epilogue_pass<half>)(e, result, n);
    case DType::bf16:
      return TC_DISPATCH(epilogue_pass<bfloat16>)(e, result, n);
    default: // the binding lets no integers through
      return TC_DISPATCH(epilogue_pass<float>)(e, result, n);
  }
}

} // namespace cpu
} // namespace torchconv

#else // one instruction set

#include "cpu/simd.h"

#include "cpu/epilogue_simd.h"

namespace torchconv {
namespace cpu {
namespace TC_ISA {

template <typename S>
void epilogue_pass(const Epilogue& e, void* result, int64_t n) {
  S* to = static_cast<S*>(result);
  const Finish<S> finish(e, to);
  constexpr int64_t kGrain = 32768;
  parallel_for(n, kGrain, [&](int64_t begin, int64_t end) {
    finish.row(to + begin, end - begin);
  });
}

template void epilogue_pass<float>(const Epilogue&, void*, int64_t);
template void epilogue_pass<double>(const Epilogue&, void*, int64_t);
template void epilogue_pass<half>(const Epilogue&, void*, int64_t);
template void epilogue_pass<bfloat16>(const Epilogue&, void*, int64_t);

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

#endif
