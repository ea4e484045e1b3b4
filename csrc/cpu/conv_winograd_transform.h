// Winograd's minimal filtering along one dimension, on vectors whose lanes are
// channels. Read once per instruction set.
//
// F(4, 3): four neighbouring outputs of a three-tap filter with six products
// instead of twelve. Source and filter, seen as polynomials, are evaluated at
// six points, multiplied there, and the product is interpolated (Winograd 1980;
// Lavin and Gray 2016):
//
//   y = A^T [ (G w) * (B^T d) ]        d: 6 sources, w: 3 taps, y: 4 outputs
//
// The points are 0, +-p, +-q and infinity with p = 5/8 and q = 3/2. Which
// points are used decides the rounding error; these have half the error of the
// usual 0, +-1, +-2 (docs/kernels/winograd.md has the table), being symmetric
// they share sums, and all constants but the last column of G are exact.
//
// The transposed algorithm F(3, 4) has the same points: three outputs from four
// taps. With four gradients as taps it computes weight_grad.
//
// A filter of fewer taps is one of three whose first tap, and then also the
// last, is zero. What is zero then are the filter's values at the point 0, and at
// infinity: these points are left out, and of four outputs two taps take five
// products and one tap four. All transforms below are told the taps, at compile
// time, and leave out what these points alone need.

