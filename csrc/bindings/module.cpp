// The Python module torchconv._C: what is not a tensor. Tensors go through the
// dispatcher only; this is the one file that includes pybind11.
#include <build_info.h> // written by setup.py

#include "bindings/bound.h"
#include "bindings/conv.h"
#include "bindings/conv_prepared.h"
#include "core/parallel.h"
#include "core/planner.h"
#include "core/tuner.h"
#include "cpu/isa.h"
#include "cpu/roofline.h"

// torch's copy of pybind11 refuses to be read for the stable ABI, of which it is no
// part; torch's own headers above have been.
#undef TORCH_TARGET_VERSION
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace py = pybind11;

namespace torchconv {
namespace {

constexpr cpu::Isa kIsas[] = {
    cpu::Isa::baseline,
    cpu::Isa::avx2,
    cpu::Isa::avx512};

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
  for (const cpu::Isa isa : kIsas) {
    if (cpu::isa_supported(isa)) {
      names.push_back(cpu::isa_name(isa));
    }
  }
  return names;
}

void set_isa(const std::string& name) {
  cpu::Isa isa;
  if (!cpu::parse_isa(name.c_str(), &isa)) {
    throw py::value_error(
        "no such instruction set: " + name +
        " (baseline, avx2 and avx512 exist)");
  }
  if (!cpu::set_isa(isa)) {
    throw py::value_error(
        "this CPU or this build lacks instruction set " + name);
  }
}

// The features that kernels could use, as the compiler's runtime names them.
std::vector<std::string> cpu_features() {
  std::vector<std::string> names;
#if defined(__x86_64__)
  __builtin_cpu_init();
#define TC_FEATURE(name)              \
  if (__builtin_cpu_supports(name)) { \
    names.push_back(name);            \
  }
  TC_FEATURE("sse4.2")
  TC_FEATURE("avx")
  TC_FEATURE("f16c")
  TC_FEATURE("fma")
  TC_FEATURE("avx2")
  TC_FEATURE("avx512f")
  TC_FEATURE("avx512bw")
  TC_FEATURE("avx512dq")
  TC_FEATURE("avx512vl")
  TC_FEATURE("avx512vnni")
  TC_FEATURE("avx512bf16")
#undef TC_FEATURE
#endif
  return names;
}

// How this binary was built, for torchconv.info.
py::dict build_info() {
  py::dict info;
  info["torch"] = TORCHCONV_BUILD_TORCH;
  info["stable_abi"] = TORCHCONV_TORCH_TARGET;
#if defined(__clang__)
  info["compiler"] = "clang " __clang_version__;
#else
  info["compiler"] = "gcc " __VERSION__;
#endif
  info["flags"] = TORCHCONV_CXX_FLAGS;
  info["cuda"] = static_cast<bool>(TORCHCONV_WITH_CUDA);
  info["nvcc"] = TORCHCONV_NVCC_VERSION;
  info["nvcc_flags"] = TORCHCONV_NVCC_FLAGS;
  info["cuda_archs"] = TORCHCONV_CUDA_ARCHS;
  return info;
}

// The table of a device ("cpu" or "cuda").
const std::vector<const ConvAlgorithm*>& conv_table(const std::string& device) {
  if (device == "cpu") {
    return cpu_conv_algorithms();
  }
#if TORCHCONV_WITH_CUDA
  if (device == "cuda") {
    return cuda_conv_algorithms();
  }
#endif
  throw py::value_error(
      "this build has no convolution algorithms for device " + device);
}

std::vector<std::string> conv_algorithms(const std::string& device) {
  std::vector<std::string> names;
  for (const ConvAlgorithm* a : conv_table(device)) {
    names.push_back(a->name);
  }
  return names;
}

DType parse_dtype(const std::string& name) {
  for (const DType t :
       {DType::f32, DType::f64, DType::f16, DType::bf16, DType::i64}) {
    if (name == dtype_name(t)) {
      return t;
    }
  }
  throw py::value_error("no convolution kernel for dtype " + name);
}

void set_tuning_of(
    const std::string& mode,
    int64_t max_workspace,
    bool include_torch) {
  static const char* const kModes[] = {"off", "use", "measure"};
  for (int i = 0; i < 3; ++i) {
    if (mode == kModes[i]) {
      set_tuning({static_cast<Tuning>(i), max_workspace, include_torch});
      return;
    }
  }
  throw py::value_error("no such mode of tuning: " + mode);
}

// The callback outlives the interpreter's end, as threads that compute may.
void tell_python(const py::function& told) {
  auto* kept = new py::function(told);
  on_tuned([kept](const std::string& key, const Timings& timings) {
    const py::gil_scoped_acquire gil;
    try {
      (*kept)(key, timings);
    } catch (py::error_already_set& error) {
      error.discard_as_unraisable("torchconv.autotune");
    }
  });
}

ScalarType scalar_type(DType t) {
  switch (t) {
    case DType::f64:
      return ScalarType::Double;
    case DType::f16:
      return ScalarType::Half;
    case DType::bf16:
      return ScalarType::BFloat16;
    case DType::i64:
      return ScalarType::Long;
    default: // parse_dtype knows no other
      return ScalarType::Float;
  }
}

// The arguments of conv_forward, conv_input_grad, either with its epilogue, or
// conv_weight_grad, the tensors described; result_size is empty for forward.
std::unique_ptr<PreparedConv> prepare_conv(
    const std::string& pass_name,
    const std::string& dtype,
    const Ints& first_size,
    const Ints& first_strides,
    const Ints& second_size,
    const Ints& second_strides,
    const Ints& result_size,
    const Ints& stride,
    const Ints& padding,
    const Ints& dilation,
    int64_t groups,
    const std::string& padding_mode,
    bool channels_last,
    const std::string& algorithm,
    const std::string& activation,
    double a,
    double b) {
  PreparedCall call;
  if (!parse_pass(pass_name.c_str(), &call.pass)) {
    throw py::value_error("no such pass: " + pass_name);
  }
  const Ints& x_size = call.pass == Pass::forward ? first_size
      : call.pass == Pass::input_grad             ? result_size
                                                  : second_size;
  const Ints& w_size =
      call.pass == Pass::weight_grad ? result_size : second_size;
  call.p = conv_problem(
      x_size,
      w_size,
      stride,
      padding,
      dilation,
      groups,
      padding_mode,
      parse_dtype(dtype),
      "prepare_conv");
  (call.pass == Pass::forward ? call.p.x : call.p.y) =
      strides_of(first_strides);
  (call.pass == Pass::weight_grad ? call.p.x : call.p.w) =
      strides_of(second_strides);
  call.first = first_size;
  call.second = second_size;
  call.result = result_size;
  call.dtype = scalar_type(call.p.dtype);
  call.channels_last = channels_last;
  call.algorithm = algorithm;
  call.epilogue.activation = activation_of(activation, "prepare_conv");
  call.epilogue.a = a;
  call.epilogue.b = b;
  complete(&call);
  return std::make_unique<PreparedConv>(std::move(call));
}

std::unique_ptr<BoundOp> bind_op(
    const std::string& name,
    const BoundArgs& args) {
  return std::make_unique<BoundOp>(bind(name, args));
}

// The planner's walk over a device's table for one pass, as plain values.
py::dict explain_conv(
    const std::string& device,
    const std::string& pass_name,
    const std::string& dtype,
    const Ints& x_size,
    const Ints& x_strides,
    const Ints& w_size,
    const Ints& w_strides,
    const Ints& y_size,
    const Ints& y_strides,
    const Ints& stride,
    const Ints& padding,
    const Ints& dilation,
    int64_t groups,
    const std::string& padding_mode,
    const std::string& algorithm,
    int threads) {
  Pass pass;
  if (!parse_pass(pass_name.c_str(), &pass)) {
    throw py::value_error("no such pass: " + pass_name);
  }
  ConvProblem p = conv_problem(
      x_size,
      w_size,
      stride,
      padding,
      dilation,
      groups,
      padding_mode,
      parse_dtype(dtype),
      "explain_conv");
  if (y_size.size() != x_size.size()) {
    throw py::value_error("x and y differ in rank");
  }
  p.x = strides_of(x_strides);
  p.w = strides_of(w_strides);
  p.y = strides_of(y_strides);
  const std::string name = take_tf32(algorithm, &p);
  const Plan plan = plan_conv(conv_table(device), p, pass, name, threads);
  py::list candidates;
  for (size_t i = 0; i < plan.candidates.size(); ++i) {
    const Candidate& c = plan.candidates[i];
    py::dict d;
    d["name"] = c.algorithm->name;
    d["supported"] = c.refusal == nullptr;
    d["reason"] = c.refusal == nullptr ? "" : c.refusal;
    d["cost"] = c.cost;
    d["workspace"] = c.workspace;
    d["chosen"] = static_cast<int>(i) == plan.chosen;
    candidates.append(d);
  }
  py::dict result;
  result["candidates"] = candidates;
  result["flops"] = conv_flops(p);
  result["bytes"] = conv_bytes(p);
  result["error"] = plan.error;
  const bool exact = name == kAutoExact;
  if (device == "cpu" && (exact || name == kAuto) &&
      tuning_mode() != Tuning::off) {
    const TuningPlace at = {cpu::isa_name(cpu::active_isa()), threads, exact};
    const auto known = tuned();
    const auto found = known.find(tuning_key(p, pass, at));
    if (found != known.end()) {
      result["measured"] = found->second;
      const TunedChoice choice =
          tuned_choice(cpu_conv_algorithms(), p, pass, at, nullptr);
      result["tuned"] = choice.torch    ? kTorch
          : choice.algorithm != nullptr ? choice.algorithm->name
                                        : "";
    }
  }
  return result;
}

} // namespace
} // namespace torchconv

