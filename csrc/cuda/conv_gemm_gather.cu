// forward and input_grad as a matrix product whose source operand is gathered
// on the way to shared memory: see conv_gemm.h and conv_gemm_tile.cuh.
//
// A thread brings one chunk column of the panels, always the same, for rows a
// fixed distance apart. It walks (tap, source channels) along k, and finds the
// places of its rows in the source anew only where the tap changes; what that
// takes lies in shared memory, so that registers are left for the sums. Padding,
// of any mode, is in source_index; a chunk that shows zeros is filled by cp.async.
// Numbers along k have 32 bits (gemm_can_count).
//
// Compiled for sm_80, sm_90a and PTX; it has not run on hardware yet.
#include <algorithm>
#include <type_traits>

#include "cuda/conv_cost.h"
#include "cuda/conv_gather.cuh"
#include "cuda/conv_gemm.h"
#include "cuda/conv_gemm_tile.cuh"
#include "cuda/epilogue.cuh"
#include "cuda/launch.cuh"

namespace torchconv {
namespace cuda {
namespace {

struct Params {
  Gather g;
  const void* packed; // weights
  int64_t tap_chunks; // chunks of source channels in a tap
  int64_t row_tiles, column_tiles;
  int64_t first_tile, tiles; // tiles of this call: from one to the other
  const void* columns; // written out, or null
  int64_t splits;
  void* parts; // sums of the splits, if more than one
  bool along_rows; // neighbouring positions of dst are neighbours in memory
};

// What is the same for a whole tile, in shared memory: its phases (Phase), and
// where its rows read and write: source batch offset or -1, s(m, 0), dst offset.
template <int kRows>
struct Table {
  enum Field { p0, step, count, t0, tstep, taps, a, b, c, kFields };
  static constexpr int kWidth = 5;
  static constexpr int bytes = (kRows * kWidth + 3 * kFields) * 8;

  Shared<int64_t> table;

  __device__ explicit Table(int offset)
      : table(offset, kRows * kWidth + 3 * kFields) {}

  __device__ int64_t phase(int d, Field field) const {
    return table.get(kRows * kWidth + d * kFields + field);
  }
  __device__ int64_t batch_offset(int row) const {
    return table.get(row * kWidth);
  }
  __device__ int64_t source(int row, int d) const {
    return table.get(row * kWidth + 1 + d);
  }
  __device__ int64_t dst_offset(int row) const {
    return table.get(row * kWidth + 4);
  }

  // Everybody calls it; everybody may read afterwards.
  __device__ void fill(const Gather& g, const int64_t (&f)[3], int64_t first)
      const {
    if (threadIdx.x < 3) {
      const int d = threadIdx.x;
      const Phase h = g.phase(d, d == 0 ? f[0] : d == 1 ? f[1] : f[2]);
      const int64_t fields[kFields] = {
          h.p0, h.step, h.count, h.t0, h.tstep, h.taps, h.a, h.b, h.c};
#pragma unroll
      for (int i = 0; i < kFields; ++i) {
        table.set(kRows * kWidth + d * kFields + i, fields[i]);
      }
    }
    __syncthreads();
    for (int row = threadIdx.x; row < kRows; row += blockDim.x) {
      int64_t n = first + row, m[3];
#pragma unroll
      for (int d = 2; d >= 0; --d) {
        m[d] = take(n, g.count[d]);
      }
      bool inside = n < g.p.batch;
      int64_t dst = n * g.dst.n;
#pragma unroll
      for (int d = 0; d < 3; ++d) {
        inside = inside && m[d] < phase(d, count);
        dst += (phase(d, p0) + m[d] * phase(d, step)) * g.dst.s[d];
        table.set(row * kWidth + 1 + d, m[d] * phase(d, a) + phase(d, c));
      }
      table.set(row * kWidth, inside ? n * g.src.n : -1);
      table.set(row * kWidth + 4, inside ? dst : -1);
    }
    __syncthreads();
  }
};

// A thread's way along k: tap, chunk within the tap, chunks that are left.
struct Walk {
  int j[3] = {0, 0, 0}, chunk = 0, left = 0;
  bool moved = true; // to another tap, in the last step

