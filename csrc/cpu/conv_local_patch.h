// Patches: what columns read of x, gathered, and gradients scattered back; and
// what the gradients read of gy. Read once per instruction set.

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

template <typename T>
T* at(T* base, const Strides& s, const LocalColumn& column, int64_t channel) {
  return base + column.n * s.n + channel * s.c + column.o[0] * s.s[0] +
      column.o[1] * s.s[1] + column.o[2] * s.s[2];
}

// f(column, its taps, number in the block) for columns [first, last) of a class.
template <typename F>
void each_column(
    const LocalProblem& p,
    const LocalTables& tables,
    const LocalClass& k,
    int64_t first,
    int64_t last,
    int64_t* off,
    const F& f) {
  if (first >= last) {
    return;
  }
  LocalColumn column(p, k, first);
  LocalTaps taps = local_taps(p.conv, tables, column.o, off);
  for (int64_t i = 0;; ++i) {
    f(column, taps, i);
    if (first + i + 1 == last) {
      return;
    }
    column.next(p, k);
    taps = local_taps(p.conv, tables, column.o, off);
  }
}

// f(channel, number of the tap, offset) for each element of a patch that is not
// a padding zero; zero(...) for those that are. Rows of the kernel that lie
// gapless in memory are the common case, 3 taps the most common.
template <typename F, typename Z>
inline void each_tap(
    const ConvProblem& c,
    const LocalTaps& at,
    int64_t count,
    const F& f,
    const Z& zero) {
  const int64_t taps = c.taps(), row = c.kernel[2];
  if (at.interior && c.x.s[2] * c.dilation[2] == 1) {
    for (int64_t ch = 0; ch < count; ++ch) {
      const int64_t from = ch * c.x.c + at.base;
      for (int64_t t = 0; t < taps; t += row) {
        const int64_t off = from + at.off[t], to = ch * taps + t;
        if (row == 3) {
          f(to, off);
          f(to + 1, off + 1);
          f(to + 2, off + 2);
        } else {
          for (int64_t i = 0; i < row; ++i) {
            f(to + i, off + i);
          }
        }
      }
    }
    return;
  }
  for (int64_t ch = 0; ch < count; ++ch) {
    const int64_t from = ch * c.x.c + at.base;
    for (int64_t t = 0; t < taps; ++t) {
      if (at.off[t] >= 0) {
        f(ch * taps + t, from + at.off[t]);
      } else {
        zero(ch * taps + t);
      }
    }
  }
}

// The patch of one column: `count` channels from plane on.
template <typename S>
void gather(
    const ConvProblem& c,
    const LocalTaps& at,
    const S* plane,
    int64_t count,
    acc_t<S>* patch,
    int64_t padded) {
  using A = acc_t<S>;
  each_tap(
      c,
      at,
      count,
      [&](int64_t i, int64_t off) { patch[i] = static_cast<A>(plane[off]); },
      [&](int64_t i) { patch[i] = A(0); });
  std::fill(patch + count * c.taps(), patch + padded, A(0));
}

// Adds a column's patch of input gradients to where it was read from.
template <typename A>
void scatter(
    const ConvProblem& c,
    const LocalTaps& at,
    const A* patch,
    int64_t count,
    A* plane) {
  each_tap(
      c,
      at,
      count,
      [&](int64_t i, int64_t off) { plane[off] += patch[i]; },
      [](int64_t) {});
}

// The patches of columns [first, last) with columns in the lanes: row i holds
// element i of every patch, kLocalMaxColumns apart. Columns that follow one
// another in a row of the output read along a row of x.
template <typename S>
void gather_wide(
    const LocalProblem& p,
    const LocalTables& tables,
    const LocalClass& k,
    int64_t first,
    int64_t last,
    const S* x,
    int64_t count,
    acc_t<S>* patch) {
  using A = acc_t<S>;
  const ConvProblem& c = p.conv;
  const int64_t K = c.kernel[2], step = p.tile[2] * c.stride[2] * c.x.s[2];
  for (int64_t q = first; q < last;) {
    const LocalColumn column(p, k, q);
    const int64_t left = (c.out[2] - column.o[2] - 1) / p.tile[2] + 1;
    const int64_t m = std::min(left, last - q);
    // Columns whose taps of the last dimension are all inside: one stretch.
    const auto inside = [&](int64_t j) {
      const int64_t from =
          (column.o[2] + j * p.tile[2]) * c.stride[2] - c.low[2];
      return from >= 0 && from + (K - 1) * c.dilation[2] < c.in[2];
    };
    int64_t j0 = 0, j1 = m;
    while (j0 < m && !inside(j0)) {
      ++j0;
    }
    while (j1 > j0 && !inside(j1 - 1)) {
      --j1;
    }
    A* to = patch + (q - first);
    const int64_t* along = tables.source[2] + column.o[2] * K;
    for (int64_t ch = 0; ch < count; ++ch) {
      const S* plane = x + column.n * c.x.n + ch * c.x.c;
      for (int64_t a = 0; a < c.kernel[0]; ++a) {
        const int64_t depth = tables.source[0][column.o[0] * c.kernel[0] + a];
        for (int64_t b = 0; b < c.kernel[1]; ++b) {
          const int64_t height =
              tables.source[1][column.o[1] * c.kernel[1] + b];
          const bool empty = depth < 0 || height < 0;
          const S* row = empty ? nullptr : plane + depth + height;
          for (int64_t t = 0; t < K; ++t, to += kLocalMaxColumns) {
            if (empty) {
              std::fill(to, to + m, A(0));
              continue;
            }
            const auto border = [&](int64_t j) {
              const int64_t off = along[j * p.tile[2] * K + t];
              to[j] = off < 0 ? A(0) : static_cast<A>(row[off]);
            };
            for (int64_t j = 0; j < j0; ++j) {
              border(j);
            }
            if (j0 < j1) {
              const S* from = row + along[j0 * p.tile[2] * K + t];
              for (int64_t j = j0; j < j1; ++j, from += step) {
                to[j] = static_cast<A>(*from);
              }
            }
            for (int64_t j = j1; j < m; ++j) {
              border(j);
            }
          }
        }
      }
    }
    q += m;
  }
}

// grad[i * rows + r] = gy of row r at column i of [first, last). Along the
// columns first: neighbours share cache lines, rows are planes apart.
template <typename S>
void pack_grad(
    const LocalProblem& p,
    const LocalClass& k,
    int64_t first,
    int64_t last,
    const S* gy,
    int64_t rows,
    acc_t<S>* grad) {
  if (first >= last) {
    return;
  }
  const S* from[kLocalMaxColumns];
  LocalColumn column(p, k, first);
  for (int64_t i = 0; i < last - first; ++i) {
    from[i] = at(gy, p.conv.y, column, 0);
    column.next(p, k);
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < last - first; ++i) {
      grad[i * rows + r] = static_cast<acc_t<S>>(from[i][r * p.conv.y.c]);
    }
  }
}

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
