// The skin probability of pixels by two mixtures of Gaussians (METHODS 1.10), as a plain struct: the argument of the
// SIMD kernels.
#pragma once
#include <cstdint>

#include "core/simd.h"

namespace facecore {

constexpr int kSkinGaussians = 8;  // the first half is skin
constexpr int kSkinNumbers = 13;   // of a Gaussian: A by rows, b, and the logarithm of its weight

// Gaussian k counts e_k = exp(log_weight_k - |A_k color + b_k|^2 / 2); P = sum of skin's / sum of all.
template <class T> struct SkinPixels {
  int64_t count;
  const T* gaussians;  // [8, 13]
  const T* color[3];   // R, G, B: [count] each
};

FACECORE_DECLARE_SIMD(void skin_probability(const SkinPixels<float>& pixels, float* probability))
FACECORE_DECLARE_SIMD(void skin_probability(const SkinPixels<double>& pixels, double* probability))
// Writes grad_out times dP/dcolor to the three planes `grad`.
FACECORE_DECLARE_SIMD(void skin_gradient(const SkinPixels<float>& pixels, const float* grad_out, float* const* grad))
FACECORE_DECLARE_SIMD(void skin_gradient(const SkinPixels<double>& pixels, const double* grad_out, double* const* grad))

}  // namespace facecore