namespace torchconv {
namespace cpu {
namespace TC_ISA {

constexpr int kWinogradOutputs = 4; // of a tile along one dimension
constexpr int kWinogradTaps = 3; // of a piece of a filter, at most
constexpr int kWinogradPoints = 6;

namespace winograd {

// Of a piece of so many taps: the place of its first tap among three, which is
// also its first point of the six, and where its points end.
constexpr int first_point(int64_t taps) {
  return taps < 3 ? 1 : 0;
}
constexpr int end_point(int64_t taps) {
  return taps == 1 ? 5 : 6;
}
constexpr int point_count(int64_t taps) {
  return end_point(taps) - first_point(taps);
}

constexpr float p1 = 0.625f, q1 = 1.5f;
constexpr float p2 = p1 * p1, q2 = q1 * q1;
constexpr float p3 = p2 * p1, q3 = q2 * q1;
// 1 / prod_{j != i} (point_i - point_j)
constexpr float g0 = 1.0f / (p2 * q2);
constexpr float gp = 1.0f / (2 * p2 * (p2 - q2));
constexpr float gq = 1.0f / (2 * q2 * (q2 - p2));

// A transform along one dimension: `from` places, of which [first, end) are
// read, to `to`, of which [to_first, to_end) are written.

// B^T: the values at the points, of coefficients that run the other way.
template <int Taps>
struct Source {
  static constexpr int from = 6, to = 6;
  static constexpr int first = first_point(Taps), end = end_point(Taps);
  static constexpr int to_first = first, to_end = end;
  template <typename V>
  static void apply(const V (&d)[6], V (&out)[6]) {
    const V ep = d[4] - q2 * d[2], op = p1 * (d[3] - q2 * d[1]);
    const V eq = d[4] - p2 * d[2], oq = q1 * (d[3] - p2 * d[1]);
    if constexpr (Taps == 3) {
      out[0] = (d[4] - (p2 + q2) * d[2]) + (p2 * q2) * d[0];
    }
    out[1] = ep + op;
    out[2] = ep - op;
    out[3] = eq + oq;
    out[4] = eq - oq;
    if constexpr (Taps > 1) {
      out[5] = (d[5] - (p2 + q2) * d[3]) + (p2 * q2) * d[1];
    }
  }
};

// G: taps at the points.
template <int Taps>
struct Filter {
  static constexpr int from = 3, to = 6;
  static constexpr int first = first_point(Taps), end = first + Taps;
  static constexpr int to_first = first_point(Taps), to_end = end_point(Taps);
  template <typename V>
  static void apply(const V (&w)[3], V (&out)[6]) {
    const V op = (gp * p1) * w[1], oq = (gq * q1) * w[1];
    if constexpr (Taps == 1) {
      out[1] = op;
      out[2] = -op;
      out[3] = oq;
      out[4] = -oq;
    } else {
      V ep, eq;
      if constexpr (Taps == 3) {
        ep = gp * (w[0] + p2 * w[2]);
        eq = gq * (w[0] + q2 * w[2]);
        out[0] = g0 * w[0];
      } else {
        ep = (gp * p2) * w[2];
        eq = (gq * q2) * w[2];
      }
      out[1] = ep + op;
      out[2] = ep - op;
      out[3] = eq + oq;
      out[4] = eq - oq;
      out[5] = w[2];
    }
  }
};

// A^T: four outputs from the products. Taps: the most of any piece.
template <int Taps>
struct Outputs {
  static constexpr int from = 6, to = 4;
  static constexpr int first = first_point(Taps), end = end_point(Taps);
  static constexpr int to_first = 0, to_end = 4;
  template <typename V>
  static void apply(const V (&m)[6], V (&y)[4]) {
    const V sp = m[1] + m[2], dp = m[1] - m[2];
    const V sq = m[3] + m[4], dq = m[3] - m[4];
    if constexpr (Taps == 3) {
      y[0] = m[0] + sp + sq;
    } else {
      y[0] = sp + sq;
    }
    y[1] = p1 * dp + q1 * dq;
    y[2] = p2 * sp + q2 * sq;
    if constexpr (Taps > 1) {
      y[3] = p3 * dp + (q3 * dq + m[5]);
    } else {
      y[3] = p3 * dp + q3 * dq;
    }
  }
};

// The transposed pair, for F(3, 4): four gradients at the points that any piece
// has ...
template <int Taps>
struct Gradients {
  static constexpr int from = 4, to = 6;
  static constexpr int first = 0, end = 4;
  static constexpr int to_first = first_point(Taps), to_end = end_point(Taps);
  template <typename V>
  static void apply(const V (&w)[4], V (&out)[6]) {
    const V ep = gp * (w[0] + p2 * w[2]), op = (gp * p1) * (w[1] + p2 * w[3]);
    const V eq = gq * (w[0] + q2 * w[2]), oq = (gq * q1) * (w[1] + q2 * w[3]);
    if constexpr (Taps == 3) {
      out[0] = g0 * w[0];
    }
    out[1] = ep + op;
    out[2] = ep - op;
    out[3] = eq + oq;
    out[4] = eq - oq;
    if constexpr (Taps > 1) {
      out[5] = w[3];
    }
  }
};

// ... and a piece's taps from the products.
template <int Taps>
struct Sums {
  static constexpr int from = 6, to = 3;
  static constexpr int first = first_point(Taps), end = end_point(Taps);
  static constexpr int to_first = first, to_end = first + Taps;
  template <typename V>
  static void apply(const V (&m)[6], V (&y)[3]) {
    const V sp = m[1] + m[2], dp = m[1] - m[2];
    const V sq = m[3] + m[4], dq = m[3] - m[4];
    if constexpr (Taps == 3) {
      y[0] = m[0] + sp + sq;
    }
    y[1] = p1 * dp + q1 * dq;
    if constexpr (Taps > 1) {
      y[2] = p2 * sp + (q2 * sq + m[5]);
    }
  }
};

// A dimension without tiles.
struct Single {
  static constexpr int from = 1, to = 1;
  static constexpr int first = 0, end = 1, to_first = 0, to_end = 1;
  template <typename V>
  static void apply(const V (&a)[1], V (&b)[1]) {
    b[0] = a[0];
  }
};
// Taps == 0 says that a dimension has none.
template <template <int> class T, int Taps>
using Along = std::conditional_t<Taps == 0, Single, T<Taps == 0 ? 3 : Taps>>;

// f(down, across) with both as compile-time numbers. down: 0 where tiles are
// flat.
template <typename F>
inline void with_taps(int64_t down, int64_t across, F f) {
  const auto row = [&](auto d) {
    switch (across) {
      case 1:
        return f(d, std::integral_constant<int, 1>{});
      case 2:
        return f(d, std::integral_constant<int, 2>{});
      default:
        return f(d, std::integral_constant<int, 3>{});
    }
  };
  switch (down) {
    case 0:
      return row(std::integral_constant<int, 0>{});
    case 1:
      return row(std::integral_constant<int, 1>{});
    case 2:
      return row(std::integral_constant<int, 2>{});
    default:
      return row(std::integral_constant<int, 3>{});
  }
}

// Where results go one after the other, `stride` apart, in rows of `Row` with a
// gap after each. The step is hidden from the compiler, which would keep all 36
// addresses in registers, and those, in turn, on the stack.
template <typename A, int Row>
struct Points {
  A* to;
  int64_t stride, gap;
  int made = 0;
  void operator()(Vec<A> point) {
    store(to, point);
    to += ++made % Row == 0 ? stride + gap : stride;
    asm("" : "+r"(to));
  }
};

// Both dimensions: Down along columns, Across along rows. d = get(row, column) is
// read column by column and put(value) takes the results row by row: what lies
// between is more than the registers hold, and neither all of d nor all results
// are beside it.
template <typename Down, typename Across, typename V, typename G, typename P>
inline __attribute__((always_inline)) void both(G get, P&& put) {
  V half[Down::to * Across::from];
#pragma GCC unroll 6
  for (int x = Across::first; x < Across::end; ++x) {
    V a[Down::from], b[Down::to];
#pragma GCC unroll 6
    for (int r = Down::first; r < Down::end; ++r) {
      a[r] = get(r, x);
    }
    Down::apply(a, b);
#pragma GCC unroll 6
    for (int r = Down::to_first; r < Down::to_end; ++r) {
      half[r * Across::from + x] = b[r];
    }
  }
#pragma GCC unroll 6
  for (int r = Down::to_first; r < Down::to_end; ++r) {
    V a[Across::from], b[Across::to];
#pragma GCC unroll 6
    for (int x = Across::first; x < Across::end; ++x) {
      a[x] = half[r * Across::from + x];
    }
    Across::apply(a, b);
#pragma GCC unroll 6
    for (int x = Across::to_first; x < Across::to_end; ++x) {
      put(b[x]);
    }
  }
}

} // namespace winograd
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
