// out[n,p,c] = sum_b H_b(normals[n,p]) sh_coefficients[n,b,c]: second-order spherical harmonic shading (METHODS 1.5).
// The device's bodies; the host shades blocks of points by simd/sh_points.h. Both use core/spherical_harmonics.h.
#pragma once
#include "core/host_device.h"
#include "core/spherical_harmonics.h"

namespace facecore {

template <class T> struct ShShading {  // item = point
  int64_t num_points;
  const T* normals;          // [N, P, 3]
  const T* sh_coefficients;  // [N, 9, 3]
  T* out;                    // [N, P, 3]

  FACECORE_HD void operator()(int64_t image, int64_t point) const {
    const int64_t i = 3 * (image * num_points + point);
    const T normal[3] = {normals[i], normals[i + 1], normals[i + 2]};
    T basis[kShTerms], light[3];
    sh_light(normal, sh_coefficients + image * kShTerms * 3, basis, light);
    for (int c = 0; c < 3; ++c) out[i + c] = light[c];
  }
};

// Gradients of every num_blocks-th point: neighbouring threads read neighbouring points. The coefficients' gradient is
// summed over the block's points here and over the blocks, in their order, by the caller: the result depends on neither
// threads nor atomics.
template <class T> struct ShShadingBackward {  // item = block
  int64_t num_points, num_blocks, block_size;  // the host's blocks are block_size consecutive points
  const T* grad_out;                           // [N, P, 3]
  const T* normals;                            // [N, P, 3]
  const T* sh_coefficients;                    // [N, 9, 3]
  T* grad_normals;                             // [N, P, 3]
  T* partial;                                  // [N, B, 9, 3]

  FACECORE_HD void operator()(int64_t image, int64_t block) const {
    T sum[kShTerms * 3];
    for (int k = 0; k < kShTerms * 3; ++k) sum[k] = T(0);
    for (int64_t point = block; point < num_points; point += num_blocks) {
      const int64_t i = 3 * (image * num_points + point);
      const T normal[3] = {normals[i], normals[i + 1], normals[i + 2]};
      const T grad[3] = {grad_out[i], grad_out[i + 1], grad_out[i + 2]};
      T basis[kShTerms], grad_normal[3];
      sh_basis<T>(normal[0], normal[1], normal[2], basis);
      sh_light_backward(normal, sh_coefficients + image * kShTerms * 3, basis, grad, grad_normal, sum);
      for (int c = 0; c < 3; ++c) grad_normals[i + c] = grad_normal[c];
    }
    for (int k = 0; k < kShTerms * 3; ++k) partial[(image * num_blocks + block) * kShTerms * 3 + k] = sum[k];
  }
};

}  // namespace facecore
