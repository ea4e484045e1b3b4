// What the algorithms that work by strips share: see conv_depthwise_strip.h.
#pragma once

#include <algorithm>
#include <vector>

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

// Every `step`-th position of a dimension of results, from `first` on, as a
// correlation of its own with every `source_step`-th position of the source, from
// `source` on, padded with `low` in front, and with the taps tap + j tap_step.
struct Lattice {
  int64_t first, step, size;
  int64_t source, source_step, source_size;
  int64_t low, tap, tap_step;
};

// Taps that are `dilation` apart only join positions that are: `dilation`
// lattices of kernels that are not dilated. Stride 1; the first is the longest.
inline std::vector<Lattice> dilated_lattices(
    int64_t size,
    int64_t source_size,
    int64_t low,
    int64_t dilation) {
  std::vector<Lattice> r;
  for (int64_t i = 0; i < std::min(dilation, std::max<int64_t>(1, size)); ++i) {
    const int64_t shift = floor_div(i - low, dilation);
    const int64_t source = i - low - shift * dilation;
    r.push_back(
        {i,
         dilation,
         ceil_div(size - i, dilation),
         source,
         dilation,
         std::max<int64_t>(0, ceil_div(source_size - source, dilation)),
         -shift,
         0,
         1});
  }
  return r;
}

// input_grad of a stride that divides the kernel: a lattice of every phase of the
// results, all over all of gy, whose kernels (turned around) share no tap.
inline std::vector<Lattice> strided_lattices(
    int64_t size,
    int64_t source_size,
    int64_t low,
    int64_t stride,
    int64_t kernel) {
  std::vector<Lattice> r;
  for (int64_t i = 0; i < std::min(stride, std::max<int64_t>(1, size)); ++i) {
    const int64_t tap = (i + low) % stride;
    r.push_back(
        {i,
         stride,
         ceil_div(size - i, stride),
         0,
         1,
         source_size,
         kernel / stride - 1 - (i + low - tap) / stride,
         tap,
         stride});
  }
  return r;
}

// Problems whose shape says in_place: conv_depthwise_rows.cpp,
// conv_depthwise_pixels.cpp.
void run_depthwise_rows(const StripShape& s, const ConvTensors& t);
void run_depthwise_pixels(
    const StripShape& s,
    const ConvTensors& t,
    void* workspace);

} // namespace cpu
} // namespace torchconv
