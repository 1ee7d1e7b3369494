// Unit vertex normals (METHODS 1.5): u_t = normalised (b - a) x (c - a) of a triangle (a, b, c), n_v = normalised sum
// of u_t over the triangles around v, always added in ascending order of the triangles. The device's bodies gather from
// a list of corners per vertex, so that nothing is added atomically; the host adds by simd/mesh_normals.h. Both use
// core/normals.h.
#pragma once
#include "core/normals.h"

namespace facecore {

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
  T* unit;  // [N, T, 4]: unit normal, 1 / |(b - a) x (c - a)|; all 0 for a triangle without area or of no vertices

  FACECORE_HD void operator()(int64_t image, int64_t t) const {
    T* result = unit + 4 * (image * mesh.num_triangles + t);
    for (int k = 0; k < 3; ++k) {
      const int64_t vertex = mesh.triangles[3 * t + k];
      if (vertex >= 0 && vertex < mesh.num_vertices) continue;
      for (int i = 0; i < 4; ++i) result[i] = T(0);
      return;
    }
    const auto normal = triangle_normal<Number<T>>(mesh.position(image, 3 * t), mesh.position(image, 3 * t + 1),
                                                   mesh.position(image, 3 * t + 2));
    store3(result, normal.unit);
    result[3] = normal.inverse;
  }
};

template <class T> struct VertexNormals {  // item = vertex
  NormalsMesh<T> mesh;
  const T* unit;  // [N, T, 4] of TriangleNormals
  T* out;         // [N, V, 3]
  T* inverse;     // [N, V], 1 / length of the sum or 0: for the gradient

  FACECORE_HD void operator()(int64_t image, int64_t v) const {
    Vector3<T> sum{0, 0, 0};
    for (int32_t i = mesh.corner_start[v]; i < mesh.corner_start[v + 1]; ++i)
      sum = sum + load3(unit + 4 * (image * mesh.num_triangles + mesh.corners[i] / 3));
    const int64_t index = image * mesh.num_vertices + v;
    inverse[index] = inverse_length<Number<T>>(sum, T(1));
    store3(out + 3 * index, inverse[index] * sum);
  }
};

template <class T> struct VertexNormalsSumGradient {  // item = vertex: through the second normalisation
  NormalsMesh<T> mesh;
  const T* normals;   // [N, V, 3]
  const T* inverse;   // [N, V] of VertexNormals
  const T* grad_out;  // [N, V, 3]
  T* grad_sum;        // [N, V, 3]

  FACECORE_HD void operator()(int64_t image, int64_t v) const {
    const int64_t i = image * mesh.num_vertices + v;
    store3(grad_sum + 3 * i, normalize_backward(load3(normals + 3 * i), inverse[i], load3(grad_out + 3 * i)));
  }
};

template <class T> struct VertexNormalsTriangleGradient {  // item = triangle: through the first normalisation
  NormalsMesh<T> mesh;
  const T* grad_sum;  // [N, V, 3]
  T* unit;            // [N, T, 4] of TriangleNormals; its first three numbers become the gradient of (b - a) x (c - a)

  FACECORE_HD void operator()(int64_t image, int64_t t) const {
    T* result = unit + 4 * (image * mesh.num_triangles + t);
    if (result[3] == T(0)) return;  // its vertices need not exist
    Vector3<T> grad{0, 0, 0};
    for (int k = 0; k < 3; ++k)
      grad = grad + load3(grad_sum + 3 * (image * mesh.num_vertices + mesh.triangles[3 * t + k]));
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
      const T* grad = grad_cross + 4 * (image * mesh.num_triangles + t);
      if (grad[3] == T(0)) continue;
      const Vector3<T> edge = mesh.position(image, 3 * t + (k + 1) % 3) - mesh.position(image, 3 * t + (k + 2) % 3);
      sum = sum + cross(edge, load3(grad));
    }
    store3(grad_vertices + 3 * (image * mesh.num_vertices + v), sum);
  }
};

}  // namespace facecore
