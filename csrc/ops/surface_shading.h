// Deferred shading of points: the unit normal, the light on it, and albedo times light (METHODS 1.5).
// The device's bodies; the host shades blocks of points by simd/surface_points.h. Both use core/lit_surface.h.
#pragma once
#include "core/host_device.h"
#include "core/lit_surface.h"

namespace facecore {

template <class T> struct SurfaceShading {  // item = point
  int64_t num_points;
  const T* normals;          // [N, P, 3], of any length
  const T* albedo;           // [N, P, 3]
  const T* sh_coefficients;  // [N, 9, 3]
  T* color;                  // [N, P, 3]
  T* shading;                // [N, P, 3]
  T* unit_normals;           // [N, P, 3]

  FACECORE_HD void operator()(int64_t image, int64_t point) const {
    const int64_t i = 3 * (image * num_points + point);
    const auto surface = lit_surface<Number<T>>(load3(normals + i), sh_coefficients + 3 * kShTerms * image);
    store3(color + i, lit_color(surface, load3(albedo + i)));
    store3(shading + i, surface.light);
    store3(unit_normals + i, surface.unit);
  }
};

// Gradients of every num_blocks-th point, as ShShadingBackward. A gradient of an output that has none is absent.
template <class T> struct SurfaceShadingBackward {  // item = block
  int64_t num_points, num_blocks, block_size;       // the host's blocks are block_size consecutive points
  const T* grad_color;                              // [N, P, 3] or null, as are the next two
  const T* grad_shading;
  const T* grad_unit_normals;
  const T* normals;          // [N, P, 3]
  const T* albedo;           // [N, P, 3]
  const T* sh_coefficients;  // [N, 9, 3]
  T* grad_normals;           // [N, P, 3]
  T* grad_albedo;            // [N, P, 3]
  T* partial;                // [N, B, 9, 3]

  FACECORE_HD void operator()(int64_t image, int64_t block) const {
    const T* coefficients = sh_coefficients + image * kShTerms * 3;
    T sum[kShTerms * 3];
    for (int k = 0; k < kShTerms * 3; ++k) sum[k] = T(0);
    for (int64_t point = block; point < num_points; point += num_blocks) {
      const int64_t i = 3 * (image * num_points + point);
      const auto surface = lit_surface<Number<T>>(load3(normals + i), coefficients);
      const Vector3<T> reflected = load3(albedo + i), light = surface.light, none = {T(0), T(0), T(0)};
      const Vector3<T> color = grad_color ? load3(grad_color + i) : none;
      Vector3<T> grad_light = {color.x * reflected.x, color.y * reflected.y, color.z * reflected.z};
      if (grad_shading) grad_light = grad_light + load3(grad_shading + i);
      const Vector3<T> grad_unit = grad_unit_normals ? load3(grad_unit_normals + i) : none;
      store3(grad_albedo + i, {color.x * light.x, color.y * light.y, color.z * light.z});
      store3(grad_normals + i, lit_surface_backward<Number<T>>(surface, coefficients, grad_light, grad_unit, sum));
    }
    for (int k = 0; k < kShTerms * 3; ++k) partial[(image * num_blocks + block) * kShTerms * 3 + k] = sum[k];
  }
};

}  // namespace facecore
