// How a position-dependent convolution is cut into work: shared by the three
// passes and all instruction sets.
//
// A column is one position of a class in one sample. What it reads of a group's
// channels [c0, c1) is its patch: (c1 - c0) * taps elements in the weight's
// order, so that forward is dot products of patches with rows of the weight, and
// the two gradients are outer products. Patches exist for one block of columns
// at a time.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/conv_local.h"
#include "cpu/scratch.h"

namespace torchconv {
namespace cpu {

// Patches of a block of columns have about this many bytes: they stay in L2
// beside the weights they meet.
constexpr int64_t kLocalBlockBytes = 160 * 1024;
constexpr int64_t kLocalMaxColumns = 64;
constexpr int64_t kLocalRun = 8;
// A slice of channels is at least this many weight elements wide, so that rows
// of the weight are read in whole cache lines.
constexpr int64_t kLocalMinSlice = 64;
// From this many positions in a class on, forward has columns in the lanes
// instead of weights. Samples do not count, so that a sample's result does not
// depend on the others in its batch.
constexpr int64_t kLocalWide = 16;
// Rows of patches are padded to whole vectors of the widest instruction set.
constexpr int64_t kLocalPad = 16;

inline int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

struct LocalPlan {
  int64_t taps, row; // elements of one channel's kernel, of a weight row
  int64_t classes;
  int64_t columns; // of the largest class, over all samples
  bool wide; // columns in the lanes of forward
  int64_t block, blocks; // columns in a block, blocks of the largest class
  // Classes whose blocks are taken in turn: they are neighbours in x and y, and
  // meet the same cache lines.
  int64_t run, runs;
  int64_t slice, slices; // channels of a group in a slice, slices of a group
  int64_t padded; // elements of a patch of one slice, whole vectors
  int64_t scratch; // bytes of one thread
};

// sliced: whether the pass divides a group's channels among tasks (the
// gradients), and among how many it should.
inline LocalPlan local_plan(
    const LocalProblem& p,
    bool sliced,
    int64_t tasks,
    int64_t element,
    int threads) {
  const ConvProblem& c = p.conv;
  LocalPlan plan;
  plan.taps = c.taps();
  plan.row = c.in_group() * plan.taps;
  plan.classes = p.classes();
  plan.columns = c.batch;
  for (int d = 0; d < 3; ++d) {
    plan.columns *= ceil_div(c.out[d], p.tile[d]);
  }
  plan.wide = plan.columns >= kLocalWide * c.batch;
  plan.slice = c.in_group();
  if (sliced) {
    const int64_t least = ceil_div(kLocalMinSlice, plan.taps);
    const int64_t wanted = ceil_div(c.in_group(), std::max<int64_t>(tasks, 1));
    plan.slice = std::min(std::max(wanted, least), c.in_group());
  }
  plan.slices = ceil_div(c.in_group(), plan.slice);
  plan.padded = ceil_div(plan.slice * plan.taps, kLocalPad) * kLocalPad;
  // From the whole row, not the slice: input_grad adds up block by block, and
  // that order must not depend on the number of threads.
  plan.block = std::min(
      std::max<int64_t>(kLocalBlockBytes / (plan.row * element + 1), 6),
      kLocalMaxColumns);
  if (plan.block > kLocalPad) {
    plan.block -= plan.block % kLocalPad;
  }
  plan.block = std::max<int64_t>(std::min(plan.block, plan.columns), 1);
  // An empty batch still has weight gradients, of zeros.
  plan.blocks = std::max<int64_t>(ceil_div(plan.columns, plan.block), 1);
  // A half type's weight gradient is added up beside gw, one class at a time.
  const bool wide = element > dtype_size(c.dtype);
  plan.run = wide || plan.classes < 2 * kLocalRun * threads
      ? std::max<int64_t>(
            wide ? 1 : std::min(kLocalRun, plan.classes / threads), 1)
      : kLocalRun;
  plan.runs = ceil_div(plan.classes, plan.run);
  return plan;
}

inline LocalClass local_class(const LocalProblem& p, int64_t number) {
  return torchconv::local_class(p, number, [](int64_t& index, int64_t size) {
    const int64_t digit = index % size;
    index /= size;
    return digit;
  });
}

// A walk over the columns of a class: position and sample of each.
struct LocalColumn {
  int64_t n, o[3];

