// Operators whose arguments after the tensors were read before: a call of
// `bound` or `bound_pair` brings the tensors and a number.
//
// Of a small pooling's time most goes into carrying lists through the
// dispatcher; eager code therefore keeps the operator with its arguments.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "bindings/kept.h"
#include "bindings/tensor.h"

namespace torchconv {

// An argument that is no tensor: None, a flag, a number, a list.
using BoundArg = std::variant<std::monostate, bool, int64_t, double, Ints>;
using BoundArgs = std::vector<BoundArg>;

// An operator of one to three tensors with one or two results. The function of
// its number of results is there, and takes an array of its tensors.
struct BoundCall {
  size_t tensors;
  std::function<Tensor(const Tensor* const*)> one;
  std::function<TensorPair(const Tensor* const*)> two;
};

// An operator and what makes a call of it; raises where the arguments are not
// those of the operator.
struct Bindable {
  std::string name;
  BoundCall (*bind)(const std::string& name, const BoundArgs& args);
};

// Those of the CPU, by the file that has them.
std::vector<Bindable> bindable_max_pool();
std::vector<Bindable> bindable_avg_pool();
std::vector<Bindable> bindable_pool_index();
std::vector<Bindable> bindable_fold();

// Its id is what the operators take.
using BoundOp = Kept<BoundCall>;

BoundCall bind(const std::string& name, const BoundArgs& args);

namespace detail {

template <typename T>
struct ReadArg {
  static T from(const BoundArg& arg) {
    return std::get<T>(arg);
  }
};
template <typename T>
struct ReadArg<std::optional<T>> {
  static std::optional<T> from(const BoundArg& arg) {
    if (std::holds_alternative<std::monostate>(arg)) {
      return std::nullopt;
    }
    return std::get<T>(arg);
  }
};

template <auto Op, typename Signature>
struct Binder;

template <auto Op, typename Result, typename... P>
struct Binder<Op, Result (*)(P...)> {
  static constexpr size_t kTensors =
      (0 + ... + std::is_same_v<P, const Tensor&>);
  static constexpr size_t kArgs = sizeof...(P) - kTensors;
  using All = std::tuple<std::decay_t<P>...>;

  template <size_t... T, size_t... A>
  static auto call(
      const BoundArgs& args,
      std::index_sequence<T...>,
      std::index_sequence<A...>) {
    return [kept = std::make_tuple(
                ReadArg<std::tuple_element_t<kTensors + A, All>>::from(
                    args[A])...)](const Tensor* const* in) -> Result {
      return Op(*in[T]..., std::get<A>(kept)...);
    };
  }

  static BoundCall bind(const std::string& name, const BoundArgs& args) {
    STD_TORCH_CHECK(
        args.size() == kArgs,
        "torchconv::",
        name,
        " takes ",
        kArgs,
        " arguments after its tensors, but was bound to ",
        args.size());
    auto f = call(
        args,
        std::make_index_sequence<kTensors>(),
        std::make_index_sequence<kArgs>());
    BoundCall made{kTensors, nullptr, nullptr};
    if constexpr (std::is_same_v<Result, Tensor>) {
      made.one = std::move(f);
    } else {
      made.two = std::move(f);
    }
    return made;
  }
};

} // namespace detail

// The operator that the function Op computes: its tensors come first.
template <auto Op>
Bindable bindable(const char* name) {
  return {name, &detail::Binder<Op, decltype(Op)>::bind};
}

} // namespace torchconv
