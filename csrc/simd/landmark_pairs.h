// Differences of the distances between points (METHODS 2.2, L_gdl,lmk), one point against a row of others.
#pragma once
#include <cstdint>

#include "core/simd.h"

namespace facecore {

// For one image: rows of `size` numbers, padded to whole vectors with points of weight 0.
template <class T> struct LandmarkPairs {
  int64_t size;
  const T* x[2];  // of the predicted points and the target's; 0 where the weight is 0
  const T* y[2];
  const T* weight;  // of the points
  const T* pair;    // [size, size], symmetric, 0 on the diagonal and in the padding
};

struct LandmarkSums {
  double error, weight;  // over the ordered pairs whose first point is the one asked for
};

// The sums of point `a`, and if gradient is not null the derivatives of the sum of errors over unordered pairs by
// (x, y) of point a, predicted and target: gradient[4].
FACECORE_DECLARE_SIMD(LandmarkSums landmark_pairs(const LandmarkPairs<float>& pairs, int64_t a, double* gradient))
FACECORE_DECLARE_SIMD(LandmarkSums landmark_pairs(const LandmarkPairs<double>& pairs, int64_t a, double* gradient))

}  // namespace facecore
