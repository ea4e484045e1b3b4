// Compiles one kernel source for AVX-512 alone, the way foreach_isa.h does for
// every instruction set: for kernels that are nothing without masks, beside
// others that do the same without. Entry points ask active_isa() first.
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "core/dtype.h"
#include "cpu/isa.h"

#ifndef TC_SELF
#error "define TC_SELF before including avx512_only.h"
#endif

#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target( \
    "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#define TC_ISA avx512
#define TC_AVX2 1
#define TC_AVX512 1
#define TC_VECTOR_BYTES 64
#define TC_REGISTERS 32
#include TC_SELF
#undef TC_ISA
#undef TC_VECTOR_BYTES
#undef TC_REGISTERS
#undef TC_AVX2
#undef TC_AVX512
#pragma GCC pop_options
#endif
