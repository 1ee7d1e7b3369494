// Spherical harmonic shading of consecutive points under one light, as plain structs: arguments of the SIMD kernels.
#pragma once
#include <cstdint>

#include "core/simd.h"

namespace facecore {

template <class T> struct ShPoints {
  int64_t count;
  const T* normals;  // [count, 3]
  const T* light;    // [9, 3]
  T* out;            // [count, 3]
};

template <class T> struct ShPointsBackward {
  int64_t count;
  const T* grad_out;  // [count, 3]
  const T* normals;   // [count, 3]
  const T* light;     // [9, 3]
  T* grad_normals;    // [count, 3]
  T* grad_light;      // [9, 3], the sum over these points
};

template <class T> using ShKernel = void(const ShPoints<T>& points);
template <class T> using ShBackwardKernel = void(const ShPointsBackward<T>& points);

FACECORE_DECLARE_SIMD(void sh_points(const ShPoints<float>& points))
FACECORE_DECLARE_SIMD(void sh_points(const ShPoints<double>& points))
FACECORE_DECLARE_SIMD(void sh_points_backward(const ShPointsBackward<float>& points))
FACECORE_DECLARE_SIMD(void sh_points_backward(const ShPointsBackward<double>& points))

}  // namespace facecore
