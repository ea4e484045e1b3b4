// What CUDA tensors meet where there is no CUDA kernel: one sentence. Every
// operator has its row, so none falls through to the dispatcher's own message,
// which lists backends instead of saying what to do.
#include <build_info.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace torchconv {
namespace {

struct Op {
  const char* name;
  // One letter for each argument: (T)ensor, (O)ptional tensor, (L)ist of
  // integers, (I)nteger or none, (S)tring, or a plain (v)alue.
  const char* arguments;
};

constexpr Op kOps[] = {
#if !TORCHCONV_WITH_CUDA
    {"conv_forward", "TTOLLLvSvS"},
    {"conv_input_grad", "TTOLLLLvSvS"},
    {"conv_forward_fused", "TTOOLLLvSvSSvv"},
    {"conv_input_grad_fused", "TTOOLLLLvSvSSvv"},
    {"conv_weight_grad", "TTLLLLvSvS"},
    {"local_conv_forward", "TTOLLLvSv"},
    {"local_conv_input_grad", "TTLLLLvSv"},
    {"local_conv_weight_grad", "TTLLLLvS"},
    {"channel_sum", "T"},
    {"max_pool", "TLLLLvv"},
    {"max_pool_with_codes", "TLLLLvv"},
    {"max_pool_with_indices", "TLLLLvv"},
    {"pool_scatter", "TTLLLLLv"},
    {"pool_gather", "TTLLLLv"},
    {"adaptive_max_pool", "TLv"},
    {"adaptive_max_pool_with_codes", "TLv"},
    {"adaptive_max_pool_with_indices", "TLv"},
    {"fractional_max_pool", "TTLLv"},
    {"max_unpool", "TTLv"},
    {"avg_pool", "TLLLvvIv"},
    {"avg_pool_input_grad", "TLLLLvvIv"},
    {"adaptive_avg_pool", "TLv"},
    {"adaptive_avg_pool_input_grad", "TLv"},
    {"lp_pool", "TvLLvv"},
    {"lp_pool_input_grad", "TTTvLLvv"},
    {"unfold", "TLLLL"},
    {"fold", "TLLLLL"},
#endif
    {"conv_prepared", "TTOOv"}, // eager calls on the CPU only
    {"conv_pack", "Tv"},
    {"bound", "TOOv"},
    {"bound_pair", "TOv"},
};
constexpr std::size_t kOpCount = sizeof(kOps) / sizeof(kOps[0]);

// A boxed kernel owns its arguments, also when it refuses to run.
void release(const char* arguments, StableIValue* stack, uint64_t count) {
  if (std::strlen(arguments) != count) {
    return; // not the schema this row was written for: rather leak than crash
  }
  using torch::stable::Tensor;
  using torch::stable::detail::to;
  for (uint64_t i = 0; i < count; ++i) {
    switch (arguments[i]) {
      case 'T':
        to<Tensor>(stack[i]);
        break;
      case 'O':
        to<std::optional<Tensor>>(stack[i]);
        break;
      case 'L':
        to<std::vector<int64_t>>(stack[i]);
        break;
      case 'I':
        to<std::optional<int64_t>>(stack[i]);
        break;
      case 'S':
        to<std::string>(stack[i]);
        break;
      default:
        break;
    }
  }
}

template <std::size_t I>
void refuse(StableIValue* stack, uint64_t inputs, uint64_t) {
  release(kOps[I].arguments, stack, inputs);
  const std::string op = std::string("torchconv::") + kOps[I].name;
#if TORCHCONV_WITH_CUDA
  throw std::runtime_error(
      op + " has no CUDA kernel in this build; move its tensors to the CPU");
#else
  throw std::runtime_error(
      "torchconv was built without CUDA, so " + op +
      " takes CPU tensors only (TORCHCONV_CUDA=1 at build time says what is "
      "missing)");
#endif
}

template <std::size_t... I>
void refuse_all(
    torch::stable::detail::StableLibrary& library,
    std::index_sequence<I...>) {
  (library.impl(kOps[I].name, &refuse<I>), ...);
}

} // namespace
} // namespace torchconv

STABLE_TORCH_LIBRARY_IMPL(torchconv, CUDA, m) {
  torchconv::refuse_all(m, std::make_index_sequence<torchconv::kOpCount>());
}