  template <typename T>
  __device__ void start(const T& table, int q, int tap_chunks, int chunks) {
    left = chunks - q;
    if (left <= 0) {
      return; // also a phase without taps
    }
    int64_t rest = q;
    chunk = static_cast<int>(take(rest, tap_chunks));
    j[2] = static_cast<int>(take(rest, table.phase(2, T::taps)));
    j[1] = static_cast<int>(take(rest, table.phase(1, T::taps)));
    j[0] = static_cast<int>(rest);
  }
  template <typename T>
  __device__ void step(const T& table, int tap_chunks) {
    chunk += kStep;
    left -= kStep;
    moved = chunk >= tap_chunks;
    if (!moved) {
      return;
    }
    do {
      chunk -= tap_chunks;
      if (++j[2] == table.phase(2, T::taps)) {
        j[2] = 0;
        if (++j[1] == table.phase(1, T::taps)) {
          j[1] = 0;
          ++j[0];
        }
      }
    } while (chunk >= tap_chunks);
  }
};

// Blocks that a multiprocessor should hold. With tensor cores, registers of three
// small tiles are enough, and the compiler, left alone, spills to fit a fourth.
template <typename Unit, typename S>
constexpr int kBlocks = S::threads == 128 && !std::is_same_v<Unit, Fma> ? 3 : 1;

template <typename Unit, typename E, typename S, bool kVector>
__global__ void __launch_bounds__(S::threads, kBlocks<Unit, S>)
    gemm_kernel(const __grid_constant__ Params params) {
  using Block = BlockTile<E, S>;
  constexpr int per = kChunk<E>;
  // Threads of a warp take the chunks of a row together where that is 64 bytes
  // side by side, else neighbouring rows.
  constexpr int kRowStep = S::threads / kStep;
  static_assert(kRowStep % 8 == 0, "such rows exchange their chunks alike");
  constexpr int kSlotsA = S::rows / kRowStep;
  constexpr int kSlotsB = S::columns / kRowStep;
  const Gather& g = params.g;
  using Tile = Table<S::rows>;
  const Tile table(Block::bytes);
  const int column_b = threadIdx.x % kStep, row_b = threadIdx.x / kStep;
  const int column_a = kVector ? column_b : threadIdx.x / 32 % kStep;
  const int row_a =
      kVector ? row_b : threadIdx.x / (32 * kStep) * 32 + threadIdx.x % 32;
  const int place_a = panel_at<E>(row_a, column_a);
  const int place_b = panel_at<E>(row_b, column_b);
  const int tap_chunks = static_cast<int>(params.tap_chunks);
  const int red = static_cast<int>(g.red);

  for (int64_t tile = params.first_tile + blockIdx.x; tile < params.tiles;
       tile += gridDim.x) {
    int64_t rest = tile;
    const int64_t lane0 = take(rest, params.column_tiles) * S::columns;
    const int64_t first = take(rest, params.row_tiles) * S::rows;
    const int64_t split = take(rest, params.splits);
    const int64_t f2 = take(rest, g.phases[2]);
    const int64_t f1 = take(rest, g.phases[1]);
    const int64_t f0 = take(rest, g.phases[0]);
    const int64_t group = rest;
    const int64_t f[3] = {f0, f1, f2};
    table.fill(g, f, first);

    const int chunks =
        static_cast<int>(
            table.phase(0, Tile::taps) * table.phase(1, Tile::taps) *
            table.phase(2, Tile::taps)) *
        tap_chunks;
    const int all_steps = (chunks + kStep - 1) / kStep;
    const int splits = static_cast<int>(params.splits);
    const int each = (all_steps + splits - 1) / splits;
    const int step0 = min(static_cast<int>(split) * each, all_steps);
    const int steps = min(each, all_steps - step0);

    const E* src = static_cast<const E*>(g.src_data) + group * g.red * g.src.c;
    const int64_t w_pitch = g.p.taps() * tap_chunks * per;
    const int64_t pitch =
        g.taps(0) * g.taps(1) * g.taps(2) * tap_chunks * per; // of columns
    if (kVector && params.columns != nullptr) {
      src = static_cast<const E*>(params.columns) +
          (tile - params.first_tile) / params.column_tiles * S::rows * pitch;
    }
    // Rows of b: channels of the destination. Slots whose bit is not set bring
    // zeros.
    const E* from_b[kSlotsB];
    unsigned inside_b = 0, inside_a = 0;
#pragma unroll
    for (int i = 0; i < kSlotsB; ++i) {
      const int64_t lane = lane0 + row_b + i * kRowStep;
      const bool inside = lane < g.lanes;
      inside_b |= static_cast<unsigned>(inside) << i;
      from_b[i] = static_cast<const E*>(params.packed) +
          (inside ? (group * g.lanes + lane) * w_pitch : 0);
    }

    // a: source positions. Their channel 0, and weights within a row.
    Walk at_a, at_b;
    at_a.start(table, step0 * kStep + column_a, tap_chunks, chunks);
    if constexpr (!kVector) { // else the two are the same
      at_b.start(table, step0 * kStep + column_b, tap_chunks, chunks);
    }
    Walk& along_b = kVector ? at_a : at_b;
    const E* from_a[kSlotsA];
    int tap_b = 0;
    Chunk<E> held[kVector ? 1 : kSlotsA];

    const auto load =
        [&](const Shared<E>& a, int a0, const Shared<E>& b, int b0) {
          if (at_a.moved && at_a.left > 0) {
            inside_a = 0;
#pragma unroll
            for (int i = 0; i < kSlotsA; ++i) {
              const int row = row_a + i * kRowStep;
              int64_t o = table.batch_offset(row);
#pragma unroll
              for (int d = 0; d < 3; ++d) {
                const int64_t part = source_offset(
                    table.source(row, d) + at_a.j[d] * table.phase(d, Tile::b),
                    g.src_size[d],
                    g.src.s[d],
                    g.mode);
                o = o < 0 || part < 0 ? -1 : o + part;
              }
              if (kVector && params.columns != nullptr) {
                // Columns hold zeros where the source shows them.
                const int64_t tap =
                    (at_a.j[0] * table.phase(1, Tile::taps) + at_a.j[1]) *
                        table.phase(2, Tile::taps) +
                    at_a.j[2];
                o = row * pitch + tap * tap_chunks * per;
              }
              inside_a |= static_cast<unsigned>(o >= 0) << i;
              from_a[i] = src + (o < 0 ? 0 : o);
            }
          }
          if (along_b.moved && along_b.left > 0) {
            int64_t tap = 0;
#pragma unroll
            for (int d = 0; d < 3; ++d) {
              tap = tap * g.p.kernel[d] + table.phase(d, Tile::t0) +
                  along_b.j[d] * table.phase(d, Tile::tstep);
            }
            tap_b = static_cast<int>(tap) * tap_chunks;
          }
          const bool more_a = at_a.left > 0, more_b = along_b.left > 0;
          const int c0 = at_a.chunk * per;
          if constexpr (kVector) {
#pragma unroll
            for (int i = 0; i < kSlotsA; ++i) {
              const bool inside = more_a && (inside_a >> i & 1) != 0;
              cp_async<16>(
                  a.address(a0 + place_a + i * kRowStep * kRow<E>),
                  inside ? from_a[i] + c0 : src,
                  inside);
            }
          } else {
            const int64_t channels = c0 * g.src.c;
#pragma unroll
            for (int i = 0; i < kSlotsA; ++i) {
              const bool inside = more_a && (inside_a >> i & 1) != 0;
              const E* at = inside ? from_a[i] + channels : src;
#pragma unroll
              for (int e = 0; e < per; ++e, at += g.src.c) {
                held[i].e[e] = inside && e < red - c0 ? *at : narrowed<E>(0);
              }
            }
          }
          const int along = (tap_b + along_b.chunk) * per;
#pragma unroll
          for (int i = 0; i < kSlotsB; ++i) {
            const bool inside = more_b && (inside_b >> i & 1) != 0;
            cp_async<16>(
                b.address(b0 + place_b + i * kRowStep * kRow<E>),
                inside ? from_b[i] + along : from_b[i],
                inside);
          }
          at_a.step(table, tap_chunks);
          if constexpr (!kVector) {
            at_b.step(table, tap_chunks);
          }
        };
    const auto keep = [&](const Shared<E>& a, int a0, const Shared<E>&, int) {
      if constexpr (!kVector) {
#pragma unroll
        for (int i = 0; i < kSlotsA; ++i) {
          a.set_as(a0 + place_a + i * kRowStep * kRow<E>, held[i]);
        }
      }
    };
    WarpTile<Unit, E, S::warp_rows, S::warp_columns> warp;
    Block::multiply(warp, steps, load, keep);

    const int64_t group_offset = group * g.lanes * g.dst.c;
    const E* bias = static_cast<const E*>(g.bias);
    const bool whole = params.splits == 1;
    Block::write(warp, params.along_rows, [&](int row, int column, Acc<E> sum) {
      const int64_t lane = lane0 + column;
      const int64_t o = table.dst_offset(row);
      if (lane >= g.lanes || o < 0) {
        return;
      }
      if (whole) {
        if (bias != nullptr) {
          sum += widened(bias[group * g.lanes + lane]);
        }
        const int64_t i = group_offset + o + lane * g.dst.c;
        static_cast<E*>(g.dst_data)[i] = finished<E>(g.epilogue, i, sum);
      } else {
        // [split][phases, positions][channel of all groups]
        const int64_t f = (f0 * g.phases[1] + f1) * g.phases[2] + f2;
        const int64_t position = f * g.p.batch * g.pixels() + first + row;
        static_cast<Acc<E>*>(params.parts)
            [((split * g.all_phases() * g.p.batch * g.pixels()) + position) *
                 g.lanes * g.p.groups +
             group * g.lanes + lane] = sum;
      }
    });
  }
}

// Adds the splits' sums in order, the bias and the epilogue.
template <typename E>
__global__ void add_parts_kernel(const __grid_constant__ Params params) {
  const Gather& g = params.g;
  const int64_t channels = g.lanes * g.p.groups;
  const int64_t positions = g.all_phases() * g.p.batch * g.pixels();
  const Acc<E>* parts = static_cast<const Acc<E>*>(params.parts);
  const E* bias = static_cast<const E*>(g.bias);
  for (int64_t i = first_piece(); i < positions * channels; i += piece_step()) {
    int64_t f = i;
    const int64_t channel = take(f, channels);
    int64_t m[3], offset = channel * g.dst.c;
#pragma unroll
    for (int d = 2; d >= 0; --d) {
      m[d] = take(f, g.count[d]);
    }
    offset += take(f, g.p.batch) * g.dst.n;
    bool inside = true;
#pragma unroll
    for (int d = 2; d >= 0; --d) {
      const Phase phase = g.phase(d, take(f, g.phases[d]));
      inside = inside && m[d] < phase.count;
      offset += (phase.p0 + m[d] * phase.step) * g.dst.s[d];
    }
    if (!inside) {
      continue;
    }
    Acc<E> sum = 0;
    for (int64_t s = 0; s < params.splits; ++s) {
      sum += parts[s * positions * channels + i];
    }
    if (bias != nullptr) {
      sum += widened(bias[channel]);
    }
    static_cast<E*>(g.dst_data)[offset] = finished<E>(g.epilogue, offset, sum);
  }
}

// Weights to [group][lane][tap][source channel].
template <typename E>
__global__ void pack_kernel(const __grid_constant__ Params params) {
  const Gather& g = params.g;
  constexpr int per = kChunk<E>;
  const int64_t total =
      g.p.groups * g.lanes * g.p.taps() * params.tap_chunks * per;
  const E* w = static_cast<const E*>(g.w_data);
  E* packed = static_cast<E*>(const_cast<void*>(params.packed));
  for (int64_t i = first_piece(); i < total; i += piece_step()) {
    int64_t group = i;
    const int64_t red = take(group, params.tap_chunks * per);
    const int64_t t2 = take(group, g.p.kernel[2]);
    const int64_t t1 = take(group, g.p.kernel[1]);
    const int64_t t0 = take(group, g.p.kernel[0]);
    const int64_t lane = take(group, g.lanes);
    packed[i] = red < g.red
        ? w[group * g.w_group + lane * g.w_lane + red * g.w_red +
            t0 * g.p.w.s[0] + t1 * g.p.w.s[1] + t2 * g.p.w.s[2]]
        : narrowed<E>(0);
  }
}

constexpr int kThreads = 256;

template <typename Unit, typename E, typename S, bool kVector>
void start(const Params& params, const Queue& queue) {
  launch(
      "conv implicit_gemm",
      gemm_kernel<Unit, E, S, kVector>,
      {params.tiles - params.first_tile,
       S::threads,
       BlockTile<E, S>::bytes + Table<S::rows>::bytes},
      queue,
      params);
}

template <typename Unit, typename E, typename Large, typename Small>
void run(const GatherGemmPlan& plan, const Params& params, const Queue& queue) {
  if (plan.pack) {
    const int64_t total = params.g.p.groups * params.g.lanes *
        params.g.p.taps() * params.tap_chunks * kChunk<E>;
    launch(
        "conv weights",
        pack_kernel<E>,
        {(total + kThreads - 1) / kThreads, kThreads},
        queue,
        params);
  }
  if (plan.vector) {
    plan.large ? start<Unit, E, Large, true>(params, queue)
               : start<Unit, E, Small, true>(params, queue);
  } else {
    plan.large ? start<Unit, E, Large, false>(params, queue)
               : start<Unit, E, Small, false>(params, queue);
  }
  if (plan.splits > 1) {
    const int64_t total = params.g.all_phases() * params.g.p.batch *
        params.g.pixels() * params.g.lanes * params.g.p.groups;
    launch(
        "conv implicit_gemm sums",
        add_parts_kernel<E>,
        {(total + kThreads - 1) / kThreads, kThreads},
        queue,
        params);
  }
}

bool multiple(int64_t value, int64_t of) {
  return value % of == 0;
}

// Whether the elements of a tensor in chunks along a dimension of stride 1 are
// aligned to 16 bytes.
bool aligned(const Strides& s, const ConvProblem& p, int64_t per) {
  bool ok = s.c == 1 && (multiple(s.n, per) || p.batch == 1);
  for (int d = 0; d < 3; ++d) {
    ok = ok && multiple(s.s[d], per);
  }
  return ok;
}

using Large = TileShape<128, 128, 64, 32>;
using Small = TileShape<64, 64, 32, 32>;
static_assert(
    Large::rows == kLargeTile.rows && Small::rows == kSmallTile.rows &&
        Large::columns == kLargeTile.columns &&
        Small::columns == kSmallTile.columns,
    "");

} // namespace

bool gemm_uses_tensor_cores(const ConvProblem& p) {
  return p.dtype != DType::f32 || p.tf32;
}

GatherGemmPlan gather_gemm_plan(
    const ConvProblem& p,
    Pass pass,
    const ConvTensors* t) {
  const Gather g = gather(p, pass, t == nullptr ? ConvTensors{} : *t);
  const int64_t size = dtype_size(p.dtype), per = 16 / size;
  const int64_t tap_chunks = (g.red + per - 1) / per;
  GatherGemmPlan plan = {};
  const auto address = [](const void* a) {
    return reinterpret_cast<uintptr_t>(a) % 16 == 0;
  };
  plan.vector =
      multiple(g.red, per) && aligned(g.src, p, per) && address(g.src_data);
  // Packed as they lie: a lane's taps side by side, channels innermost.
  bool dense = g.w_red == 1 && multiple(g.red, per) && address(g.w_data) &&
      (g.w_lane == g.red * p.taps() || g.lanes == 1) &&
      (g.w_group == g.lanes * g.red * p.taps() || p.groups == 1);
  int64_t stride = g.red;
  for (int d = 2; d >= 0; --d) {
    dense = dense && (p.w.s[d] == stride || p.kernel[d] == 1);
    stride *= p.kernel[d];
  }
  plan.pack = !dense;
  // Room for packed weights is planned for whatever the addresses are.
  plan.packed_bytes = p.groups * g.lanes * p.taps() * tap_chunks * per * size;
  const auto tiles = [&](const GemmTile& tile, int64_t batch) {
    return (batch * g.pixels() + tile.rows - 1) / tile.rows *
        ((g.lanes + tile.columns - 1) / tile.columns) * p.groups *
        g.all_phases();
  };
  plan.large = p.dtype != DType::f64 && g.lanes > kSmallTile.columns &&
      tiles(kLargeTile, p.batch) >= kProcessors;
  const GemmTile& tile = plan.large ? kLargeTile : kSmallTile;
  plan.row_tiles = (p.batch * g.pixels() + tile.rows - 1) / tile.rows;
  plan.column_tiles = (g.lanes + tile.columns - 1) / tile.columns;
  // Long sums of few results are split. The order of a sum must not depend on
  // the rest of the batch: as if there were one sample.
  const int64_t steps =
      (g.taps(0) * g.taps(1) * g.taps(2) * tap_chunks + kStep - 1) / kStep;
  plan.splits = std::max<int64_t>(
      1,
      std::min<int64_t>(
          {kProcessors / std::max<int64_t>(tiles(kSmallTile, 1), 1),
           steps / 32,
           8}));
  // The packed weights follow the parts, aligned.
  const int64_t part = g.all_phases() * p.batch * g.pixels() * g.lanes *
      p.groups * std::max<int64_t>(size, 4);
  plan.parts_bytes = plan.splits > 1 ? (plan.splits * part + 15) / 16 * 16 : 0;
  return plan;
}

void gather_gemm(
    const ConvProblem& p,
    Pass pass,
    const ConvTensors& t,
    void* space,
    const Columns* columns) {
  GatherGemmPlan plan = gather_gemm_plan(p, pass, &t);
  Params params = {};
  params.g = gather(p, pass, t);
  const Gather& g = params.g;
  const int64_t per = 16 / dtype_size(p.dtype);
  char* packed = static_cast<char*>(space) + plan.parts_bytes;
  const bool pack = plan.pack;
  if (columns != nullptr) {
    plan.vector = true;
    plan.splits = 1;
    plan.pack = pack && columns->first == 0; // once for all of them
    params.columns = columns->data;
    params.first_tile = columns->first * plan.column_tiles;
  }
  params.packed = pack ? packed : g.w_data;
  params.tap_chunks = (g.red + per - 1) / per;
  params.row_tiles = plan.row_tiles;
  params.column_tiles = plan.column_tiles;
  params.splits = plan.splits;
  params.tiles = columns != nullptr ? columns->last * plan.column_tiles
                                    : plan.row_tiles * plan.column_tiles *
          plan.splits * g.all_phases() * p.groups;
  params.parts = space;
  params.along_rows = g.dst.c != 1;
  const Queue& queue = *t.queue;
  switch (p.dtype) {
    case DType::f16:
      return run<TensorHalf, __half, Large, Small>(plan, params, queue);
    case DType::bf16:
      return run<TensorHalf, __nv_bfloat16, Large, Small>(plan, params, queue);
    case DType::f64:
      return run<TensorF64, double, Small, Small>(plan, params, queue);
    default:
      return p.tf32 ? run<TensorTf32, float, Large, Small>(plan, params, queue)
                    : run<Fma, float, Large, Small>(plan, params, queue);
  }
}

} // namespace cuda
} // namespace torchconv
