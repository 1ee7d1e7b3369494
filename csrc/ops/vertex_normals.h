// Unit vertex normals (METHODS 1.5): u_t = normalised (b - a) x (c - a) of a triangle (a, b, c), n_v = normalised sum
// of u_t over the triangles around v. Sums are gathered from a list of corners per vertex, so nothing is added
// atomically and the order is fixed: ascending triangle.
#pragma once
#include <cmath>

#include "core/host_device.h"
#include "core/vector3.h"

namespace facecore {

// The one rule for directions that are not defined: a vector is taken as zero, with zero gradient, when its length is
// at most kNormalEpsilon times its natural scale. That is |b - a| |c - a| for a triangle (the sine of its angle at a),
// and 1 for a sum of unit normals.
constexpr double kNormalEpsilon = 1e-6;

// 1 / |v|, or 0 by the rule above; squared_scale is the square of the natural scale.
template <class T> FACECORE_HD T inverse_length(Vector3<T> v, T squared_scale) {
  const T squared = dot(v, v);
  return squared > T(kNormalEpsilon * kNormalEpsilon) * squared_scale ? T(1) / std::sqrt(squared) : T(0);
}

// The gradient of normalisation: grad_v = (g - u (u . g)) / |v|
template <class T> FACECORE_HD Vector3<T> normalize_backward(Vector3<T> unit, T inverse, Vector3<T> grad) {
  return inverse * (grad - dot(unit, grad) * unit);
}

template <class T> struct NormalsMesh {
  int64_t num_vertices, num_triangles;
  const T* vertices;            // [N, V, 3]
  const int32_t* triangles;     // [T, 3]
  const int32_t* corner_start;  // [V+1]; the corners of vertex v are corners[corner_start[v] .. corner_start[v+1])
  const int32_t* corners;       // [3T]; 3 * triangle + place in the triangle, ascending for each vertex

  FACECORE_HD Vector3<T> position(int64_t image, int64_t corner) const {
    return load3(vertices + 3 * (image * num_vertices + triangles[corner]));
  }
};

template <class T> struct TriangleNormals {  // item = triangle
  NormalsMesh<T> mesh;
  T* unit;  // [N, T, 4]: unit normal, 1 / |(b - a) x (c - a)|; all 0 for a triangle without area

  FACECORE_HD void operator()(int64_t image, int64_t t) const {
    const Vector3<T> a = mesh.position(image, 3 * t);
    const Vector3<T> ab = mesh.position(image, 3 * t + 1) - a, ac = mesh.position(image, 3 * t + 2) - a;
    const Vector3<T> normal = cross(ab, ac);
    const T inverse = inverse_length(normal, dot(ab, ab) * dot(ac, ac));
    T* result = unit + 4 * (image * mesh.num_triangles + t);
    store3(result, inverse * normal);
    result[3] = inverse;
  }
};

template <class T>
FACECORE_HD Vector3<T> sum_of_normals(const NormalsMesh<T>& mesh, const T* unit, int64_t image, int64_t v) {
  Vector3<T> sum{0, 0, 0};
  for (int32_t i = mesh.corner_start[v]; i < mesh.corner_start[v + 1]; ++i)
    sum = sum + load3(unit + 4 * (image * mesh.num_triangles + mesh.corners[i] / 3));
  return sum;
}

template <class T> struct VertexNormals {  // item = vertex
  NormalsMesh<T> mesh;
  const T* unit;  // [N, T, 4] of TriangleNormals
  T* out;         // [N, V, 3]

  FACECORE_HD void operator()(int64_t image, int64_t v) const {
    const Vector3<T> sum = sum_of_normals(mesh, unit, image, v);
    store3(out + 3 * (image * mesh.num_vertices + v), inverse_length(sum, T(1)) * sum);
  }
};

template <class T> struct VertexNormalsSumGradient {  // item = vertex: through the second normalisation
  NormalsMesh<T> mesh;
  const T* unit;      // [N, T, 4] of TriangleNormals
  const T* grad_out;  // [N, V, 3]
  T* grad_sum;        // [N, V, 3]

  FACECORE_HD void operator()(int64_t image, int64_t v) const {
    const int64_t i = 3 * (image * mesh.num_vertices + v);
    const Vector3<T> sum = sum_of_normals(mesh, unit, image, v);
    const T inverse = inverse_length(sum, T(1));
    store3(grad_sum + i, normalize_backward(inverse * sum, inverse, load3(grad_out + i)));
  }
};

template <class T> struct VertexNormalsTriangleGradient {  // item = triangle: through the first normalisation
  NormalsMesh<T> mesh;
  const T* grad_sum;  // [N, V, 3]
  T* unit;            // [N, T, 4] of TriangleNormals; its first three numbers become the gradient of (b - a) x (c - a)

  FACECORE_HD void operator()(int64_t image, int64_t t) const {
    Vector3<T> grad{0, 0, 0};
    for (int k = 0; k < 3; ++k)
      grad = grad + load3(grad_sum + 3 * (image * mesh.num_vertices + mesh.triangles[3 * t + k]));
    T* result = unit + 4 * (image * mesh.num_triangles + t);
    store3(result, normalize_backward(load3(result), result[3], grad));
  }
};

// The cross product is a x b + b x c + c x a, so its gradient at corner k is (corner k+1 - corner k+2) x grad.
template <class T> struct VertexNormalsVertexGradient {  // item = vertex
  NormalsMesh<T> mesh;
  const T* grad_cross;  // [N, T, 4] of VertexNormalsTriangleGradient
  T* grad_vertices;     // [N, V, 3]

  FACECORE_HD void operator()(int64_t image, int64_t v) const {
    Vector3<T> sum{0, 0, 0};
    for (int32_t i = mesh.corner_start[v]; i < mesh.corner_start[v + 1]; ++i) {
      const int64_t t = mesh.corners[i] / 3, k = mesh.corners[i] % 3;
      const Vector3<T> edge = mesh.position(image, 3 * t + (k + 1) % 3) - mesh.position(image, 3 * t + (k + 2) % 3);
      sum = sum + cross(edge, load3(grad_cross + 4 * (image * mesh.num_triangles + t)));
    }
    store3(grad_vertices + 3 * (image * mesh.num_vertices + v), sum);
  }
};

}  // namespace facecore