PYBIND11_MODULE(_C, m) {
  namespace tc = torchconv;
  m.doc() = "The compiled part of torchconv";
  m.def(
      "active_isa",
      [] { return std::string(tc::cpu::isa_name(tc::cpu::active_isa())); },
      "Name of the instruction set that the CPU kernels use now");
  m.def(
      "supported_isas",
      &tc::supported_isas,
      "Names of the instruction sets that this CPU and this build have, "
      "the best one last");
  m.def(
      "set_isa",
      &tc::set_isa,
      py::arg("name"),
      "Makes the CPU kernels use an instruction set; ValueError if the CPU "
      "or the build lacks it");
  m.def(
      "cpu_features",
      &tc::cpu_features,
      "Names of the instruction set extensions that this CPU has");
  m.def(
      "build_info",
      &tc::build_info,
      "How the binary was built: a dict; empty strings for the CUDA entries "
      "of a build without CUDA");
  m.def(
      "set_tuning",
      &tc::set_tuning_of,
      py::arg("mode"),
      py::arg("max_workspace"),
      py::arg("include_torch"),
      "Switches choices by measurement for all threads: off, use (what is "
      "known) or measure; max_workspace in bytes, negative for no limit");
  m.def(
      "tuned",
      &tc::tuned,
      "What was measured or added: {problem: {candidate: seconds}}");
  m.def(
      "add_tuned",
      &tc::add_tuned,
      py::arg("key"),
      py::arg("timings"),
      "Adds what was measured before, by another process perhaps");
  m.def("forget_tuned", &tc::forget_tuned, "Forgets all of it");
  m.def(
      "on_tuned",
      &tc::tell_python,
      py::arg("told"),
      "Calls told(problem, {candidate: seconds}) after each measurement");
  m.def(
      "fma_peak",
      [](const std::string& dtype, double seconds) {
        return tc::cpu::fma_peak(tc::parse_dtype(dtype), seconds);
      },
      py::arg("dtype"),
      py::arg("seconds"),
      py::call_guard<py::gil_scoped_release>(),
      "Multiplications and additions per second of multiply-adds in registers, "
      "on all threads; it takes about so many seconds");
  m.def(
      "copy_peak",
      &tc::cpu::copy_peak,
      py::arg("bytes"),
      py::arg("seconds"),
      py::call_guard<py::gil_scoped_release>(),
      "Bytes per second, read plus written, of copies that read half of so "
      "many bytes and write the other half, on all threads");
  m.def(
      "conv_algorithms",
      &tc::conv_algorithms,
      py::arg("device") = "cpu",
      "Names of a device's (cpu, cuda) convolution algorithms, in the order of "
      "its table; ValueError if the build has none for it");
  py::class_<tc::PreparedConv>(
      m,
      "PreparedConv",
      "A convolution prepared for the operator conv_prepared, which takes its "
      "id for as long as this object lives")
      .def_property_readonly("id", &tc::PreparedConv::id);
  m.def(
      "prepare_conv",
      &tc::prepare_conv,
      py::arg("pass_name"),
      py::arg("dtype"),
      py::arg("first_size"),
      py::arg("first_strides"),
      py::arg("second_size"),
      py::arg("second_strides"),
      py::arg("result_size"),
      py::arg("stride"),
      py::arg("padding"),
      py::arg("dilation"),
      py::arg("groups"),
      py::arg("padding_mode"),
      py::arg("channels_last"),
      py::arg("algorithm"),
      py::arg("activation") = "none",
      py::arg("a") = 0.0,
      py::arg("b") = 0.0,
      "A PreparedConv for one pass on the CPU, from the arguments of its "
      "operator with the tensors described; result_size is empty for forward. "
      "RuntimeError where no algorithm takes the problem");
  py::class_<tc::BoundOp>(
      m,
      "BoundOp",
      "An operator with the arguments that follow its tensors, for the "
      "operators bound and bound_pair, which take its id for as long as this "
      "object lives")
      .def_property_readonly("id", &tc::BoundOp::id);
  m.def(
      "bind_op",
      &tc::bind_op,
      py::arg("name"),
      py::arg("args"),
      "A BoundOp of the CPU's operator of that name; RuntimeError where it is "
      "not one to bind or the arguments are not its own");
  m.def(
      "explain_conv",
      &tc::explain_conv,
      py::arg("device"),
      py::arg("pass_name"),
      py::arg("dtype"),
      py::arg("x_size"),
      py::arg("x_strides"),
      py::arg("w_size"),
      py::arg("w_strides"),
      py::arg("y_size"),
      py::arg("y_strides"),
      py::arg("stride"),
      py::arg("padding"),
      py::arg("dilation"),
      py::arg("groups"),
      py::arg("padding_mode"),
      py::arg("algorithm"),
      py::arg("threads"),
      "What the planner makes of one pass of a convolution: a dict of "
      "candidates (name, supported, reason, cost in estimated nanoseconds on "
      "one core or on the GPU, workspace in bytes, chosen), flops, bytes and "
      "error");
}
