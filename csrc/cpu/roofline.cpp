// Floating-point and copy rates of the machine (roofline.h).
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>

#include "core/dtype.h"
#include "core/parallel.h"
#include "cpu/isa.h"
#include "cpu/roofline.h"

#ifndef TC_ISA
#define TC_SELF "cpu/roofline.cpp"
#include "cpu/foreach_isa.h"

namespace torchconv {
namespace cpu {
namespace {

// Enough for the latency (4 cycles) of two multiply-adds a cycle.
constexpr int64_t kRounds = 4096;

#if defined(__x86_64__)
constexpr int kBf16Chains = 12;
__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))) double
bf16_chains(int64_t rounds, float* sink) {
  __m512 acc[kBf16Chains];
  for (int i = 0; i < kBf16Chains; ++i) {
    acc[i] = _mm512_set1_ps(static_cast<float>(i));
  }
  const __m512bh a = (__m512bh)_mm512_set1_epi32(0x00010001);
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < kBf16Chains; ++i) {
      acc[i] = _mm512_dpbf16_ps(acc[i], a, a);
    }
  }
  for (int i = 0; i < kBf16Chains; ++i) {
    *sink += acc[i][0];
  }
  return 4.0 * 16 * kBf16Chains * rounds;
}

bool has_bf16_dots() {
  return active_isa() == Isa::avx512 && __builtin_cpu_supports("avx512bf16");
}
#endif

double chains(DType dtype, float* sink) {
#if defined(__x86_64__)
  if (dtype == DType::bf16 && has_bf16_dots()) {
    return bf16_chains(kRounds, sink);
  }
#endif
  return dtype == DType::f64 ? TC_DISPATCH(fma_chains<double>)(kRounds, sink)
                             : TC_DISPATCH(fma_chains<float>)(kRounds, sink);
}

// The best rate of samples: each calls work(repeats) on every thread, which
// returns what one thread did; repeats grow until a sample is long enough to
// hide its start.
template <typename F>
double best_rate(double seconds, const F& work) {
  using Clock = std::chrono::steady_clock;
  const int threads = pool_threads();
  std::unique_ptr<double[]> done(new double[threads]);
  const auto begin = Clock::now();
  double best = 0;
  int64_t repeats = 1;
  do {
    const auto start = Clock::now();
    parallel_for(threads, 1, [&](int64_t from, int64_t to) {
      for (int64_t i = from; i < to; ++i) {
        done[i] = work(i, threads, repeats);
      }
    });
    const double took =
        std::chrono::duration<double>(Clock::now() - start).count();
    if (took < seconds / 20) {
      repeats *= 2;
    }
    double total = 0;
    for (int i = 0; i < threads; ++i) {
      total += done[i];
    }
    best = std::max(best, total / took);
  } while (std::chrono::duration<double>(Clock::now() - begin).count() <
           seconds);
  return best;
}

} // namespace

double fma_peak(DType dtype, double seconds) {
  return best_rate(seconds, [&](int64_t, int, int64_t repeats) {
    volatile float sink = 0;
    double flops = 0;
    for (int64_t r = 0; r < repeats; ++r) {
      float sum = 0;
      flops += chains(dtype, &sum);
      sink = sink + sum;
    }
    return flops;
  });
}

double copy_peak(int64_t bytes, double seconds) {
  const int64_t half = std::max<int64_t>(bytes / 2 / 64 * 64, 64);
  std::unique_ptr<char[]> memory(new char[2 * half + 64]);
  std::memset(memory.get(), 1, 2 * half + 64); // touches every page
  char* source = memory.get();
  source += (64 - reinterpret_cast<uintptr_t>(source) % 64) % 64;
  char* target = source + half;
  double best = 0;
  for (const bool library : {false, true}) {
    const double rate =
        best_rate(seconds / 2, [&](int64_t i, int threads, int64_t repeats) {
          const int64_t part = (half / 64 + threads - 1) / threads * 64;
          const int64_t begin = std::min(i * part, half);
          const int64_t size = std::min(begin + part, half) - begin;
          for (int64_t r = 0; r < repeats; ++r) {
            if (library) {
              std::memcpy(target + begin, source + begin, size);
            } else {
              TC_DISPATCH(copy_vectors)(target + begin, source + begin, size);
            }
            // The compiler must not drop a copy that the next one repeats.
            __asm__ volatile("" : : "r"(target) : "memory");
          }
          return 2.0 * size * repeats;
        });
    best = std::max(best, rate);
  }
  return best;
}

} // namespace cpu
} // namespace torchconv

#else

#include "cpu/simd.h"

namespace torchconv {
namespace cpu {
namespace TC_ISA {

template <typename T>
double fma_chains(int64_t rounds, float* sink) {
  constexpr int kChains = kRegisters == 32 ? 16 : 10;
  Vec<T> acc[kChains];
  for (int i = 0; i < kChains; ++i) {
    acc[i] = broadcast(static_cast<T>(i));
  }
  const Vec<T> a = broadcast(static_cast<T>(0.5));
  const Vec<T> b = broadcast(static_cast<T>(0.25));
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) {
      acc[i] = acc[i] * a + b;
    }
  }
  for (int i = 0; i < kChains; ++i) {
    *sink += static_cast<float>(acc[i][0]);
  }
  return 2.0 * kLanes<T> * kChains * rounds;
}

template double fma_chains<float>(int64_t, float*);
template double fma_chains<double>(int64_t, float*);

// size is a multiple of 64 bytes.
void copy_vectors(char* target, const char* source, int64_t size) {
  for (int64_t i = 0; i < size; i += 64) {
    for (int j = 0; j < 64; j += kVectorBytes) {
      store(target + i + j, load(source + i + j));
    }
  }
}

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

#endif
