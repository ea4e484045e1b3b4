// A problem as several: dilated kernels and phases of a stride that divides the
// kernel are correlations of lattices (conv_depthwise.h); and prefetches for
// tensors that are larger than the caches. Read once per instruction set, after
// conv_depthwise_pixels_tile.h.

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// A correlation of its own: of all positions, or of a lattice of rows and
// columns.
struct PixelsPart {
  PixelsProblem p;
  int64_t source, result; // where it begins, in elements
  int64_t weight; // and its weights, in taps of a unit

  // Leaves dimension d the positions and taps of a lattice.
  void restrict_to(const Lattice& l, int d) {
    source += l.source * p.source[d];
    result += l.first * p.result[d];
    p.source[d] *= l.source_step;
    p.result[d] *= l.step;
    p.source_size[d] = l.source_size;
    p.size[d] = l.size;
    p.low[d] = l.low;
    p.kernel[d] /= l.tap_step;
    p.stride[d] = 1;
  }
};

// The rows (and columns) of each lattice; the first one has the most.
inline std::vector<PixelsPart> lattice_parts(
    const PixelsProblem& p,
    const std::vector<Lattice>& rows,
    const std::vector<Lattice>& columns) {
  std::vector<PixelsPart> parts;
  for (const Lattice& row : rows) {
    PixelsPart part{p, 0, 0, 0};
    part.restrict_to(row, 1);
    if (columns.empty()) {
      parts.push_back(part);
    }
    for (const Lattice& column : columns) {
      parts.push_back(part);
      PixelsPart& last = parts.back();
      last.restrict_to(column, 2);
      last.weight = (row.tap * column.tap_step + column.tap) *
          last.p.kernel[0] * last.p.kernel[1] * last.p.kernel[2];
    }
  }
  return parts;
}

// Prefetches what the next tile of the row reads first: the rows that the band
// before did not reach, of the last plane. The hardware does not see them coming,
// because units go by between two pixels.
template <typename T>
inline void fetch_next(
    const Tiles<T>& t,
    const PixelsProblem& p,
    const T* source,
    int64_t z,
    int64_t y,
    int64_t x) {
  const int64_t from =
      z * p.stride[0] - p.low[0] + (p.kernel[0] - 1) * p.dilation0;
  const int64_t end = (y + t.rows - 1) * p.stride[1] - p.low[1] + p.kernel[1];
  const int64_t column =
      (x + t.pixels) * p.stride[2] - p.low[2] + (p.kernel[2] - 1) * p.dilation2;
  if (from < 0 || from >= p.source_size[0] || column < 0) {
    return;
  }
  const int64_t last = std::min(end, p.source_size[1]);
  const int64_t stop =
      std::min(column + t.pixels * p.stride[2], p.source_size[2]);
  for (int64_t row = std::max<int64_t>(0, end - t.rows * p.stride[1]);
       row < last;
       ++row) {
    const T* line = source + from * p.source[0] + row * p.source[1];
    for (int64_t i = column; i < stop; ++i) {
      __builtin_prefetch(line + i * p.source[2]);
    }
  }
}

// And what it writes.
template <typename T>
inline void fetch_results(
    const Tiles<T>& t,
    const PixelsProblem& p,
    T* result,
    int64_t y,
    int64_t x) {
  const int64_t last = std::min(y + t.rows, p.size[1]);
  const int64_t stop = std::min<int64_t>(x + 2 * t.pixels, p.size[2]);
  for (int64_t row = y; row < last; ++row) {
    for (int64_t i = x + t.pixels; i < stop; ++i) {
      __builtin_prefetch(result + row * p.result[1] + i * p.result[2], 1);
    }
  }
}

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
