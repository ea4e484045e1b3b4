// input_grad of stride 2 over rows where they lie: results come in pairs of
// neighbours, which see the even and the odd taps of the kernel, or the other
// way round, of the same rows of gy; they change places in registers and are
// stored once. Read once per instruction set, after conv_depthwise_rows_tile.h.
//
// Result 2 c + q gathers tap t from gy position c + (q + low - t) / 2, for t of
// the parity of q + low: even taps t = 2 m from c + high - m with
// high = (low + 1) / 2, odd taps t = 2 m + 1 from c + low / 2 - m.

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// Positions y .. y + R - 1 (rows 2 y ..) and vectors v .. v + V - 1 of them, of
// plane z. K1: rows of the kernel; Odd: whether their low padding is odd.
template <typename A, int K1, bool Odd, int R, int V>
void spread_tile(
    const RowsProblem<A>& p,
    const A* source,
    const A* weight,
    A bias,
    int64_t z,
    int64_t y,
    int64_t v,
    A* result) {
  constexpr int L = kLanes<A>;
  // Rows of gy that a position sees.
  constexpr int D = K1 / 2 + (K1 % 2 != 0 || Odd ? 1 : 0);
  Vec<A> acc[R][2][2][V]; // of even and odd taps: rows, columns
  const Vec<A> b = broadcast(bias);
#pragma GCC unroll 32
  for (int i = 0; i < R * 4 * V; ++i) {
    acc[i / (4 * V)][i / (2 * V) % 2][i / V % 2][i % V] = b;
  }
  // Row i of gy, counted from `first`, meets position r at d = r + D - 1 - i.
  const int64_t first = y + (p.low[1] + 1) / 2 - (D - 1);
  const int64_t begin = -first, end = p.source_size[1] - first;
  const int64_t even = (p.low[2] + 1) / 2, odd = p.low[2] / 2;
  for (int64_t a = 0; a < p.kernel0; ++a) {
    const int64_t at = z + p.low[0] - a * p.dilation0;
    const int64_t from = at / p.stride0;
    if (at < 0 || from * p.stride0 != at || from >= p.source_size[0]) {
      continue;
    }
    const A* wa = weight + a * p.w[0];
    for (int64_t i = 0; i < p.shifts; ++i) {
      const int64_t shift = even - i;
      const int64_t t0 = 2 * i, t1 = 2 * (odd - shift) + 1;
      const bool has0 = t0 < p.kernel2, has1 = t1 >= 0 && t1 < p.kernel2;
      Vec<A> w[2][K1];
#pragma GCC unroll 8
      for (int k = 0; k < K1; ++k) {
        w[0][k] = broadcast(has0 ? wa[k * p.w[1] + t0 * p.w[2]] : A(0));
        w[1][k] = broadcast(has1 ? wa[k * p.w[1] + t1 * p.w[2]] : A(0));
      }
      const LaneMask<A>* mask = &p.masks[i * p.vectors + v];
      const A* x =
          source + from * p.source_plane + first * p.source_row + v * L + shift;
#pragma GCC unroll 16
      for (int row = 0; row < R + D - 1; ++row, x += p.source_row) {
        if (row < begin || row >= end) {
          continue;
        }
        Vec<A> in[V];
#pragma GCC unroll 8
        for (int j = 0; j < V; ++j) {
          in[j] = held<A>(load_where<A>(x + j * L, mask[j]));
        }
        const auto multiply = [&](auto column) __attribute__((always_inline)) {
          constexpr int C = decltype(column)::value;
#pragma GCC unroll 16
          for (int r = 0; r < R; ++r) {
            const int d = r + D - 1 - row;
            const int k0 = 2 * d, k1 = 2 * (d - (Odd ? 1 : 0)) + 1;
#pragma GCC unroll 8
            for (int j = 0; j < V; ++j) {
              if (k0 >= 0 && k0 < K1) {
                acc[r][0][C][j] += w[C][k0] * in[j];
              }
              if (k1 >= 0 && k1 < K1) {
                acc[r][1][C][j] += w[C][k1] * in[j];
              }
            }
          }
        };
        if (has0) {
          multiply(std::integral_constant<int, 0>{});
        }
        if (has1) {
          multiply(std::integral_constant<int, 1>{});
        }
      }
    }
  }
  const bool swap = p.low[2] % 2 != 0;
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int q = 0; q < 2; ++q) {
      const int64_t row = 2 * (y + r) + q;
      if (row >= p.size[1]) {
        continue;
      }
      const auto& of = acc[r][Odd ? 1 - q : q];
      A* out = result + row * p.row + 2 * v * L;
#pragma GCC unroll 8
      for (int j = 0; j < V; ++j) {
        const Vec<A> e = swap ? of[1][j] : of[0][j];
        const Vec<A> o = swap ? of[0][j] : of[1][j];
        store_where<A>(
            out + 2 * j * L, interleave<0, A>(e, o), p.own[2 * (v + j)]);
        store_where<A>(
            out + (2 * j + 1) * L,
            interleave<1, A>(e, o),
            p.own[2 * (v + j) + 1]);
      }
    }
  }
}

// Rows y0 .. y1 - 1, y0 even.
template <typename A, int K1, bool Odd>
void spread_band(
    const RowsProblem<A>& p,
    const A* source,
    const A* weight,
    A bias,
    int64_t z,
    int64_t y0,
    int64_t y1,
    A* result) {
  constexpr int R = kRegisters == 32 ? 2 : 1;
  int64_t v = 0;
  for (; v + 2 <= p.vectors; v += 2) {
    for (int64_t y = y0 / 2; 2 * y < y1; y += R) {
      spread_tile<A, K1, Odd, R, 2>(p, source, weight, bias, z, y, v, result);
    }
  }
  if (v < p.vectors) {
    for (int64_t y = y0 / 2; 2 * y < y1; y += R) {
      spread_tile<A, K1, Odd, R, 1>(p, source, weight, bias, z, y, v, result);
    }
  }
}

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
