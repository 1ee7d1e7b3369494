// Directions with one rule for those that are not defined, and the two halves of vertex normals and of their gradient
// (METHODS 1.5), for numbers and for SIMD vectors. L says what is computed with: Number<T>, or the lanes of a SIMD
// file.
#pragma once
#include <cmath>

#include "core/vector3.h"

namespace facecore {

// The rule: a vector is taken as zero, with zero gradient, when its length is at most kNormalEpsilon times its natural
// scale. That is |b - a| |c - a| for a triangle (the sine of its angle at a), and 1 for a sum of unit normals.
constexpr double kNormalEpsilon = 1e-6;

template <class T> struct Number {
  using scalar = T;
  using type = T;
  static FACECORE_HD T root(T x) { return std::sqrt(x); }
};

// 1 / |v|, or 0 by the rule above; squared_scale is the square of the natural scale.
template <class L>
FACECORE_HD typename L::type inverse_length(Vector3<typename L::type> v, typename L::type squared_scale) {
  using V = typename L::type;
  using S = typename L::scalar;
  const V squared = dot(v, v), one = V{} + S(1), none = V{};
  const V inverse = one / L::root(squared);
  return squared > S(kNormalEpsilon * kNormalEpsilon) * squared_scale ? inverse : none;
}

// The gradient of normalisation: grad_v = (g - u (u . g)) / |v|
template <class V> FACECORE_HD Vector3<V> normalize_backward(Vector3<V> unit, V inverse, Vector3<V> grad) {
  return inverse * (grad - dot(unit, grad) * unit);
}

// All 0 for a triangle without area, and for one with a vertex that is NaN or infinite: nothing of it gets anywhere.
template <class V> struct TriangleNormal {
  Vector3<V> ab, ac, unit;
  V inverse;  // 1 / |ab x ac|
};
template <class V> FACECORE_HD Vector3<V> where_positive(V x, Vector3<V> v) {
  const V none = V{};
  return {x > none ? v.x : none, x > none ? v.y : none, x > none ? v.z : none};
}
template <class L>
FACECORE_HD TriangleNormal<typename L::type> triangle_normal(Vector3<typename L::type> a, Vector3<typename L::type> b,
                                                             Vector3<typename L::type> c) {
  const auto ab = b - a, ac = c - a, normal = cross(ab, ac);
  const auto inverse = inverse_length<L>(normal, dot(ab, ab) * dot(ac, ac));
  return {where_positive(inverse, ab), where_positive(inverse, ac), where_positive(inverse, inverse * normal), inverse};
}

}  // namespace facecore
