// Compiles one kernel source once per instruction set, inside one translation
// unit. A kernel file k.cpp is written so:
//
//     #include <standard headers>           // all of them, before any target
//     #include "core/..."                   // region opens (ODR: inline
//                                           // functions stay baseline code)
//     #ifndef TC_ISA                        // first reading of the file
//     #define TC_SELF "cpu/k.cpp"
//     #include "cpu/foreach_isa.h"          // reads k.cpp once per ISA
//     ... code that exists once: entry points that call TC_DISPATCH(fn)(...)
//     #else                                 // reading for one ISA
//     #include "cpu/simd.h"
//     namespace torchconv { namespace cpu { namespace TC_ISA {
//     ... kernels, in terms of Vec<T> and kVectorBytes
//     }}}
//     #endif
//
// A file with fast ways around a complete one may define TC_WIDE_ONLY before:
// where there are vectors wider than the baseline's it is then not compiled for
// the baseline, and must not be called there.
//
// TC_DISPATCH(fn) is the variant of fn for active_isa(). Only pointers and
// plain structs may cross that call: vector types have different sizes on
// either side. Templates named in TC_DISPATCH are instantiated explicitly at
// the end of the region. Entry points keep distinct names per file: they share
// the namespace torchconv::cpu::<isa>; helpers go in an anonymous namespace.
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "core/dtype.h"
#include "cpu/isa.h"

#ifndef TC_SELF
#error "define TC_SELF before including foreach_isa.h"
#endif

#if !defined(__x86_64__) || !defined(TC_WIDE_ONLY)
#define TC_ISA baseline
#define TC_VECTOR_BYTES 16
#define TC_REGISTERS 16
#include TC_SELF
#undef TC_ISA
#undef TC_VECTOR_BYTES
#undef TC_REGISTERS
#endif

#if defined(__x86_64__)

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#define TC_ISA avx2
#define TC_AVX2 1
#define TC_VECTOR_BYTES 32
#define TC_REGISTERS 16
#include TC_SELF
#undef TC_ISA
#undef TC_VECTOR_BYTES
#undef TC_REGISTERS
#undef TC_AVX2
#pragma GCC pop_options

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

#if defined(TC_WIDE_ONLY)
#define TC_DISPATCH(...)                                           \
  (::torchconv::cpu::active_isa() == ::torchconv::cpu::Isa::avx512 \
       ? &::torchconv::cpu::avx512::__VA_ARGS__                    \
       : &::torchconv::cpu::avx2::__VA_ARGS__)
#else
#define TC_DISPATCH(...)                                               \
  (::torchconv::cpu::active_isa() == ::torchconv::cpu::Isa::avx512     \
       ? &::torchconv::cpu::avx512::__VA_ARGS__                        \
       : ::torchconv::cpu::active_isa() == ::torchconv::cpu::Isa::avx2 \
       ? &::torchconv::cpu::avx2::__VA_ARGS__                          \
       : &::torchconv::cpu::baseline::__VA_ARGS__)
#endif

#else

#define TC_DISPATCH(...) (&::torchconv::cpu::baseline::__VA_ARGS__)

#endif
