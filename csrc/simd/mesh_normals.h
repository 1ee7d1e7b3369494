// Vertex normals of a few images of one mesh side by side, as plain structs: arguments of the SIMD kernels. The images
// are the lanes of a vector, so a triangle costs the same instructions for one image as for a vector of them.
#pragma once
#include <cstdint>

#include "core/simd.h"

namespace facecore {

// Rows of memory that belong to one image each, and the same numbers side by side. A kernel takes a range of vertices.
template <class T> struct NormalsImages {
  int64_t lanes, count;  // count <= lanes images; the lanes that are left hold zeros
  int64_t num_vertices;
  const T* vertices;  // [count, V, 3]
  T* normals;         // [count, V, 3], written by the forward and read by the backward
  T* inverse;         // [count, V], 1 / length of the sum of unit normals or 0: likewise
  const T* grad_out;  // [count, V, 3], of the backward only
  T* grad_vertices;   // [count, V, 3], of the backward only
  T* positions;       // [V, 3, lanes], `vertices` side by side
  T* grad_sum;        // [V, 3, lanes], the gradient of the sum of unit normals; of the backward only
  T* total;           // [V, 3, lanes], what the triangles add to: unit normals, or the gradient of the vertices
};

// The triangles list[begin .. end), or begin .. end themselves without a list. With `owner`, a triangle adds to those
// of its vertices only whose owner is `own`.
struct TriangleSpan {
  int64_t begin, end;
  const int32_t* list;
  const int32_t* triangles;  // [T, 3]
  const uint8_t* owner;      // [V]
  int own;
};

template <class T> using NormalsVertexKernel = void(const NormalsImages<T>& images, int64_t begin, int64_t end);
template <class T> using NormalsTriangleKernel = void(const NormalsImages<T>& images, const TriangleSpan& span);

#define FACECORE_DECLARE_NORMALS(T)                                                                  \
  FACECORE_DECLARE_SIMD(void normals_load(const NormalsImages<T>&, int64_t begin, int64_t end))      \
  FACECORE_DECLARE_SIMD(void normals_add(const NormalsImages<T>&, const TriangleSpan&))              \
  FACECORE_DECLARE_SIMD(void normals_store(const NormalsImages<T>&, int64_t begin, int64_t end))     \
  FACECORE_DECLARE_SIMD(void normals_grad_load(const NormalsImages<T>&, int64_t begin, int64_t end)) \
  FACECORE_DECLARE_SIMD(void normals_grad_add(const NormalsImages<T>&, const TriangleSpan&))         \
  FACECORE_DECLARE_SIMD(void normals_grad_store(const NormalsImages<T>&, int64_t begin, int64_t end))
FACECORE_DECLARE_NORMALS(float)
FACECORE_DECLARE_NORMALS(double)
#undef FACECORE_DECLARE_NORMALS

FACECORE_DECLARE_SIMD(int64_t normals_vector_bytes())  // of the widest vector; 0 where there is none

}  // namespace facecore
