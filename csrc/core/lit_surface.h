// A point of a surface in spherical-harmonics light (METHODS 1.5), from a normal of any length, and its gradient; for
// numbers and for SIMD vectors. L says what is computed with: Number<T>, or the lanes of a SIMD file.
#pragma once
#include "core/normals.h"
#include "core/spherical_harmonics.h"

namespace facecore {

// Where the normal has no direction (core/normals.h; NaN and infinity have none) all is 0, and so is every gradient.
template <class L> struct LitSurface {
  using V = typename L::type;
  Vector3<V> unit;
  V inverse;  // 1 / length of the normal
  V basis[kShTerms];
  Vector3<V> light;  // sum_b H_b(unit) coefficients_b
};

template <class L>
FACECORE_HD LitSurface<L> lit_surface(Vector3<typename L::type> normal, const typename L::scalar* coefficients) {
  using V = typename L::type;
  using S = typename L::scalar;
  LitSurface<L> s;
  s.inverse = inverse_length<L>(normal, V{} + S(1));
  s.unit = where_positive(s.inverse, s.inverse * normal);
  const V unit[3] = {s.unit.x, s.unit.y, s.unit.z};
  V light[3];
  sh_light(unit, coefficients, s.basis, light);
  s.light = where_positive(s.inverse, Vector3<V>{light[0], light[1], light[2]});
  return s;
}

// Albedo times light.
template <class L>
FACECORE_HD Vector3<typename L::type> lit_color(const LitSurface<L>& s, Vector3<typename L::type> albedo) {
  using V = typename L::type;
  return where_positive(s.inverse, Vector3<V>{albedo.x * s.light.x, albedo.y * s.light.y, albedo.z * s.light.z});
}

// The gradient of the normal from those of the light and of the unit normal; adds the coefficients' to sum [9, 3].
template <class L>
FACECORE_HD Vector3<typename L::type> lit_surface_backward(const LitSurface<L>& s,
                                                           const typename L::scalar* coefficients,
                                                           Vector3<typename L::type> grad_light,
                                                           Vector3<typename L::type> grad_unit, typename L::type* sum) {
  using V = typename L::type;
  const Vector3<V> grad = where_positive(s.inverse, grad_light);
  const V unit[3] = {s.unit.x, s.unit.y, s.unit.z}, of_light[3] = {grad.x, grad.y, grad.z};
  V from_light[3];
  sh_light_backward(unit, coefficients, s.basis, of_light, from_light, sum);
  const Vector3<V> total = grad_unit + Vector3<V>{from_light[0], from_light[1], from_light[2]};
  return where_positive(s.inverse, normalize_backward(s.unit, s.inverse, total));
}

}  // namespace facecore
