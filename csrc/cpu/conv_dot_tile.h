// Products of bfloat16 pairs: the register tile of conv_dot.h, and how it goes to
// memory. Read once, for AVX512_BF16.

namespace torchconv {
namespace cpu {
namespace TC_ISA {

// What a tile runs over: `pairs` steps that read two elements of the source
// each, then `singles` that read one, so that a neighbour that is no factor is
// not read (it may be infinite). Step r reads a + a_off[r] and the weights b_off[r],
// or, without b_off, r. Row p of acc starts at acc + p * as; it is added to, or set.
struct DotSteps {
  const int64_t* a_off;
  const int64_t* b_off;
  int64_t pairs, singles;
};

template <int P, int V, bool Indexed>
void dot_tile(
    const uint16_t* __restrict a,
    int64_t ps,
    const uint16_t* __restrict b,
    const DotSteps& steps,
    float* __restrict acc,
    int64_t as,
    bool add) {
  __m512 c[P][V];
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      c[p][v] = _mm512_setzero_ps();
    }
  }
  if (add) {
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        c[p][v] = _mm512_loadu_ps(acc + p * as + v * 16);
      }
    }
  }
  const int64_t* __restrict a_off = steps.a_off;
  const int64_t* __restrict b_off = steps.b_off;
  const auto step = [&](int64_t r, auto read) {
    const uint16_t* ar = a + a_off[r];
    const uint16_t* br = b + (Indexed ? b_off[r] : r) * (V * 32);
    __m512bh y[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      y[v] = (__m512bh)_mm512_loadu_si512(br + v * 32);
    }
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
      const __m512bh x = (__m512bh)_mm512_set1_epi32(read(ar + p * ps));
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        c[p][v] = _mm512_dpbf16_ps(c[p][v], x, y[v]);
      }
    }
  };
  int64_t r = 0;
  for (; r < steps.pairs; ++r) {
    step(r, [](const uint16_t* from) {
      int pair;
      std::memcpy(&pair, from, 4);
      return pair;
    });
  }
  for (; r < steps.pairs + steps.singles; ++r) {
    step(r, [](const uint16_t* from) { return static_cast<int>(*from); });
  }
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      _mm512_storeu_ps(acc + p * as + v * 16, c[p][v]);
    }
  }
}

using DotFn = void (*)(
    const uint16_t*,
    int64_t,
    const uint16_t*,
    const DotSteps&,
    float*,
    int64_t,
    bool);

template <int V, bool Indexed, int... P>
inline DotFn dot_of_rows(int rows, std::integer_sequence<int, P...>) {
  static constexpr DotFn table[] = {dot_tile<P + 1, V, Indexed>...};
  return table[rows - 1];
}
template <bool Indexed>
inline DotFn dot_function(int rows, int vectors) {
  return vectors == 4
      ? dot_of_rows<4, Indexed>(rows, std::make_integer_sequence<int, 7>())
      : vectors == 2
      ? dot_of_rows<2, Indexed>(rows, std::make_integer_sequence<int, 14>())
      : dot_of_rows<1, Indexed>(rows, std::make_integer_sequence<int, 14>());
}

// store_tile (conv_pack.h) with the processor's own rounding to bfloat16.
inline void dot_store(
    const float* acc,
    int rows,
    int width,
    int valid,
    const float* bias,
    bfloat16* dst,
    int64_t lane_stride,
    int64_t pixel_stride) {
  if (lane_stride != 1 && pixel_stride != 1) {
    store_tile<bfloat16>(
        acc, rows, width, valid, bias, dst, lane_stride, pixel_stride);
    return;
  }
  const auto put = [](bfloat16* to, Vec<float> x, int n) {
    _mm256_mask_storeu_epi16(
        to,
        static_cast<__mmask16>((1u << n) - 1u),
        (__m256i)_mm512_cvtneps_pbh((__m512)x));
  };
  for (int lane = 0; lane < valid; lane += 16) {
    const int lanes = std::min(16, valid - lane);
    const Vec<float> add = bias == nullptr ? Vec<float>{} : load(bias + lane);
    if (lane_stride == 1) {
      for (int p = 0; p < rows; ++p) {
        put(dst + p * pixel_stride + lane,
            load(acc + p * width + lane) + add,
            lanes);
      }
      continue;
    }
    Vec<float> square[16];
#pragma GCC unroll 16
    for (int p = 0; p < 16; ++p) {
      square[p] = p < rows ? load(acc + p * width + lane) + add : Vec<float>{};
    }
    transpose_block<float>(square);
#pragma GCC unroll 16
    for (int l = 0; l < 16; ++l) {
      if (l < lanes) {
        put(dst + (lane + l) * lane_stride, square[l], rows);
      }
    }
  }
}

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv
