// What the algorithms that work by strips share: see conv_depthwise_strip.h.
#pragma once

#include "core/conv_algorithm.h"
#include "cpu/conv_depthwise_strip.h"
#include "cpu/epilogue.h"

namespace torchconv {
namespace cpu {

// About so many multiply-adds are worth handing to another thread.
constexpr int64_t kGrainWork = 100000;

StripShape active_strip_shape(const ConvProblem& p, Pass pass);

// The answers of a row of the table.
int64_t strip_workspace(const ConvProblem& p, Pass pass, int threads);
double strip_cost(const ConvProblem& p, Pass pass);
void strip_run(
    const ConvProblem& p,
    Pass pass,
    const ConvTensors& t,
    void* workspace);

// Problems whose shape says in_place: conv_depthwise_rows.cpp,
// conv_depthwise_pixels.cpp.
void run_depthwise_rows(const StripShape& s, const ConvTensors& t);
void run_depthwise_pixels(
    const StripShape& s,
    const ConvTensors& t,
    void* workspace);

} // namespace cpu
} // namespace torchconv
