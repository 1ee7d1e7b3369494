// Weighted moments of values that lie channel beside channel, and the gradient of their variance: arguments of the SIMD
// kernels of flattening_loss (METHODS 4, L_tex).
#pragma once
#include <cstdint>

#include "core/simd.h"

namespace facecore {

template <class T> struct WeightedRow {  // `count` values of the channels 0, 1, ..., C-1, 0, 1, ...
  int64_t count, channels;
  const T* values;
  const T* weights;  // [count], not negative; where one is 0 the value never matters
  const T* pivots;   // [C], near the values: moments are taken about them, as a variance of large numbers cancels
};

constexpr int64_t kWeightedLanes = 16;  // at most, of a vector

// Returns the sum of the region's weights [count] that are positive; writes them, and 0 for the others, once for each
// channel of a vertex to weights [count, C] unless that is null.
template <class T>
using SpreadWeightsKernel = double(const T* region, int64_t count, int64_t channels, T* weights);
// Adds sum w b and sum w b^2 of b = a - pivot, in doubles, to sums [C, 2]; scratch: 3 C kWeightedLanes numbers.
template <class T>
using WeightedMomentsKernel = void(const WeightedRow<T>& row, double* scratch, double* sums);
// Writes scale w (a - center of its channel) [count]; scratch: C kWeightedLanes numbers.
template <class T>
using WeightedGradientKernel = void(const WeightedRow<T>& row, const T* centers, T scale, T* scratch, T* grad);

FACECORE_DECLARE_SIMD(double spread_weights(const float* region, int64_t count, int64_t channels, float* weights))
FACECORE_DECLARE_SIMD(double spread_weights(const double* region, int64_t count, int64_t channels, double* weights))
FACECORE_DECLARE_SIMD(void weighted_moments(const WeightedRow<float>& row, double* scratch, double* sums))
FACECORE_DECLARE_SIMD(void weighted_moments(const WeightedRow<double>& row, double* scratch, double* sums))
FACECORE_DECLARE_SIMD(void weighted_gradient(const WeightedRow<float>& row, const float* centers, float scale,
                                             float* scratch, float* grad))
FACECORE_DECLARE_SIMD(void weighted_gradient(const WeightedRow<double>& row, const double* centers, double scale,
                                             double* scratch, double* grad))

}  // namespace facecore
