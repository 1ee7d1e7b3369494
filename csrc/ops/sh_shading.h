// out[n,p,c] = sum_b H_b(normals[n,p]) sh_coefficients[n,b,c]: second-order spherical harmonic shading (METHODS 1.5).
#pragma once
#include "core/host_device.h"

namespace facecore {

// a_l c_l of METHODS 1.5 with a = [pi, 2 pi / sqrt 3, 2 pi / sqrt 8], c = [1 / sqrt(4 pi), sqrt 3 / sqrt(4 pi),
// 3 sqrt 5 / sqrt(12 pi)], the constants of Deep3DFaceRecon's basis; H_6 and H_8 carry a further factor.
constexpr double kShBand0 = 0.8862269254527579;  // sqrt(pi) / 2
constexpr double kShBand1 = 1.7724538509055159;  // sqrt(pi)
constexpr double kShBand2 = 2.427032390694624;   // sqrt(15 pi / 8)
constexpr double kShH6 = 0.700623902049741;      // kShBand2 / (2 sqrt 3)
constexpr double kShH8 = 1.213516195347312;      // kShBand2 / 2
constexpr int kShTerms = 9;

template <class T> FACECORE_HD void sh_basis(T x, T y, T z, T* basis) {
  basis[0] = T(kShBand0);
  basis[1] = T(-kShBand1) * y;
  basis[2] = T(kShBand1) * z;
  basis[3] = T(-kShBand1) * x;
  basis[4] = T(kShBand2) * (x * y);
  basis[5] = T(-kShBand2) * (y * z);
  basis[6] = T(kShH6) * (T(3) * (z * z) - T(1));
  basis[7] = T(-kShBand2) * (x * z);
  basis[8] = T(kShH8) * (x * x - y * y);
}

// grad = sum_b weight_b dH_b/d(x, y, z)
template <class T> FACECORE_HD void sh_basis_backward(T x, T y, T z, const T* weight, T* grad) {
  const T band1 = T(kShBand1), band2 = T(kShBand2), h8 = T(2 * kShH8);
  grad[0] = -band1 * weight[3] + band2 * (y * weight[4] - z * weight[7]) + h8 * (x * weight[8]);
  grad[1] = -band1 * weight[1] + band2 * (x * weight[4] - z * weight[5]) - h8 * (y * weight[8]);
  grad[2] = band1 * weight[2] - band2 * (y * weight[5] + x * weight[7]) + T(6 * kShH6) * (z * weight[6]);
}

template <class T> struct ShShading {  // item = point
  int64_t num_points;
  const T* normals;          // [N, P, 3]
  const T* sh_coefficients;  // [N, 9, 3]
  T* out;                    // [N, P, 3]

  FACECORE_HD void operator()(int64_t image, int64_t point) const {
    const int64_t i = 3 * (image * num_points + point);
    const T* light = sh_coefficients + image * kShTerms * 3;
    T basis[kShTerms], sum[3] = {T(0), T(0), T(0)};
    sh_basis(normals[i], normals[i + 1], normals[i + 2], basis);
    for (int b = 0; b < kShTerms; ++b)
      for (int c = 0; c < 3; ++c) sum[c] += basis[b] * light[3 * b + c];
    for (int c = 0; c < 3; ++c) out[i + c] = sum[c];
  }
};

// Gradients of a block of consecutive points. The coefficients' gradient is summed inside the block here and over the
// blocks, in their order, by the caller: the result depends on neither threads nor atomics.
template <class T> struct ShShadingBackward {  // item = block
  int64_t num_points, num_blocks, block_size;
  const T* grad_out;         // [N, P, 3]
  const T* normals;          // [N, P, 3]
  const T* sh_coefficients;  // [N, 9, 3]
  T* grad_normals;           // [N, P, 3]; absent when not wanted
  T* partial;                // [N, B, 9, 3]; absent when not wanted

  FACECORE_HD void operator()(int64_t image, int64_t block) const {
    const int64_t begin = block * block_size, limit = begin + block_size;
    const int64_t end = limit < num_points ? limit : num_points;
    const T* light = sh_coefficients + image * kShTerms * 3;
    T sum[kShTerms * 3];
    for (int k = 0; k < kShTerms * 3; ++k) sum[k] = T(0);
    for (int64_t point = begin; point < end; ++point) {
      const int64_t i = 3 * (image * num_points + point);
      const T grad[3] = {grad_out[i], grad_out[i + 1], grad_out[i + 2]};
      T basis[kShTerms], weight[kShTerms];
      sh_basis(normals[i], normals[i + 1], normals[i + 2], basis);
      for (int b = 0; b < kShTerms; ++b) {
        weight[b] = light[3 * b] * grad[0] + light[3 * b + 1] * grad[1] + light[3 * b + 2] * grad[2];
        for (int c = 0; c < 3; ++c) sum[3 * b + c] += basis[b] * grad[c];
      }
      if (grad_normals) sh_basis_backward(normals[i], normals[i + 1], normals[i + 2], weight, grad_normals + i);
    }
    if (!partial) return;
    for (int k = 0; k < kShTerms * 3; ++k) partial[(image * num_blocks + block) * kShTerms * 3 + k] = sum[k];
  }
};

}  // namespace facecore