  LocalColumn(const LocalProblem& p, const LocalClass& k, int64_t column) {
    for (int d = 2; d >= 0; --d) {
      o[d] = k.residue[d] + column % k.count[d] * p.tile[d];
      column /= k.count[d];
    }
    n = column;
  }
  void next(const LocalProblem& p, const LocalClass& k) {
    for (int d = 2; d >= 0; --d) {
      o[d] += p.tile[d];
      if (o[d] < p.conv.out[d]) {
        return;
      }
      o[d] = k.residue[d];
    }
    ++n;
  }
};

// Where taps read in a channel's plane of x, as offsets. Most positions are
// interior: their taps are those of any other interior position, shifted.
struct LocalTables {
  int64_t* source[3]; // (out, kernel) of a dimension; -1 for a padding zero
  int64_t* relative; // (taps): of an interior position, from its first tap
  int64_t bytes;

  LocalTables(const ConvProblem& c, void* base) {
    Scratch cursor(base);
    for (int d = 0; d < 3; ++d) {
      source[d] = cursor.take<int64_t>(c.out[d] * c.kernel[d]);
    }
    relative = cursor.take<int64_t>(c.taps());
    bytes = cursor.used();
  }

  void fill(const ConvProblem& c) {
    for (int d = 0; d < 3; ++d) {
      int64_t* to = source[d];
      for (int64_t o = 0; o < c.out[d]; ++o) {
        for (int64_t t = 0; t < c.kernel[d]; ++t) {
          const int64_t i = source_index(
              o * c.stride[d] + t * c.dilation[d] - c.low[d], c.in[d], c.mode);
          *to++ = i < 0 ? -1 : i * c.x.s[d];
        }
      }
    }
    int64_t* to = relative;
    for (int64_t a = 0; a < c.kernel[0]; ++a) {
      for (int64_t b = 0; b < c.kernel[1]; ++b) {
        for (int64_t t = 0; t < c.kernel[2]; ++t) {
          *to++ = a * c.dilation[0] * c.x.s[0] + b * c.dilation[1] * c.x.s[1] +
              t * c.dilation[2] * c.x.s[2];
        }
      }
    }
  }
};

// What one position reads: the offsets of its taps, from `base` on.
struct LocalTaps {
  int64_t base;
  const int64_t* off; // -1 for a zero, unless interior
  bool interior;
};

// off: room for the offsets of a position at the border.
inline LocalTaps local_taps(
    const ConvProblem& c,
    const LocalTables& tables,
    const int64_t o[3],
    int64_t* off) {
  const int64_t* at[3];
  bool interior = true;
  for (int d = 0; d < 3; ++d) {
    at[d] = tables.source[d] + o[d] * c.kernel[d];
    const int64_t first = o[d] * c.stride[d] - c.low[d];
    interior = interior && first >= 0 &&
        first + (c.kernel[d] - 1) * c.dilation[d] < c.in[d];
  }
  if (interior) {
    return {at[0][0] + at[1][0] + at[2][0], tables.relative, true};
  }
  int64_t i = 0;
  for (int64_t a = 0; a < c.kernel[0]; ++a) {
    for (int64_t b = 0; b < c.kernel[1]; ++b) {
      const bool inside = at[0][a] >= 0 && at[1][b] >= 0;
      const int64_t row = at[0][a] + at[1][b];
      for (int64_t t = 0; t < c.kernel[2]; ++t) {
        off[i++] = inside && at[2][t] >= 0 ? row + at[2][t] : -1;
      }
    }
  }
  return {0, off, false};
}

// The scratch memory of one thread.
template <typename A>
struct LocalScratch {
  int64_t* off; // of one position
  A* patch; // (block, padded), or (row, kLocalMaxColumns)
  A* grad; // (block, out_group): gy of a block of columns
  A* sums; // (out_group, padded): a weight gradient before it is rounded;
  // (out_group, kLocalMaxColumns): outputs of a block
  int64_t bytes;
};

template <typename A>
LocalScratch<A> local_scratch(
    const LocalProblem& p,
    const LocalPlan& plan,
    void* base) {
  Scratch cursor(base);
  LocalScratch<A> s;
  s.off = cursor.take<int64_t>(plan.taps);
  s.patch = cursor.take<A>(std::max(
      plan.block * plan.padded, kLocalMaxColumns * plan.padded * plan.wide));
  s.grad = cursor.take<A>(plan.block * p.conv.out_group());
  s.sums = cursor.take<A>(
      p.conv.out_group() * std::max(plan.padded, kLocalMaxColumns));
  s.bytes = cursor.used();
  return s;
}

} // namespace cpu
} // namespace torchconv
