#include "cpu/epilogue.h"

#include <type_traits>

#include "core/parallel.h"

#ifndef TC_ISA
#define TC_SELF "cpu/epilogue.cpp"
#include "cpu/foreach_isa.h"

namespace torchconv {
namespace cpu {

Finish::Finish(DType dtype, const Epilogue& e, const void* result)
    : epilogue(e),
      result(result) {
  if (!e.any()) {
    return;
  }
  switch (dtype) {
    case DType::f64:
      rows_ = TC_DISPATCH(finish_rows<double>);
      break;
    case DType::f16:
      rows_ = TC_DISPATCH(finish_rows<half>);
      break;
    case DType::bf16:
      rows_ = TC_DISPATCH(finish_rows<bfloat16>);
      break;
    default: // the binding lets no integers through
      rows_ = TC_DISPATCH(finish_rows<float>);
  }
}

void apply_epilogue(DType dtype, const Epilogue& e, void* result, int64_t n) {
  const Finish finish(dtype, e, result);
  const int64_t size = dtype_size(dtype);
  constexpr int64_t kGrain = 32768;
  parallel_for(n, kGrain, [&](int64_t begin, int64_t end) {
    void* from = static_cast<char*>(result) + begin * size;
    finish.row(from, end - begin);
  });
}

GatherFinish::GatherFinish(const GatherView& v, const ConvTensors& t)
    : v_(v),
      epilogue_(t.epilogue),
      result_(v.pass == Pass::forward ? t.y : t.x) {
  bool neighbours = v.folded.empty();
  for (const auto& runs : v.runs) {
    for (const AxisRun& run : runs) {
      neighbours = neighbours && run.step == 1;
    }
  }
  if (neighbours) {
    blocks_ = Finish(v.p.dtype, t.epilogue, result_);
  }
}

void GatherFinish::rest() const {
  if (epilogue_.any() && !blocks_) {
    const ConvProblem& p = v_.p;
    const int64_t n = v_.pass == Pass::forward
        ? p.batch * p.out_channels * p.out_pixels()
        : p.batch * p.in_channels * p.in_pixels();
    apply_epilogue(p.dtype, epilogue_, result_, n);
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

// Comparisons with a NaN are false, and leave it where it is.
template <Activation F, typename A>
inline Vec<A> activated(Vec<A> v, Vec<A> a, Vec<A> b) {
  const Vec<A> zero{};
  if constexpr (F == Activation::relu) {
    return v < zero ? zero : v;
  } else if constexpr (F == Activation::hardtanh) {
    v = v < a ? a : v;
    return v > b ? b : v;
  } else if constexpr (F == Activation::leaky_relu) {
    return v > zero ? v : v * a;
  } else if constexpr (
      F == Activation::hardswish || F == Activation::hardsigmoid) {
    const Vec<A> six = zero + A(6);
    Vec<A> gate = v + A(3);
    gate = gate < zero ? zero : gate;
    gate = gate > six ? six : gate;
    return F == Activation::hardswish ? v * gate / A(6) : gate / A(6);
  } else {
    return v;
  }
}

template <typename S, Activation F, bool Add>
void rows_of(const Finish& f, S* first, int64_t rows, int64_t row, int64_t n) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  const Vec<A> a = broadcast(static_cast<A>(f.epilogue.a));
  const Vec<A> b = broadcast(static_cast<A>(f.epilogue.b));
  const S* residual = static_cast<const S*>(f.epilogue.residual);
  const S* result = static_cast<const S*>(f.result);
  for (int64_t r = 0; r < rows; ++r) {
    S* to = first + r * row;
    const S* from = Add ? residual + (to - result) : nullptr;
    int64_t i = 0;
    for (; i + L <= n; i += L) {
      Vec<A> v = load_as(to + i);
      if constexpr (Add) {
        v += load_as(from + i);
      }
      store_as(to + i, activated<F, A>(v, a, b));
    }
    if (i < n) {
      const int rest = static_cast<int>(n - i);
      Vec<A> v = load_as_partial(to + i, rest);
      if constexpr (Add) {
        v += load_as_partial(from + i, rest);
      }
      store_as_partial(to + i, activated<F, A>(v, a, b), rest);
    }
  }
}

} // namespace

template <typename S>
void finish_rows(
    const Finish& f,
    void* to,
    int64_t rows,
    int64_t row,
    int64_t n) {
  S* first = static_cast<S*>(to);
  const auto run = [&](auto activation) {
    constexpr Activation F = decltype(activation)::value;
    if (f.epilogue.residual == nullptr) {
      rows_of<S, F, false>(f, first, rows, row, n);
    } else {
      rows_of<S, F, true>(f, first, rows, row, n);
    }
  };
  switch (f.epilogue.activation) {
    case Activation::relu:
      return run(std::integral_constant<Activation, Activation::relu>());
    case Activation::hardtanh:
      return run(std::integral_constant<Activation, Activation::hardtanh>());
    case Activation::leaky_relu:
      return run(std::integral_constant<Activation, Activation::leaky_relu>());
    case Activation::hardswish:
      return run(std::integral_constant<Activation, Activation::hardswish>());
    case Activation::hardsigmoid:
      return run(std::integral_constant<Activation, Activation::hardsigmoid>());
    default:
      return run(std::integral_constant<Activation, Activation::none>());
  }
}

#define TC_INSTANTIATE(S) \
  template void finish_rows<S>(const Finish&, void*, int64_t, int64_t, int64_t);
TC_INSTANTIATE(float)
TC_INSTANTIATE(double)
TC_INSTANTIATE(half)
TC_INSTANTIATE(bfloat16)
#undef TC_INSTANTIATE

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

#endif
