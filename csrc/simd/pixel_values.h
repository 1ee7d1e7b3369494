// Values of vertices at the pixels of one picture, and the gradients, as plain structs: arguments of the SIMD kernels.
#pragma once
#include <cstdint>

#include "core/simd.h"

namespace facecore {

template <class T> struct PixelValues {
  int64_t num_vertices, num_triangles, num_channels;
  const T* attributes;         // [V, C]
  const int32_t* triangles;    // [T, 3]
  const int32_t* triangle_id;  // [P]; a pixel whose triangle or one of its vertices does not exist is uncovered
  const T* barycentric;        // [P, 3]
  T* out;                      // [P, C]
};

// With `owner`, a pixel adds to those of its vertices only whose owner is `own`.
template <class T> struct PixelGradients {
  PixelValues<T> forward;
  const T* grad_out;     // [P, C]
  T* grad_attributes;    // [V, C], added to; absent when not wanted
  T* grad_barycentric;   // [P, 3]; absent when not wanted
  const uint8_t* owner;  // [V]
  int own;
};

template <class T> using PixelKernel = void(const PixelValues<T>&, int64_t begin, int64_t end);
template <class T>
using PixelGradientKernel = int64_t(const PixelGradients<T>&, int64_t begin, int64_t end, int32_t* foreign);
template <class T>
using PixelForeignKernel = void(const PixelGradients<T>&, const int32_t* pixels, int64_t count);

#define FACECORE_DECLARE_PIXELS(T)                                                                     \
  FACECORE_DECLARE_SIMD(void pixel_values(const PixelValues<T>&, int64_t begin, int64_t end))          \
  FACECORE_DECLARE_SIMD(                                                                               \
      int64_t pixel_gradients(const PixelGradients<T>&, int64_t begin, int64_t end, int32_t* foreign)) \
  FACECORE_DECLARE_SIMD(void pixel_gradients_foreign(const PixelGradients<T>&, const int32_t* pixels, int64_t count))
FACECORE_DECLARE_PIXELS(float)
FACECORE_DECLARE_PIXELS(double)
#undef FACECORE_DECLARE_PIXELS

}  // namespace facecore
