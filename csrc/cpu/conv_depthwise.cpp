// Depthwise convolution: a group is one input channel.
#include "cpu/conv_depthwise.h"

#include <algorithm>
#include <type_traits>
#include <utility>

#include "core/parallel.h"
#include "cpu/conv_cost.h"

#ifndef TC_ISA
#define TC_SELF "cpu/conv_depthwise.cpp"
#include "cpu/foreach_isa.h"

namespace torchconv {
namespace cpu {
namespace {

const char* refusal(const ConvProblem& p, Pass) {
  if (p.in_group() != 1) {
    return "depthwise takes one input channel per group (groups equal to "
           "in_channels)";
  }
  if (p.dtype == DType::i64) {
    return "depthwise computes in floating point; int64 is left to direct";
  }
  return nullptr;
}

} // namespace

StripShape active_strip_shape(const ConvProblem& p, Pass pass) {
  return strip_shape(p, pass, static_cast<int>(vector_lanes(p.dtype)));
}

int64_t strip_workspace(const ConvProblem& p, Pass pass, int threads) {
  const StripShape s = active_strip_shape(p, pass);
  switch (s.in_place) {
    case InPlace::rows:
      return 0;
    case InPlace::pixels:
      return round_up(pixels_bytes(s), 64) + staged_bytes(s) * threads;
    default:
      return strip_scratch(s).bytes * threads;
  }
}

double strip_cost(const ConvProblem& p, Pass pass) {
  const StripShape s = active_strip_shape(p, pass);
  if (s.in_place != InPlace::no) {
    const double used = s.in_place == InPlace::pixels
        ? static_cast<double>(p.groups) / (s.units * s.lanes)
        : static_cast<double>(s.dest.size[2]) /
            round_up(std::max<int64_t>(1, s.dest.size[2]), s.lanes);
    const double results = 1.0 * p.batch * p.out_channels * p.out_pixels();
    // Nanoseconds: multiply-adds, stores, and a fixed price per channel.
    const double sources = 1.0 * p.batch * p.in_channels * p.in_pixels();
    const double turns = s.staged_source ? 1.4 * (sources + results) : 0;
    return conv_flops(p) / 2 / (fma_rate(p.dtype) * std::max(used, 0.1)) +
        (results + turns) / s.lanes + 20.0 * p.groups;
  }
  // The share of the lanes that hold results, and of the multiply-adds that
  // do not wait for a load of their own: those of tiles of several channels or
  // of several rows.
  double used = static_cast<double>(p.groups) / (s.units * s.lanes);
  if (!s.channel_lanes) {
    const int64_t nx = std::max<int64_t>(1, s.block[2]);
    used = s.flat ? 0.8 : static_cast<double>(nx) / round_up(nx, s.lanes);
  }
  const bool shared = pass == Pass::weight_grad ? s.dest_group >= 4
                                                : s.dest_group >= 4 || s.runs();
  const double sources = 1.0 * p.batch * p.in_channels * p.in_pixels();
  const double results = 1.0 * p.batch * p.out_channels * p.out_pixels();
  // Nanoseconds: copies, by vectors, the more where lanes change places; and a
  // fixed price per strip.
  const bool turns = s.staged_source || s.staged_dest ||
      (!s.channel_lanes && s.unit_groups > 1);
  const double copies = (sources + results) * (turns ? 2.4 : 1.6) / s.lanes;
  const double strips =
      200.0 * p.batch * s.units * s.blocks[0] * s.blocks[1] * s.blocks[2];
  // Rows are copied one by one; phases are brought between one another; each
  // weight's lanes are summed.
  const Planes& from = s.source;
  double rest =
      4.0 * p.batch * p.groups * s.source_group * from.size[0] * from.size[1];
  if (pass == Pass::input_grad && p.stride[2] > 1) {
    rest += 0.25 * sources;
  }
  if (pass == Pass::weight_grad && !s.channel_lanes) {
    rest += 1.2 * p.out_channels * p.in_group() * p.taps();
  }
  return conv_flops(p) / 2 / (fma_rate(p.dtype) * used * (shared ? 1 : 0.6)) +
      copies + strips + (p.in_group() == 1 ? 0 : rest);
}

void strip_run(
    const ConvProblem& p,
    Pass pass,
    const ConvTensors& t,
    void* workspace) {
  const StripShape s = active_strip_shape(p, pass);
  if (s.in_place == InPlace::rows) {
    return run_depthwise_rows(s, t);
  }
  if (s.in_place == InPlace::pixels) {
    return run_depthwise_pixels(s, t, workspace);
  }
  switch (p.dtype) {
    case DType::f32:
      return TC_DISPATCH(run_strips<float>)(s, t, workspace);
    case DType::f64:
      return TC_DISPATCH(run_strips<double>)(s, t, workspace);
    case DType::f16:
      return TC_DISPATCH(run_strips<half>)(s, t, workspace);
    default: // bfloat16: no other type is accepted
      return TC_DISPATCH(run_strips<bfloat16>)(s, t, workspace);
  }
}

extern const ConvAlgorithm kConvDepthwise =
    {"depthwise", refusal, strip_workspace, strip_cost, strip_run};

} // namespace cpu
} // namespace torchconv

#else // one instruction set

#include "cpu/simd.h"
#include "cpu/shuffle.h"
#include "cpu/conv_depthwise_stage.h"
#include "cpu/conv_depthwise_pack.h"
#include "cpu/conv_depthwise_tile.h"
#include "cpu/conv_depthwise_pass.h"
#include "cpu/conv_depthwise_grad.h"

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

template <typename S, bool Channels>
void run_lanes(const StripShape& s, const ConvTensors& t, char* workspace) {
  const StripTaps taps = strip_taps(s);
  const int64_t bytes = strip_scratch(s).bytes;
  const auto scratch = [&] {
    return reinterpret_cast<acc_t<S>*>(
        workspace + thread_pool().thread_index() * bytes);
  };
  const double work = conv_flops(s.p) / 2;
  if (s.pass == Pass::weight_grad) {
    const int64_t grain =
        1 + static_cast<int64_t>(kGrainWork * s.units / (work + 1));
    parallel_for(s.units, grain, [&](int64_t begin, int64_t end) {
      WeightGrad<S, Channels> pass(s, taps, t, scratch());
      for (int64_t unit = begin; unit < end; ++unit) {
        pass.run(unit);
      }
    });
    return;
  }
  const int64_t items = Correlation<S, Channels>::items(s);
  const int64_t grain =
      1 + static_cast<int64_t>(kGrainWork * items / (work + 1));
  parallel_for(items, grain, [&](int64_t begin, int64_t end) {
    Correlation<S, Channels>(s, taps, t, scratch()).run(begin, end);
  });
}

} // namespace

template <typename S>
void run_strips(const StripShape& s, const ConvTensors& t, void* workspace) {
  char* base = static_cast<char*>(workspace);
  if (s.channel_lanes) {
    run_lanes<S, true>(s, t, base);
  } else {
    run_lanes<S, false>(s, t, base);
  }
}

template void run_strips<float>(const StripShape&, const ConvTensors&, void*);
template void run_strips<double>(const StripShape&, const ConvTensors&, void*);
template void run_strips<half>(const StripShape&, const ConvTensors&, void*);
template void run_strips<bfloat16>(
    const StripShape&,
    const ConvTensors&,
    void*);

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

#endif
