// The products of Winograd's points: a register tile of P tiles x V vectors of
// lanes. Read once per instruction set.

namespace torchconv {
namespace cpu {
namespace TC_ISA {

// M[tile][lane] (+)= sum over blocks of a job's reduction of
//   source[tile] * weights[lane]
// The blocks are those from `first` on whose bits are set in `seen`: pieces of a
// kernel that lack a point have no product there.
template <typename Job>
using WinogradProductFn = void (*)(
    const typename Job::A* source,
    int64_t source_block,
    const Job& job,
    int64_t first,
    uint64_t seen,
    const typename Job::A* weights,
    typename Job::A* m,
    bool add);

template <typename Job>
struct WinogradProduct {
  using A = typename Job::A;
  static constexpr int L = Job::L;
  using Product = WinogradProductFn<Job>;

  template <int P, int V>
  static void product_tile(
      const A* __restrict source,
      int64_t source_block,
      const Job& job,
      int64_t first,
      uint64_t seen,
      const A* __restrict weights,
      A* __restrict m,
      bool add) {
    Vec<A> c[P][V];
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        c[p][v] = Vec<A>{};
      }
    }
    for (int64_t b = first; seen != 0;
         ++b, seen >>= 1, source += source_block) {
      const int steps = job.block_steps(b);
      if ((seen & 1) == 0) {
        weights += steps * V * L;
        continue;
      }
      for (int r = 0; r < steps; ++r) {
        Vec<A> y[V];
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          y[v] = load(weights + v * L);
        }
        weights += V * L;
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) {
          const A x = source[p * L + r];
#pragma GCC unroll 4
          for (int v = 0; v < V; ++v) {
            c[p][v] += x * y[v];
          }
        }
      }
    }
    if (add) {
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          c[p][v] += load(m + (p * V + v) * L);
        }
      }
    }
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        store(m + (p * V + v) * L, c[p][v]);
      }
    }
  }
  template <int V, int... P>
  static Product product_of(int rows, std::integer_sequence<int, P...>) {
    static constexpr Product table[] = {product_tile<P + 1, V>...};
    return table[rows - 1];
  }
  static Product of(int vectors, int rows) {
    if constexpr (Job::kWide == 4) {
      if (vectors == 4) {
        return product_of<4>(
            rows, std::make_integer_sequence<int, Job::kRows / 2>());
      }
    }
    return vectors == 2
        ? product_of<2>(rows, std::make_integer_sequence<int, Job::kRows>())
        : product_of<1>(rows, std::make_integer_sequence<int, Job::kRows>());
  }
};

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
