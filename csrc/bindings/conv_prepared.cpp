#include "bindings/conv_prepared.h"

#include <cstring>
#include <memory>
#include <utility>

namespace torchconv {
namespace {

std::shared_ptr<const PreparedCall> find(int64_t id) {
  std::shared_ptr<const PreparedCall> found = PreparedConv::find(id);
  STD_TORCH_CHECK(
      found != nullptr,
      "torchconv::conv_prepared: no convolution is prepared under number ",
      id);
  return found;
}

// Where a pass has the strides of its tensors.
Strides* first_strides(ConvProblem* p, Pass pass) {
  return pass == Pass::forward ? &p->x : &p->y;
}
Strides* second_strides(ConvProblem* p, Pass pass) {
  return pass == Pass::weight_grad ? &p->x : &p->w;
}

Strides* result_strides(ConvProblem* p, Pass pass) {
  return pass == Pass::forward   ? &p->y
      : pass == Pass::input_grad ? &p->x
                                 : &p->w;
}

void check(
    const Tensor& t,
    const Ints& size,
    ScalarType dtype,
    const char* name) {
  const auto sizes = t.sizes();
  bool ok = sizes.size() == size.size();
  for (size_t d = 0; ok && d < size.size(); ++d) {
    ok = sizes[d] == size[d];
  }
  STD_TORCH_CHECK(
      ok && t.scalar_type() == dtype,
      "torchconv::conv_prepared: the ",
      name,
      " tensor is not of the size and dtype it was prepared for");
}

// Takes the strides of t; whether they are those already there.
bool take_strides(const Tensor& t, Strides* s) {
  const Strides before = *s;
  set_strides(t, s);
  return std::memcmp(&before, s, sizeof(Strides)) == 0;
}

Tensor conv_prepared(
    const Tensor& first,
    const Tensor& second,
    const std::optional<Tensor>& bias,
    const std::optional<Tensor>& residual,
    int64_t id) {
  const std::shared_ptr<const PreparedCall> c = find(id);
  ConvProblem p = c->p;
  check(first, c->first, c->dtype, "first");
  check(second, c->second, c->dtype, "second");
  const auto b = dense_bias(
      bias,
      c->pass == Pass::forward ? p.out_channels : p.in_channels,
      first,
      "conv_prepared");
  const bool same_first = take_strides(first, first_strides(&p, c->pass));
  const bool same_second = take_strides(second, second_strides(&p, c->pass));
  const Tensor result = allocate(c->result, c->dtype, c->channels_last);
  void* in[] = {
      const_cast<void*>(first.const_data_ptr()),
      const_cast<void*>(second.const_data_ptr())};
  void* out = result.mutable_data_ptr();
  const void* added = b.has_value() ? b->const_data_ptr() : nullptr;
  ConvTensors t = c->pass == Pass::forward
      ? ConvTensors{in[0], in[1], out, added}
      : c->pass == Pass::input_grad ? ConvTensors{out, in[1], in[0], added}
                                    : ConvTensors{in[1], out, in[0], nullptr};
  std::optional<Tensor> held;
  if (residual.has_value() || c->epilogue.any()) {
    const Epilogue& e = c->epilogue;
    held = take_epilogue(
        {residual, e.activation, e.a, e.b},
        result,
        c->channels_last,
        "conv_prepared",
        &t.epilogue);
  }
  return run_on_cpu(
      {p, c->pass, t, c->algorithm, first, second, b, result},
      same_first && same_second ? &c->choice : nullptr,
      c->packed.has_value() && c->packed_from == in[1]
          ? c->packed->const_data_ptr()
          : nullptr);
}

// Packs the weight of the prepared call `id`, which is then the only weight
// that its tensors bring; returns the bytes kept, 0 where the algorithm reads
// weights as they are.
int64_t conv_pack(const Tensor& weight, int64_t id) {
  PreparedCall c = *find(id);
  check(weight, c.second, c.dtype, "weight");
  const ConvPacking* packing = c.choice.algorithm->packing;
  if (c.pass == Pass::weight_grad || packing == nullptr || !c.choice.holds() ||
      !take_strides(weight, second_strides(&c.p, c.pass))) {
    return 0;
  }
  const int64_t bytes = packing->bytes(c.p, c.pass);
  if (bytes == 0) {
    return 0;
  }
  c.packed = allocate_workspace(bytes);
  c.packed_from = weight.const_data_ptr();
  packing->pack(c.p, c.pass, c.packed_from, c.packed->mutable_data_ptr());
  PreparedConv::replace(id, std::move(c));
  return bytes;
}

} // namespace

Strides strides_of(const Ints& v) {
  Strides s = {v.at(0), v.at(1), {0, 0, 0}};
  const int nd = static_cast<int>(v.size()) - 2;
  for (int d = 0; d < nd; ++d) {
    s.s[3 - nd + d] = v[d + 2];
  }
  return s;
}

void complete(PreparedCall* call) {
  Ints y = {call->p.batch, call->p.out_channels};
  for (size_t d = 5 - call->first.size(); d < 3; ++d) {
    y.push_back(call->p.out[d]);
  }
  if (call->pass == Pass::forward) {
    call->result = y;
  } else {
    STD_TORCH_CHECK(
        call->first == y,
        "torchconv::conv_prepared: grad does not have the size that the "
        "convolution gives");
  }
  // Its memory is never touched.
  set_strides(
      allocate(call->result, call->dtype, call->channels_last),
      result_strides(&call->p, call->pass));
  call->choice = choose_on_cpu(call->p, call->pass, call->algorithm);
}

} // namespace torchconv

STABLE_TORCH_LIBRARY_FRAGMENT(torchconv, m) {
  m.def(
      "conv_prepared(Tensor first, Tensor second, Tensor? bias, "
      "Tensor? residual, int id) -> Tensor");
  m.def("conv_pack(Tensor weight, int id) -> int");
}

STABLE_TORCH_LIBRARY_IMPL(torchconv, CPU, m) {
  m.impl("conv_prepared", TORCH_BOX(&torchconv::conv_prepared));
  m.impl("conv_pack", TORCH_BOX(&torchconv::conv_pack));
}
