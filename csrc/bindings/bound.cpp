#include "bindings/bound.h"

#include <memory>

namespace torchconv {
namespace {

const std::vector<Bindable>& bindable_ops() {
  static const auto* all = [] {
    auto* ops = new std::vector<Bindable>;
    for (const auto& some :
         {bindable_max_pool(),
          bindable_avg_pool(),
          bindable_pool_index(),
          bindable_fold()}) {
      ops->insert(ops->end(), some.begin(), some.end());
    }
    return ops;
  }();
  return *all;
}

// The call kept under a number and the tensors for it.
struct Call {
  std::shared_ptr<const BoundCall> bound;
  const Tensor* in[3];

  Call(
      int64_t id,
      const Tensor& first,
      const std::optional<Tensor>& second,
      const std::optional<Tensor>& third)
      : bound(BoundOp::find(id)),
        in{&first, nullptr, nullptr} {
    STD_TORCH_CHECK(
        bound != nullptr,
        "torchconv::bound: nothing is kept under number ",
        id);
    size_t given = 1;
    for (const auto* t : {&second, &third}) {
      if (t->has_value()) {
        in[given++] = &**t;
      }
    }
    STD_TORCH_CHECK(
        given == bound->tensors,
        "torchconv::bound: the operator takes ",
        bound->tensors,
        " tensors, got ",
        given);
  }
};

Tensor bound(
    const Tensor& first,
    const std::optional<Tensor>& second,
    const std::optional<Tensor>& third,
    int64_t id) {
  const Call call(id, first, second, third);
  STD_TORCH_CHECK(
      call.bound->one != nullptr, "torchconv::bound: the operator has a pair");
  return call.bound->one(call.in);
}

TensorPair bound_pair(
    const Tensor& first,
    const std::optional<Tensor>& second,
    int64_t id) {
  const Call call(id, first, second, std::nullopt);
  STD_TORCH_CHECK(
      call.bound->two != nullptr,
      "torchconv::bound_pair: the operator has one result");
  return call.bound->two(call.in);
}

} // namespace

BoundCall bind(const std::string& name, const BoundArgs& args) {
  for (const Bindable& op : bindable_ops()) {
    if (op.name == name) {
      return op.bind(name, args);
    }
  }
  STD_TORCH_CHECK(false, "torchconv: no operator to bind is called ", name);
}

} // namespace torchconv

STABLE_TORCH_LIBRARY_FRAGMENT(torchconv, m) {
  m.def("bound(Tensor first, Tensor? second, Tensor? third, int id) -> Tensor");
  m.def("bound_pair(Tensor first, Tensor? second, int id) -> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(torchconv, CPU, m) {
  m.impl("bound", TORCH_BOX(&torchconv::bound));
  m.impl("bound_pair", TORCH_BOX(&torchconv::bound_pair));
}
