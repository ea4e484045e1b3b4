// The weights of a gather at Winograd's points. Read once per instruction set.

namespace torchconv {
namespace cpu {
namespace TC_ISA {

// Products are added up over so many steps of the reduction, then those sums:
// a single chain over many channels would lose more bits than the transforms.
constexpr int64_t kWinogradSum = 64;

// U[point][reduction][lane] of a job.
template <typename Job>
struct WinogradWeights {
  using S = typename Job::Element;
  using A = typename Job::A;
  using Thread = typename Job::Thread;
  static constexpr int L = Job::L;

  const Job& job;

  // Lanes [block k] and `count` blocks of the reduction from `first`.
  void operator()(
      const S* w, // of the group
      int64_t k,
      int64_t first,
      int64_t count,
      A* u,
      int64_t stride,
      const Thread& t) const {
    const int width = job.block_vectors(k) * L;
    const int64_t lane = k * job.wide * L;
    const int valid =
        static_cast<int>(std::min<int64_t>(width, job.v.lanes - lane));
    const S* from = w + lane * job.v.w_lane;
    const auto& axis = job.grid.axis;
    const bool by_tap = job.v.w_red == 1;
    const int64_t across = job.run[2].taps;
    for (int64_t b = first; b < first + count; ++b) {
      const int n = job.block_steps(b);
      const WinogradFilter& f = job.filter(b);
      const S* at = from + axis[0].tap(f.piece[0]) * job.v.w_tap[0];
      // Of what is packed: the place of the piece's first tap, and the way from
      // row to row, column to column and channel to channel.
      int64_t start = 0, row = f.across, column = 1, channel = 1;
      if (job.whole) {
        row = axis[1].next * across;
        column = axis[2].next;
        channel = job.run[1].taps * across;
        start = f.piece[1].first * across + f.piece[2].first +
            (job.steps[b].channel % kWinogradSum) * channel;
        if (job.steps[b].packs) {
          const int64_t some =
              std::min(kWinogradSum, job.channels - job.steps[b].channel);
          at += axis[1].t0 * job.v.w_tap[1] + axis[2].t0 * job.v.w_tap[2];
          pack_taps(
              at + job.steps[b].channel * job.v.w_red,
              some,
              job.run[1].taps,
              across,
              1,
              1,
              valid,
              width,
              t);
        }
      } else {
        for (int d = 1; d < 3; ++d) {
          at += axis[d].tap(f.piece[d]) * job.v.w_tap[d];
        }
        pack_taps(
            at + job.steps[b].channel * job.v.w_red,
            n,
            f.piece[1].taps,
            f.across,
            axis[1].next,
            axis[2].next,
            valid,
            width,
            t);
        const int64_t taps = f.piece[1].taps * f.across;
        channel = by_tap ? 1 : taps;
        column = by_tap ? n : 1;
        row = f.across * column;
      }
      winograd::with_taps(f.down, f.across, [&](auto d, auto a) {
        for (int c = 0; c < n; ++c) {
          const A* tap = t.taps + (start + c * channel) * width;
          for (int i = 0; i < width; i += L) {
            transform_filter<d(), a()>(
                tap + i,
                row * width,
                column * width,
                u + c * width + i,
                stride);
          }
        }
      });
      u += n * width;
    }
  }
  // down x across taps of some channels, every next_down-th and next_across-th,
  // of all lanes, in the order that they have in memory: tap by tap or channel by
  // channel.
  void pack_taps(
      const S* from,
      int64_t some,
      int64_t down,
      int64_t across,
      int64_t next_down,
      int64_t next_across,
      int valid,
      int width,
      const Thread& t) const {
    const auto& axis = job.grid.axis;
    const bool by_tap = job.v.w_red == 1;
    const int64_t taps = down * across, count = some * taps;
    for (int64_t c = 0; c < some; ++c) {
      for (int64_t j = 0; j < taps; ++j) {
        t.off[by_tap ? j * some + c : c * taps + j] = c * job.v.w_red +
            j / across * next_down * axis[1].tstep * job.v.w_tap[1] +
            j % across * next_across * axis[2].tstep * job.v.w_tap[2];
      }
    }
    if (job.side == 1) {
      pack_columns(from, job.v.w_lane, t.off, count, valid, width, t.taps);
      return;
    }
    // Lanes of the groups side by side, each group's reduction in step.
    const int64_t lanes = job.v.lanes / job.side;
    for (int lane = 0; lane < width; ++lane) {
      const S* from_lane = from + lane / lanes * (job.v.w_group / job.side) +
          lane % lanes * job.v.w_lane;
      for (int64_t i = 0; i < count; ++i) {
        t.taps[i * width + lane] = static_cast<A>(from_lane[t.off[i]]);
      }
    }
  }
  template <int DownTaps, int AcrossTaps>
  void transform_filter(
      const A* tap,
      int64_t row,
      int64_t column,
      A* u,
      int64_t stride) const {
    using Down = winograd::Along<winograd::Filter, DownTaps>;
    using Across = winograd::Along<winograd::Filter, AcrossTaps>;
    winograd::both<Down, Across, Vec<A>>(
        [&](int y, int x) {
          return load(
              tap + (y - Down::first) * row + (x - Across::first) * column);
        },
        job.grid.template to_points<DownTaps, AcrossTaps>(u, stride));
  }
};

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
