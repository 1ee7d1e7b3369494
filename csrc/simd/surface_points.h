// Deferred shading of consecutive points under one light, as plain structs: arguments of the SIMD kernels.
#pragma once
#include <cstdint>

#include "core/simd.h"

namespace facecore {

template <class T> struct SurfacePoints {
  int64_t count;
  const T* normals;  // [count, 3], of any length
  const T* albedo;   // [count, 3]
  const T* light;    // [9, 3]
  T* color;          // [count, 3]
  T* shading;        // [count, 3]
  T* unit_normals;   // [count, 3]
};

template <class T> struct SurfacePointsBackward {
  int64_t count;
  const T* grad_color;  // [count, 3] or null, as are the next two
  const T* grad_shading;
  const T* grad_unit_normals;
  const T* normals;  // [count, 3]
  const T* albedo;   // [count, 3]
  const T* light;    // [9, 3]
  T* grad_normals;   // [count, 3]
  T* grad_albedo;    // [count, 3]
  T* grad_light;     // [9, 3], the sum over these points
};

template <class T> using SurfaceKernel = void(const SurfacePoints<T>& points);
template <class T> using SurfaceBackwardKernel = void(const SurfacePointsBackward<T>& points);

FACECORE_DECLARE_SIMD(void surface_points(const SurfacePoints<float>& points))
FACECORE_DECLARE_SIMD(void surface_points(const SurfacePoints<double>& points))
FACECORE_DECLARE_SIMD(void surface_points_backward(const SurfacePointsBackward<float>& points))
FACECORE_DECLARE_SIMD(void surface_points_backward(const SurfacePointsBackward<double>& points))

}  // namespace facecore
