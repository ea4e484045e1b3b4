// Depthwise and small-group convolution by strips: every pass, stride,
// dilation and padding becomes one loop without borders.
//
// A strip is the part of the source (x, or gy for input_grad) that a block of
// output positions reads, copied into a small buffer that stays in cache:
// padding filled in, the type widened to the one computed in, and each stride
// residue of the positions (a "slot") in a plane of its own. There an output
// position j reads the element at j + offset[tap], for every tap and every
// stride alike, so that neighbouring positions are neighbouring elements.
//
// The lanes of a vector are either positions along the last dimension (a
// weight is broadcast), or, in channels_last tensors, channels (a weight is a
// vector of one per channel, and "element" reads "vector" in what follows).
//
// Vectors of channels make no waste at the ends of rows. So planes that are
// small, or that are gone over often, are turned into that order first, whole
// (staged), and the results back.
//
// input_grad reads gy with stride 1, and has one list of taps for each
// residue of the position in gx (a "phase"). Its padded positions are folded
// back where the padding mode shows input elements there.
#pragma once

#include <cstdint>
#include <vector>

#include "core/conv_problem.h"

namespace torchconv {
namespace cpu {

inline int64_t floor_div(int64_t a, int64_t b) {
  return a >= 0 ? a / b : -((b - 1 - a) / b);
}
inline int64_t ceil_div(int64_t a, int64_t b) {
  return -floor_div(-a, b);
}
inline int64_t round_up(int64_t a, int64_t b) {
  return ceil_div(a, b) * b;
}

// The planes of one tensor: strides in elements.
struct Planes {
  int64_t size[3];
  Strides stride;
};

// Whether every phase of input_grad of a stride is a kernel of up to 3 rows of its
// own, as large as those of the others, within the plane.
bool strided_phases(const ConvProblem& p);

// The strides of planes one after the other, their elements `step` apart.
void make_dense(Planes& planes, int64_t step);

inline int64_t pixels(const Planes& p) {
  return p.size[0] * p.size[1] * p.size[2];
}

// Whether there are no strips: rows are read where they lie, positions in the
// lanes, or pixels, channels in the lanes.
enum class InPlace { no, rows, pixels };

// The most taps of a row of a kernel in rows that are read in place; lines have
// more (conv_depthwise_line.h).
constexpr int64_t kShortTaps = 7;

struct StripShape {
  ConvProblem p; // simplified
  Pass pass;
  InPlace in_place;
  bool channel_lanes; // else the lanes are positions
  bool flat; // the rows of a block are computed as one, gaps included
  bool folds; // input_grad through a padded plane
  bool staged_source, staged_dest;
  int lanes; // of the type computed in

  Planes source, dest; // dest is gy for weight_grad
  PaddingMode mode; // what the source shows outside itself
  int64_t source_group, dest_group; // channels of a group, on either side
  int64_t unit_groups; // groups computed from one strip
  int64_t units; // ceil(groups / unit_groups)

  // Positions first .. first + count - 1 of each dimension, in blocks.
  int64_t first[3], count[3], block[3], blocks[3];
  int64_t scale[3]; // of source coordinates: stride or 1
  int64_t dest_scale[3]; // of dest coordinates: 1 or stride
  int64_t slots[3], phases[3], reach[3];
  int64_t extent[3]; // elements of a slot's plane: block + reach

  // Whether the rows of a tile share the input rows they read: the taps of a
  // column of the kernel then follow each other.
  bool runs() const;
  int64_t plane() const { // elements of one channel in the strip
    return slots[0] * slots[1] * slots[2] * extent[0] * extent[1] * extent[2];
  }
  // Element counts, of scalars of the type computed in.
  int64_t unit() const { // what one "element" holds
    return channel_lanes ? lanes : 1;
  }
  int64_t out_row() const; // pitch of a row of results
  int64_t out_rows() const; // rows from one z to the next
  int64_t out_size() const; // results of one channel in a block
  bool whole() const { // the blocks of a plane are one piece of work
    return folds || staged_source || staged_dest;
  }

  // The source coordinate of element e of a slot.
  int64_t source_at(int d, int64_t slot, int64_t e) const {
    return e * scale[d] +
        (pass == Pass::input_grad
             ? -reach[d]
             : slot * p.dilation[d] % p.stride[d] - p.low[d]);
  }
  // The dest coordinate of position 0 of a phase.
  int64_t dest_at(int d, int64_t phase) const {
    return pass == Pass::input_grad ? phase - (folds ? 0 : p.low[d]) : 0;
  }
};

// Where a thread's scratch memory holds what, in scalars of the type computed
// in; all of them multiples of 64 bytes.
struct StripScratch {
  int64_t strip;
  int64_t weight; // packed, or the sums of weight_grad
  int64_t bias;
  int64_t out; // results before they are converted or spread, or gy
  int64_t row; // one row of results in dest
  int64_t mask; // which lanes of gy count
  int64_t padded; // the plane that is folded
  int64_t staged_source, staged_dest;
  int64_t bytes; // of all of it
};

StripScratch strip_scratch(const StripShape& s);
// And that of pixels in place: packed weights and biases, for all threads, and
// for each of them the planes of one unit, where they are staged.
int64_t pixels_bytes(const StripShape& s);
int64_t staged_bytes(const StripShape& s);

// lanes: of a vector of what the problem computes in.
StripShape strip_shape(const ConvProblem& p, Pass pass, int lanes);

// The taps of every phase: where in the strip, and where in the weight.
struct StripTaps {
  struct Phase {
    int64_t first, count;
  };
  std::vector<Phase> phases;
  std::vector<int64_t> offset; // scalars from a position
  std::vector<int64_t> weight; // elements from the weight of a dest channel
  // Above 1, taps come in runs of this length whose offsets rise by a row.
  int64_t run = 1;
  bool dense = true; // weight is 0, 1, 2, ...
};

StripTaps strip_taps(const StripShape& s);

} // namespace cpu
} // namespace torchconv
