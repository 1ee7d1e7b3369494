// Roots of vectors, and lanes as core/normals.h computes with them. Included by csrc/simd/*.cpp only.
#pragma once
#include <math.h>

#if defined(__SSE2__) && defined(__GNUC__)
#include <immintrin.h>
#endif

#include "simd/vector.h"

namespace facecore {
namespace {

// The roots of the lanes of x. GCC leaves a loop over them scalar, so x86-64 names its instructions.
template <class T> FACECORE_INLINE T root_of(T x, Scalar<T>) { return root(x); }
template <class T, int bytes>
FACECORE_INLINE typename Vector<T, bytes>::type root_of(typename Vector<T, bytes>::type x, Vector<T, bytes>) {
  using V = Vector<T, bytes>;
  alignas(64) T numbers[V::lanes];
  V::store(numbers, x);
  for (int i = 0; i < V::lanes; ++i) numbers[i] = root(numbers[i]);
  return V::load(numbers);
}
#if defined(__SSE2__) && defined(__GNUC__)
template <class T, int bytes> using Lane = typename Vector<T, bytes>::type;
FACECORE_INLINE Lane<float, 16> root_of(Lane<float, 16> x, Vector<float, 16>) { return _mm_sqrt_ps(x); }
FACECORE_INLINE Lane<double, 16> root_of(Lane<double, 16> x, Vector<double, 16>) { return _mm_sqrt_pd(x); }
#endif
#if defined(__AVX2__) && defined(__GNUC__)
FACECORE_INLINE Lane<float, 32> root_of(Lane<float, 32> x, Vector<float, 32>) { return _mm256_sqrt_ps(x); }
FACECORE_INLINE Lane<double, 32> root_of(Lane<double, 32> x, Vector<double, 32>) { return _mm256_sqrt_pd(x); }
#endif
#if defined(__AVX512F__) && defined(__GNUC__)
FACECORE_INLINE Lane<float, 64> root_of(Lane<float, 64> x, Vector<float, 64>) {
  return _mm512_maskz_sqrt_ps(0xffff, x);
}
FACECORE_INLINE Lane<double, 64> root_of(Lane<double, 64> x, Vector<double, 64>) {
  return _mm512_maskz_sqrt_pd(0xff, x);
}
#endif

template <class T, class Vector> struct RootLanes : Vector {
  using scalar = T;
  using type = typename Vector::type;
  static FACECORE_INLINE type root(type x) { return root_of(x, Vector{}); }
};

}  // namespace
}  // namespace facecore
