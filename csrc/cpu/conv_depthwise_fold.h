// The ends of input_grad: phases side by side, and padding back to where it
// came from; read once per instruction set, after conv_depthwise_pack.h.

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// Rows `step` apart, element by element in turns.
template <typename A>
void spread(const A* from, int64_t step, int64_t n, int64_t rows, A* to) {
  constexpr int L = kLanes<A>;
  if (rows == 2) {
    for (int64_t i = 0; i < n; i += L) { // rows are padded to full vectors
      const Vec<A> a = load(from + i), b = load(from + step + i);
      store(to + 2 * i, interleave<0, A>(a, b));
      store(to + 2 * i + L, interleave<1, A>(a, b));
    }
    return;
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < n; ++i) {
      to[i * rows + r] = from[r * step + i];
    }
  }
}

// Adds the padding of the padded planes to the elements it shows, dimension
// by dimension, and writes what is inside.
template <bool Channels, typename D>
void fold(
    const StripShape& s,
    int64_t channels,
    int lanes,
    const acc_t<D>* biases,
    acc_t<D>* padded,
    const Strides& to,
    D* dst) {
  using A = acc_t<D>;
  constexpr int L = kLanes<A>;
  const ConvProblem& p = s.p;
  const int64_t u = s.unit();
  const int64_t* size = s.dest.size;
  const Strides& from = s.dest.stride;
  for (int64_t c = 0; c < channels; ++c) {
    A* plane = padded + c * from.c;
    for (int d = 2; d >= 0; --d) {
      const int e = d == 0 ? 1 : 0, f = d == 2 ? 1 : 2; // the other two
      for (int64_t q = 0; q < size[d]; ++q) {
        const int64_t i = source_index(q - p.low[d], p.in[d], p.mode);
        if (i + p.low[d] == q) {
          continue;
        }
        for (int64_t a = 0; a < size[e]; ++a) {
          for (int64_t b = 0; b < size[f]; ++b) {
            A* x = plane + a * from.s[e] + b * from.s[f];
            for (int64_t l = 0; l < u; ++l) {
              x[(i + p.low[d]) * from.s[d] + l] += x[q * from.s[d] + l];
            }
          }
        }
      }
    }
    for (int64_t i = 0; i < p.in[0]; ++i) {
      for (int64_t j = 0; j < p.in[1]; ++j) {
        A* x = plane + (i + p.low[0]) * from.s[0] + (j + p.low[1]) * from.s[1] +
            p.low[2] * from.s[2];
        for (int64_t v = 0; v < p.in[2] * u; ++v) {
          x[v] += biases[Channels ? v % L : c];
        }
        D* line = dst + c * to.c + i * to.s[0] + j * to.s[1];
        if constexpr (Channels) {
          for (int64_t v = 0; v < p.in[2]; ++v) {
            store_lanes(line + v * to.s[2], load(x + v * L), lanes);
          }
        } else {
          narrow(x, p.in[2], line, to.s[2]);
        }
      }
    }
  }
}

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
