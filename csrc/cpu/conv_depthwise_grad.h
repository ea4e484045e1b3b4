// weight_grad over strips: for every tap a vector of running sums, folded at
// the end; read once per instruction set, after conv_depthwise_pack.h and
// conv_depthwise_tile.h.

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

template <typename S, bool Channels>
class WeightGrad {
  using A = acc_t<S>;
  static constexpr int L = kLanes<A>;

 public:
  WeightGrad(
      const StripShape& shape,
      const StripTaps& taps,
      const ConvTensors& t,
      A* scratch)
      : s(shape),
        taps(taps),
        x(static_cast<const S*>(t.x)),
        gy(static_cast<const S*>(t.y)),
        gw(static_cast<S*>(t.w)) {
    const StripScratch at = strip_scratch(s);
    strip = scratch + at.strip;
    sums = scratch + at.weight;
    gradient = scratch + at.out;
    mask = scratch + at.mask;
    staged_source = scratch + at.staged_source;
    staged_dest = scratch + at.staged_dest;
    // What lies between the rows is multiplied by zero: see grad_tile.
    fill_zero(strip, at.weight - at.strip);
  }

  // One unit: all of its sums, samples and blocks in their order.
  void run(int64_t unit) {
    const int64_t first = unit * s.unit_groups;
    const int64_t here = std::min(s.unit_groups, s.p.groups - first);
    const int64_t groups = Channels ? 1 : here;
    const int lanes = Channels ? static_cast<int>(here) : L;
    const int64_t total = static_cast<int64_t>(taps.weight.size());
    fill_zero(sums, groups * s.dest_group * total * L);
    const S* xs = x + first * s.source_group * s.p.x.c;
    const S* gs = gy + first * s.dest_group * s.p.y.c;
    for (int64_t n = 0; n < s.p.batch; ++n) {
      const S* xn = xs + n * s.source.stride.n;
      const S* gn = gs + n * s.dest.stride.n;
      if (s.staged_source) {
        stage_in(xn, s.p.x, s.source.size, lanes, staged_source);
      }
      if (s.staged_dest) {
        stage_in(gn, s.p.y, s.dest.size, lanes, staged_dest);
      }
      for (int64_t i = 0; i < s.blocks[0] * s.blocks[1] * s.blocks[2]; ++i) {
        const Block b = strip_block(s, i);
        if (s.staged_source) {
          pack(b, static_cast<const A*>(staged_source), groups, lanes);
        } else {
          pack(b, xn, groups, lanes);
        }
        if (s.staged_dest) {
          pack_gradient(
              s,
              b,
              static_cast<const A*>(staged_dest),
              groups * s.dest_group,
              lanes,
              gradient);
        } else {
          pack_gradient(s, b, gn, groups * s.dest_group, lanes, gradient);
        }
        add_block(b, groups, total);
      }
    }
    write(first, groups, lanes, total);
  }

 private:
  template <typename X>
  void pack(const Block& b, const X* from, int64_t groups, int lanes) {
    if constexpr (Channels) {
      pack_channels(s, b, from, lanes, strip);
    } else {
      pack_positions(s, b, from, groups * s.source_group, strip);
    }
  }

  void add_block(const Block& b, int64_t groups, int64_t total) {
    GradTile<A> t;
    t.offset = taps.offset.data();
    t.x_row = s.extent[2] * s.unit();
    t.gy_row = s.out_row();
    t.gy_channel = s.out_size();
    t.mask = mask;
    if (Channels) {
      t.full = b.count[2];
      t.masked = 0;
    } else {
      set_mask(b);
      t.full = s.flat ? 0 : b.count[2] / L;
      t.masked = s.flat ? ceil_div(flat_length(b), L) : b.count[2] % L != 0;
    }
    t.rows = s.flat ? 1 : b.count[1];
    for (int64_t g = 0; g < groups; ++g) {
      const A* planes = strip + g * s.source_group * s.plane();
      for (int64_t k = 0; k < s.dest_group;) {
        const int64_t left = s.dest_group - k;
        const int64_t wide = left >= 4 ? 4 : left >= 2 ? 2 : 1;
        const A* of = gradient + (g * s.dest_group + k) * s.out_size();
        A* sum = sums + (g * s.dest_group + k) * total * L;
        for (int64_t z = 0; z < (s.flat ? 1 : b.count[0]); ++z) {
          const A* xz = planes + z * s.extent[1] * t.x_row;
          const A* gz = of + z * s.out_rows() * t.gy_row;
          if (wide == 4) {
            grad_block<A, 4>(t, total, xz, gz, sum);
          } else if (wide == 2) {
            grad_block<A, 2>(t, total, xz, gz, sum);
          } else {
            grad_block<A, 1>(t, total, xz, gz, sum);
          }
        }
        k += wide;
      }
    }
  }

  int64_t flat_length(const Block& b) const {
    return std::max<int64_t>(
        0,
        ((b.count[0] - 1) * s.extent[1] + b.count[1] - 1) * s.extent[2] +
            b.count[2]);
  }

  // Which lanes are positions of the block. Blocks differ only at the ends.
  void set_mask(const Block& b) {
    if (std::equal(b.count, b.count + 3, masked_for)) {
      return;
    }
    std::copy(b.count, b.count + 3, masked_for);
    if (!s.flat) {
      std::memset(static_cast<void*>(mask), 0xff, b.count[2] % L * sizeof(A));
      fill_zero(mask + b.count[2] % L, L - b.count[2] % L);
      return;
    }
    fill_zero(mask, s.out_size() + L);
    for (int64_t z = 0; z < b.count[0]; ++z) {
      for (int64_t y = 0; y < b.count[1]; ++y) {
        std::memset(
            static_cast<void*>(mask + (z * s.out_rows() + y) * s.out_row()),
            0xff,
            b.count[2] * sizeof(A));
      }
    }
  }

  void write(int64_t first, int64_t groups, int lanes, int64_t total) {
    const Strides& ws = s.p.w;
    S* to = gw + first * s.p.out_group() * ws.n;
    const A* sum = sums;
    if constexpr (Channels) {
      for (int64_t i = 0; i < total; ++i, sum += L) {
        for (int l = 0; l < lanes; ++l) {
          to[l * ws.n + taps.weight[i]] = S(sum[l]);
        }
      }
      return;
    }
    // Vectors to scalars, in place.
    const int64_t count = groups * s.dest_group * total;
    for (int64_t i = 0; i < count; i += L) {
      sum_all(sums + i * L);
      store(sums + i, load(sums + i * L));
    }
    for (int64_t g = 0; g < groups; ++g) {
      for (int64_t k = 0; k < s.dest_group;) {
        const int64_t left = s.dest_group - k;
        const int64_t wide = left >= 4 ? 4 : left >= 2 ? 2 : 1;
        for (int64_t i = 0; i < total; ++i) {
          for (int64_t j = 0; j < wide; ++j) {
            to[(g * s.dest_group + k + j) * ws.n + taps.weight[i]] = S(*sum++);
          }
        }
        k += wide;
      }
    }
  }

  const StripShape& s;
  const StripTaps& taps;
  const S* x;
  const S* gy;
  S* gw;
  A *strip, *sums, *gradient, *mask, *staged_source, *staged_dest;
  int64_t masked_for[3] = {-1, -1, -1};
};

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
