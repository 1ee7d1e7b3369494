// Vectors of the instruction set that this file is built for (FACECORE_ISA = base, avx2 or avx512).
// Included by csrc/simd/*.cpp only. Those files hold no std:: templates and call no inline function of other headers:
// the linker keeps one copy of such a function, and it could be the one that needs AVX.
#pragma once
#include <math.h>

#ifndef FACECORE_ISA
#error "csrc/simd files are built with -DFACECORE_ISA=base|avx2|avx512"
#endif
#define FACECORE_JOIN_(a, b) a##b
#define FACECORE_JOIN(a, b) FACECORE_JOIN_(a, b)
#define FACECORE_SIMD_NAMESPACE FACECORE_JOIN(simd_, FACECORE_ISA)  // simd_base, simd_avx2, simd_avx512

namespace facecore {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;  // SSE2 on x86-64, NEON on aarch64
#endif

#if defined(__GNUC__)  // GCC and Clang
#define FACECORE_UNROLL _Pragma("GCC unroll 16")
#define FACECORE_INLINE inline __attribute__((always_inline))
template <class T, int bytes> struct Vector {
  static constexpr int lanes = bytes / static_cast<int>(sizeof(T));
  typedef T type __attribute__((vector_size(bytes)));
  typedef T unaligned __attribute__((vector_size(bytes), aligned(alignof(T)), may_alias));
  static FACECORE_INLINE type load(const T* p) { return *reinterpret_cast<const unaligned*>(p); }
  static FACECORE_INLINE void store(T* p, type v) { *reinterpret_cast<unaligned*>(p) = v; }
};
#else  // any C++17 compiler: one lane
#define FACECORE_UNROLL
#define FACECORE_INLINE inline
template <class T, int bytes> struct Vector {
  static constexpr int lanes = 1;
  typedef T type;
  static FACECORE_INLINE type load(const T* p) { return *p; }
  static FACECORE_INLINE void store(T* p, type v) { *p = v; }
};
#endif

template <class T> struct Scalar {  // the same interface, for what is left of a row after its last vector
  static constexpr int lanes = 1;
  typedef T type;
  static FACECORE_INLINE type load(const T* p) { return *p; }
  static FACECORE_INLINE void store(T* p, type v) { *p = v; }
};

template <class T, class V> FACECORE_INLINE double sum_of_lanes(typename V::type x) {
  T lanes[V::lanes];
  V::store(lanes, x);
  double sum = 0;
  for (int l = 0; l < V::lanes; ++l) sum += lanes[l];
  return sum;
}

FACECORE_INLINE float root(float x) { return ::sqrtf(x); }  // C's, which is no inline function that a linker could pick
FACECORE_INLINE double root(double x) { return ::sqrt(x); }

}  // namespace
}  // namespace facecore
