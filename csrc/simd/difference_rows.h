// Sums of differences over contiguous numbers, and the gradients: arguments of the SIMD kernels of shape_loss (METHODS
// 2.2, 3) and texture_symmetry_loss (METHODS 1.9).
#pragma once
#include <cstdint>

#include "core/simd.h"

namespace facecore {

template <class T> struct Differences {  // d[i] = (a[i] - b[i]) weight[i], 0 <= i < count
  int64_t count;
  const T* a;
  const T* b;
  const T* weight;  // null = 1 everywhere
  bool squared;     // an element counts d^2, not |d|
};

template <class T> struct MirrorRow {  // d[i] = row[i] - row[width-1-i], 0 <= i < width/2
  int64_t width;
  const T* row;
  const uint8_t* valid;  // [width], 1 or 0: a difference counts only where both of its elements do; null = all
};

FACECORE_DECLARE_SIMD(double difference_sum(const Differences<float>& differences))
FACECORE_DECLARE_SIMD(double difference_sum(const Differences<double>& differences))
// Writes scale times the derivatives by a and, negated, by b; a null one is left out.
FACECORE_DECLARE_SIMD(void difference_gradient(const Differences<float>& differences, float scale, float* grad_a,
                                               float* grad_b))
FACECORE_DECLARE_SIMD(void difference_gradient(const Differences<double>& differences, double scale, double* grad_a,
                                               double* grad_b))
FACECORE_DECLARE_SIMD(int64_t mirror_count(int64_t width, const uint8_t* valid))  // of the differences that count
FACECORE_DECLARE_SIMD(double mirror_sum(const MirrorRow<float>& row))             // the sum of |d|
FACECORE_DECLARE_SIMD(double mirror_sum(const MirrorRow<double>& row))
FACECORE_DECLARE_SIMD(void mirror_gradient(const MirrorRow<float>& row, float scale, float* grad))  // [width]
FACECORE_DECLARE_SIMD(void mirror_gradient(const MirrorRow<double>& row, double scale, double* grad))

}  // namespace facecore
