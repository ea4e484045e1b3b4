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

namespace torchconv {
namespace cpu {
namespace TC_ISA {

constexpr int kWinogradOutputs = 4; // of a tile along one dimension
constexpr int kWinogradTaps = 3;
constexpr int kWinogradPoints = 6;

namespace winograd {

constexpr float p1 = 0.625f, q1 = 1.5f;
constexpr float p2 = p1 * p1, q2 = q1 * q1;
constexpr float p3 = p2 * p1, q3 = q2 * q1;
// 1 / prod_{j != i} (point_i - point_j)
constexpr float g0 = 1.0f / (p2 * q2);
constexpr float gp = 1.0f / (2 * p2 * (p2 - q2));
constexpr float gq = 1.0f / (2 * q2 * (q2 - p2));

// B^T: the values at the points, of coefficients that run the other way.
template <typename V>
inline void source(const V (&d)[6], V (&out)[6]) {
  const V ep = d[4] - q2 * d[2], op = p1 * (d[3] - q2 * d[1]);
  const V eq = d[4] - p2 * d[2], oq = q1 * (d[3] - p2 * d[1]);
  out[0] = (d[4] - (p2 + q2) * d[2]) + (p2 * q2) * d[0];
  out[1] = ep + op;
  out[2] = ep - op;
  out[3] = eq + oq;
  out[4] = eq - oq;
  out[5] = (d[5] - (p2 + q2) * d[3]) + (p2 * q2) * d[1];
}

// G: three taps at the points.
template <typename V>
inline void filter(const V (&w)[3], V (&out)[6]) {
  const V ep = gp * (w[0] + p2 * w[2]), op = (gp * p1) * w[1];
  const V eq = gq * (w[0] + q2 * w[2]), oq = (gq * q1) * w[1];
  out[0] = g0 * w[0];
  out[1] = ep + op;
  out[2] = ep - op;
  out[3] = eq + oq;
  out[4] = eq - oq;
  out[5] = w[2];
}

// A^T: four outputs from the products.
template <typename V>
inline void outputs(const V (&m)[6], V (&y)[4]) {
  const V sp = m[1] + m[2], dp = m[1] - m[2];
  const V sq = m[3] + m[4], dq = m[3] - m[4];
  y[0] = m[0] + sp + sq;
  y[1] = p1 * dp + q1 * dq;
  y[2] = p2 * sp + q2 * sq;
  y[3] = p3 * dp + (q3 * dq + m[5]);
}

// The transposed pair, for F(3, 4): four taps at the points ...
template <typename V>
inline void filter4(const V (&w)[4], V (&out)[6]) {
  const V ep = gp * (w[0] + p2 * w[2]), op = (gp * p1) * (w[1] + p2 * w[3]);
  const V eq = gq * (w[0] + q2 * w[2]), oq = (gq * q1) * (w[1] + q2 * w[3]);
  out[0] = g0 * w[0];
  out[1] = ep + op;
  out[2] = ep - op;
  out[3] = eq + oq;
  out[4] = eq - oq;
  out[5] = w[3];
}

// ... and three outputs from the products.
template <typename V>
inline void outputs3(const V (&m)[6], V (&y)[3]) {
  const V sp = m[1] + m[2], dp = m[1] - m[2];
  const V sq = m[3] + m[4], dq = m[3] - m[4];
  y[0] = m[0] + sp + sq;
  y[1] = p1 * dp + q1 * dq;
  y[2] = p2 * sp + (q2 * sq + m[5]);
}

// Where results go one after the other, `stride` apart. The step is hidden from
// the compiler, which would keep all 36 addresses in registers, and those, in
// turn, on the stack.
template <typename A>
struct Points {
  A* to;
  int64_t stride;
  void operator()(Vec<A> point) {
    store(to, point);
    to += stride;
    asm("" : "+r"(to));
  }
};

// Both dimensions: T(d) along rows and along columns. Where one dimension has a
// single point, only along the other. d = get(row, column) is read column by
// column and put(value) takes the results row by row: what lies between is more
// than the registers hold, and neither all of d nor all results are beside it.
template <
    int From,
    int To,
    bool Tall,
    typename V,
    typename G,
    typename P,
    typename T>
inline __attribute__((always_inline)) void both(G get, P&& put, T transform) {
  constexpr int high = Tall ? To : 1;
  V half[high * From];
#pragma GCC unroll 6
  for (int x = 0; x < From; ++x) {
    if constexpr (Tall) {
      V a[From], b[To];
#pragma GCC unroll 6
      for (int r = 0; r < From; ++r) {
        a[r] = get(r, x);
      }
      transform(a, b);
#pragma GCC unroll 6
      for (int r = 0; r < To; ++r) {
        half[r * From + x] = b[r];
      }
    } else {
      half[x] = get(0, x);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < high; ++r) {
    V a[From], b[To];
#pragma GCC unroll 6
    for (int x = 0; x < From; ++x) {
      a[x] = half[r * From + x];
    }
    transform(a, b);
#pragma GCC unroll 6
    for (int x = 0; x < To; ++x) {
      put(b[x]);
    }
  }
}

} // namespace winograd
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
