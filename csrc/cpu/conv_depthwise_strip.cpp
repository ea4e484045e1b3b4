// Geometry of the strips: sizes, blocks and tap lists.
#include "cpu/conv_depthwise_strip.h"

#include <algorithm>
#include <numeric>

#include "cpu/isa.h"

namespace torchconv {
namespace cpu {
namespace {

constexpr int64_t kFirstLevelBytes = 40 << 10;
constexpr int64_t kSecondLevelBytes = 320 << 10;
constexpr int64_t kStagedBytes = 512 << 10;
constexpr int64_t kStagedPhasesBytes = 1 << 20;

int64_t compute_size(DType t) {
  return std::max<int64_t>(4, dtype_size(t));
}

double product(const int64_t (&v)[3]) {
  return static_cast<double>(v[0]) * v[1] * v[2];
}

// Bytes of a block's strip and results; how many times the source is read.
double block_bytes(const StripShape& s, const int64_t (&block)[3]) {
  int64_t extent[3];
  for (int d = 0; d < 3; ++d) {
    extent[d] = block[d] + s.reach[d];
  }
  const double in = product(extent) * product(s.slots) * s.source_group;
  const double out = product(block) * product(s.phases) * s.dest_group;
  return (in + out) * s.unit_groups * compute_size(s.p.dtype) * s.unit() /
      (s.channel_lanes ? s.unit_groups : 1);
}

double overlap(const StripShape& s, const int64_t (&block)[3]) {
  double r = 1;
  for (int d = 0; d < 3; ++d) {
    r *= static_cast<double>(block[d] + s.reach[d]) / block[d];
  }
  return r;
}

// Halves the dimension that costs least until the block fits, or until
// elements would be read more than `limit` times what they are uncut.
void cut(StripShape& s, double bytes, double limit) {
  const double whole = overlap(s, s.count);
  while (block_bytes(s, s.block) > bytes) {
    int best = -1;
    double best_overlap = 0;
    for (int d = 0; d < 3; ++d) {
      // Rows stay long enough for full vectors while they can.
      const int64_t least = d < 2 ? 1 : s.channel_lanes ? 16 : 256;
      if (s.block[d] <= least) {
        continue;
      }
      int64_t b[3] = {s.block[0], s.block[1], s.block[2]};
      b[d] = (b[d] + 1) / 2;
      const double r = overlap(s, b);
      if (best < 0 || r < best_overlap) {
        best = d;
        best_overlap = r;
      }
    }
    if (best < 0 || best_overlap > limit * whole) {
      return;
    }
    s.block[best] = (s.block[best] + 1) / 2;
  }
}

void choose_blocks(StripShape& s) {
  for (int d = 0; d < 3; ++d) {
    s.block[d] = std::max<int64_t>(1, s.count[d]);
  }
  cut(s, kFirstLevelBytes, 1.3);
  cut(s, kSecondLevelBytes, 1e30);
  for (int d = 0; d < 3; ++d) {
    const int64_t count = std::max<int64_t>(1, s.count[d]);
    s.blocks[d] = ceil_div(count, s.block[d]);
    s.block[d] = ceil_div(count, s.blocks[d]);
    s.extent[d] = s.block[d] + s.reach[d];
  }
}

// Whether the rows of a block are worth computing as one: they fill vectors
// badly by themselves, and what lies between them is short.
bool worth_flat(const StripShape& s) {
  const int64_t rows = s.block[0] * s.block[1];
  if (s.channel_lanes || rows == 1) {
    return false;
  }
  const int64_t flat =
      ((s.block[0] - 1) * s.extent[1] + s.block[1] - 1) * s.extent[2] +
      s.block[2];
  const int64_t vectors = rows * ceil_div(s.block[2], s.lanes);
  // weight_grad gains from one long loop by itself.
  return ceil_div(flat, s.lanes) * 10 <
      vectors * (s.pass == Pass::weight_grad ? 11 : 8);
}

// Whether rows by themselves meet one long row of taps.
bool is_line(const StripShape& s) {
  const ConvProblem& p = s.p;
  bool flat = true;
  for (int d = 0; d < 2; ++d) {
    flat &=
        p.kernel[d] == 1 && p.stride[d] == 1 && p.low[d] == 0 && p.high[d] == 0;
  }
  return flat && p.stride[2] == 1 && p.dilation[2] == 1 &&
      p.out[2] >= 2 * s.lanes && active_isa() == Isa::avx512;
}

// Whether rows can be read, and are worth reading, where they lie: small
// kernels over zero padding, one source channel per result.
bool worth_in_place(const StripShape& s) {
  const ConvProblem& p = s.p;
  const bool masks = s.lanes * compute_size(p.dtype) >= 32; // AVX2 has them
  const int64_t stride = p.stride[2];
  const bool pairs = s.pass == Pass::input_grad && stride == 2 &&
      (p.kernel[1] == 2 || p.kernel[1] == 4);
  const bool fits = p.kernel[1] <= 7 && (p.kernel[1] % 2 == 1 || pairs) &&
      (p.kernel[2] <= kShortTaps || is_line(s)) &&
      (p.stride[1] == stride || p.out[1] == 1) &&
      (stride == 1 || (p.dilation[1] == 1 && p.dilation[2] == 1)) &&
      (stride == 1 ||
       (stride == 2 &&
        (s.pass != Pass::weight_grad ||
         (p.kernel[1] == 3 && p.kernel[2] == 3 &&
          active_isa() == Isa::avx512)))) &&
      (s.pass != Pass::input_grad || stride == 2 || p.stride[0] == 1);
  if (!masks || !fits || s.mode != PaddingMode::zeros || s.folds ||
      dtype_size(p.dtype) != compute_size(p.dtype) || p.in_group() != 1 ||
      (p.out_group() != 1 && s.pass == Pass::input_grad) ||
      s.source.stride.s[2] != 1 || s.dest.stride.s[2] != 1) {
    return false;
  }
  if (p.kernel[2] > kShortTaps) {
    return true;
  }
  const int64_t vectors = ceil_div(s.dest.size[2], s.lanes);
  if (s.pass == Pass::weight_grad) {
    // The sum over the lanes at the end is worth its time on large planes.
    return p.batch * p.out[0] * p.out[1] * vectors >= p.taps();
  }
  // Short rows leave lanes empty: many taps are worth turning planes then.
  return s.dest.size[2] * 2 >= s.lanes || p.taps() < 25;
}

// Whether tiles of pixels can compute it: zero padding, no kernels that are
// dilated and strided within the plane. Not compiled for float64 and for short
// vectors.
bool pixels_fit(const StripShape& s) {
  const ConvProblem& p = s.p;
  const int64_t stride = p.stride[2];
  const bool small = p.kernel[1] % 2 == 1 && p.kernel[1] <= 7;
  const bool pairs =
      small && p.kernel[1] == p.kernel[2] && p.low[1] % 2 == p.low[2] % 2;
  const bool fits = p.kernel[1] >= 3 &&
      (stride == 1 || (p.dilation[1] == 1 && p.dilation[2] == 1)) &&
      p.stride[1] == stride &&
      (s.pass == Pass::input_grad
           ? (stride == 1 && p.stride[0] == 1) || (stride == 2 && pairs)
           : small ? stride <= 2
                   : stride == 1 && s.pass == Pass::forward);
  const bool phases = s.pass == Pass::input_grad && strided_phases(p);
  return (fits || phases) && s.mode == PaddingMode::zeros && !s.folds &&
      p.in_group() == 1 && p.out_group() == 1 && p.groups >= s.lanes &&
      p.dtype != DType::f64 && active_isa() != Isa::baseline;
}

// Whether pixels are read where they lie: channels_last tensors of the types
// that tiles are compiled for.
bool pixels_in_place(const StripShape& s) {
  const ConvProblem& p = s.p;
  return p.x.c == 1 && p.y.c == 1 &&
      (dtype_size(p.dtype) == compute_size(p.dtype) ||
       (p.dtype == DType::bf16 && active_isa() == Isa::avx512));
}

// Whether planes of other tensors are worth turning: those that rows fill badly,
// or have to be converted, or are gone over often, or whose phases rows cannot
// interleave.
bool pixels_staged(const StripShape& s) {
  const ConvProblem& p = s.p;
  const double bytes = static_cast<double>(pixels(s.source) + pixels(s.dest)) *
      s.lanes * compute_size(p.dtype);
  if (s.pass == Pass::input_grad && p.stride[2] > 2) {
    return p.x.c != 1 && p.y.c != 1 && bytes <= kStagedPhasesBytes;
  }
  return p.x.c != 1 && p.y.c != 1 && bytes <= kStagedBytes &&
      (dtype_size(p.dtype) != compute_size(p.dtype) || p.out[2] * 2 < s.lanes ||
       p.kernel[1] > 7 || (s.pass == Pass::weight_grad && p.kernel[1] >= 5));
}

// Whether channels are worth bringing into the lanes.
bool worth_staging(const StripShape& s) {
  const double bytes = static_cast<double>(pixels(s.source) + pixels(s.dest)) *
      s.lanes * compute_size(s.p.dtype);
  if (bytes > kStagedBytes) {
    return false;
  }
  // Positions in the lanes do as well on long rows of stride 1 with few taps.
  return s.p.taps() >= 25 || s.p.stride[2] > 1 || s.p.out[2] <= 2 * s.lanes;
}

} // namespace

bool strided_phases(const ConvProblem& p) {
  for (int d = 1; d < 3; ++d) {
    if (p.kernel[d] % p.stride[d] != 0 || p.dilation[d] != 1) {
      return false;
    }
  }
  return p.stride[0] == 1 && p.stride[1] > 1 && p.stride[2] > 1 &&
      p.kernel[1] / p.stride[1] <= 3;
}

void make_dense(Planes& p, int64_t step) {
  for (int d = 2; d >= 0; --d) {
    p.stride.s[d] = step;
    step *= p.size[d];
  }
  p.stride.c = step;
}

StripShape strip_shape(const ConvProblem& problem, Pass pass, int lanes) {
  StripShape s;
  s.p = simplified(problem);
  const ConvProblem& p = s.p;
  s.pass = pass;
  s.lanes = lanes;
  const bool backward = pass == Pass::input_grad;
  const Planes x{{p.in[0], p.in[1], p.in[2]}, p.x};
  const Planes y{{p.out[0], p.out[1], p.out[2]}, p.y};
  s.source = backward ? y : x;
  s.dest = backward ? x : y;
  s.mode = backward ? PaddingMode::zeros : p.mode;
  s.source_group = backward ? p.out_group() : p.in_group();
  s.dest_group = backward ? p.in_group() : p.out_group();
  bool padded = false;
  for (int d = 0; d < 3; ++d) {
    padded |= p.low[d] != 0 || p.high[d] != 0;
  }
  s.folds = backward && padded && p.mode != PaddingMode::zeros;
  s.in_place = pixels_fit(s) && (pixels_in_place(s) || pixels_staged(s))
      ? InPlace::pixels
      : worth_in_place(s) ? InPlace::rows
                          : InPlace::no;
  s.channel_lanes = s.in_place == InPlace::pixels ||
      (s.in_place == InPlace::no && p.in_group() == 1 && p.out_group() == 1 &&
       p.groups * 3 >= s.lanes &&
       ((p.x.c == 1 && p.y.c == 1) || worth_staging(s)));
  s.staged_source = s.channel_lanes && s.source.stride.c != 1;
  s.staged_dest = s.channel_lanes && s.dest.stride.c != 1;
  // Where channels lie side by side, a strip takes as many as a cache line
  // brings anyway.
  s.unit_groups = s.channel_lanes ? s.lanes
      : p.groups > 1 && (p.x.c == 1 || p.y.c == 1)
      ? std::min(
            p.groups,
            std::max<int64_t>(
                1, s.lanes / std::min(p.in_group(), p.out_group())))
      : 1;
  s.units = ceil_div(p.groups, s.unit_groups);
  if (s.staged_source) {
    make_dense(s.source, s.lanes);
  }
  if (s.folds) {
    for (int d = 0; d < 3; ++d) {
      s.dest.size[d] = p.in[d] + p.low[d] + p.high[d];
    }
  }
  if (s.folds || s.staged_dest) {
    make_dense(s.dest, s.channel_lanes ? s.lanes : 1);
  }
  for (int d = 0; d < 3; ++d) {
    const int64_t stride = p.stride[d];
    const int64_t period = stride / std::gcd(stride, p.dilation[d]);
    s.reach[d] = (p.kernel[d] - 1) * p.dilation[d] / stride;
    s.slots[d] = backward ? 1 : std::min(p.kernel[d], period);
    s.phases[d] = backward ? stride : 1;
    s.scale[d] = backward ? 1 : stride;
    s.dest_scale[d] = backward ? stride : 1;
    if (!backward) {
      s.first[d] = 0;
      s.count[d] = p.out[d];
    } else {
      const int64_t begin = s.folds ? 0 : p.low[d];
      const int64_t end = p.low[d] + p.in[d] + (s.folds ? p.high[d] : 0);
      s.first[d] = floor_div(begin, stride);
      s.count[d] = ceil_div(end, stride) - s.first[d];
    }
  }
  choose_blocks(s);
  s.flat = worth_flat(s);
  if (!s.channel_lanes && !s.flat) {
    s.extent[2] = round_up(s.extent[2], lanes); // rows begin at cache lines
  }
  return s;
}

bool StripShape::runs() const {
  return source_group == 1 && dest_group == 1 && !flat &&
      pass != Pass::weight_grad && p.stride[1] == 1 && p.dilation[1] == 1 &&
      p.kernel[1] >= 3 && block[1] >= 4;
}

int64_t StripShape::out_row() const {
  return channel_lanes ? block[2] * lanes
      : flat           ? extent[2]
                       : round_up(block[2], lanes);
}

int64_t StripShape::out_rows() const {
  return flat ? extent[1] : block[1];
}

int64_t StripShape::out_size() const {
  return round_up(block[0] * out_rows() * out_row(), lanes);
}

StripScratch strip_scratch(const StripShape& s) {
  const int64_t groups = s.channel_lanes ? 1 : s.unit_groups;
  const int64_t taps = s.source_group * s.p.taps() * s.dest_group * groups;
  const bool sums = s.pass == Pass::weight_grad;
  StripScratch r;
  int64_t used = 0;
  const auto take = [&](int64_t count) {
    const int64_t at = used;
    used += round_up(count, 16);
    return at;
  };
  // Tiles read up to a vector past the last position.
  r.strip = take(groups * s.source_group * s.plane() * s.unit() + 2 * s.lanes);
  // Sums become scalars by whole squares of lanes.
  r.weight = take(sums ? round_up(taps, s.lanes) * s.lanes : taps * s.unit());
  r.bias = take(s.dest_group * groups * s.unit());
  r.out = take(
      s.out_size() *
          (sums ? s.dest_group * groups
                : std::max(s.phases[2] * 4, s.dest_group * groups)) +
      s.lanes);
  r.row = take(s.phases[2] * round_up(s.block[2], s.lanes));
  r.mask = take(sums && !s.channel_lanes ? s.out_size() + s.lanes : 0);
  r.padded =
      take(s.folds ? s.dest_group * groups * pixels(s.dest) * s.unit() : 0);
  r.staged_source = take(s.staged_source ? pixels(s.source) * s.lanes : 0);
  r.staged_dest = take(
      s.staged_dest ? (s.folds ? s.p.in_pixels() : pixels(s.dest)) * s.lanes
                    : 0);
  r.bytes = round_up(used * compute_size(s.p.dtype), 64);
  return r;
}

int64_t pixels_bytes(const StripShape& s) {
  return s.units * (s.p.taps() + 1) * s.lanes * compute_size(s.p.dtype);
}

int64_t staged_bytes(const StripShape& s) {
  return s.staged_source ? round_up(
                               (pixels(s.source) + pixels(s.dest)) * s.lanes *
                                   compute_size(s.p.dtype),
                               64)
                         : 0;
}

StripTaps strip_taps(const StripShape& s) {
  const ConvProblem& p = s.p;
  const bool backward = s.pass == Pass::input_grad;
  StripTaps taps;
  const bool runs = s.runs();
  taps.run = runs ? p.kernel[1] : 1;
  const int64_t phases = s.phases[0] * s.phases[1] * s.phases[2];
  const int64_t total = s.source_group * p.taps();
  taps.phases.reserve(phases);
  taps.offset.reserve(total);
  taps.weight.reserve(total);
  for (int64_t phase = 0; phase < phases; ++phase) {
    const int64_t residue[3] = {
        phase / (s.phases[1] * s.phases[2]),
        phase / s.phases[2] % s.phases[1],
        phase % s.phases[2]};
    const int64_t first = static_cast<int64_t>(taps.offset.size());
    // Whether tap t of dimension d belongs to the phase.
    const auto belongs = [&](int d, int64_t t) {
      return !backward || t * p.dilation[d] % p.stride[d] == residue[d];
    };
    const auto add = [&](int64_t c, const int64_t (&t)[3]) {
      int64_t slot = 0, at = 0, w = 0;
      for (int d = 0; d < 3; ++d) {
        const int64_t shift = t[d] * p.dilation[d] / p.stride[d];
        slot = slot * s.slots[d] + (backward ? 0 : t[d] % s.slots[d]);
        at = at * s.extent[d] + (backward ? s.reach[d] - shift : shift);
        w += t[d] * p.w.s[d];
      }
      const int64_t slot_size = s.extent[0] * s.extent[1] * s.extent[2];
      taps.offset.push_back((c * s.plane() + slot * slot_size + at) * s.unit());
      w += c * (backward ? p.w.n : p.w.c);
      taps.dense &= w == static_cast<int64_t>(taps.weight.size());
      taps.weight.push_back(w);
    };
    for (int64_t c = 0; c < s.source_group; ++c) {
      for (int64_t a = 0; a < p.kernel[0]; ++a) {
        if (!belongs(0, a)) {
          continue;
        }
        const int64_t outer = runs ? p.kernel[2] : p.kernel[1];
        const int64_t inner = runs ? p.kernel[1] : p.kernel[2];
        for (int64_t i = 0; i < outer; ++i) {
          for (int64_t j = 0; j < inner; ++j) {
            const int64_t row = runs ? (backward ? inner - 1 - j : j) : i;
            const int64_t column = runs ? i : j;
            if (belongs(1, row) && belongs(2, column)) {
              add(c, {a, row, column});
            }
          }
        }
      }
    }
    taps.phases.push_back(
        {first, static_cast<int64_t>(taps.offset.size()) - first});
  }
  return taps;
}

} // namespace cpu
} // namespace torchconv
