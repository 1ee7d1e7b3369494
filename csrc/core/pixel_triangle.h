// Perspective-correct barycentrics of a triangle at a pixel centre and their derivative (METHODS 1.8).
#pragma once
#include "core/host_device.h"

namespace facecore {

// One number at a time: Value = Scalar, Mask = bool. simd/raster_pixels.cpp has vectors instead.
template <class T> struct ScalarLanes {
  using Scalar = T;
  using Value = T;
  using Mask = bool;
};

// The perspective-correct barycentrics of one triangle at one pixel centre p = (px, py), from unsnapped vertices, with
// their derivative. Vertices are moved to q_k = (x_k - px w_k, y_k - py w_k): the adjugate form of METHODS 1.8 without
// its cancellation. e = adj(M) p, b = e / sum e, and with r_k the x, y part of row k of M^-1 and c_i = r_i - b_i sum r:
//   db_i / dq_j = -b_j c_i,    dq_j = (dx_j - px dw_j, dy_j - py dw_j)
template <class Lanes> struct PixelTriangle {
  using Scalar = typename Lanes::Scalar;
  using Value = typename Lanes::Value;

  Value px, py;
  Value qx[3], qy[3], w[3];
  Value b[3];
  Value determinant;
  typename Lanes::Mask regular;  // false: too thin or too far to have barycentrics: the snapped ones, a zero gradient

  FACECORE_HD PixelTriangle(const Value (*corners)[3], Value center_x, Value center_y) : px(center_x), py(center_y) {
    for (int k = 0; k < 3; ++k) {
      w[k] = corners[k][2];
      qx[k] = corners[k][0] - px * w[k];
      qy[k] = corners[k][1] - py * w[k];
    }
    Value edge[3];
    for (int k = 0; k < 3; ++k) {
      const int i = (k + 1) % 3, j = (k + 2) % 3;
      edge[k] = qx[i] * qy[j] - qx[j] * qy[i];
    }
    const Value sum = edge[0] + edge[1] + edge[2];
    determinant = edge[0] * w[0] + edge[1] * w[1] + edge[2] * w[2];
    // |s| = |sum / det| is 1 / |w| at the pixel (guard of METHODS 1.8). A pixel centre that the snapped triangle covers
    // is at most 1/256 pixel outside the unsnapped one, so b far from [0, 1] means a triangle thinner than that.
    constexpr Scalar kSmallestS = Scalar(1e-9), kFarthestFromHalf = Scalar(1.5);
    const Value inverse = Scalar(1) / sum;
    regular = (abs_of(sum) >= kSmallestS * abs_of(determinant)) & (determinant != Scalar(0));
    for (int k = 0; k < 3; ++k) {
      b[k] = edge[k] * inverse;
      regular = regular & (abs_of(b[k] - Scalar(0.5)) <= kFarthestFromHalf);  // false for NaN
    }
  }

  // sum_i weight_i c_i
  FACECORE_HD void combine_gradients(const Value* weight, Value& x, Value& y) const {
    const Value mean = weight[0] * b[0] + weight[1] * b[1] + weight[2] * b[2];
    x = y = Value{};
    for (int k = 0; k < 3; ++k) {
      const int i = (k + 1) % 3, j = (k + 2) % 3;
      x += (weight[k] - mean) * (qy[i] * w[j] - qy[j] * w[i]);
      y += (weight[k] - mean) * (qx[j] * w[i] - qx[i] * w[j]);
    }
    const Value inverse = Scalar(1) / determinant;
    x *= inverse;
    y *= inverse;
  }

 private:
  FACECORE_HD static Value abs_of(Value value) { return value < Scalar(0) ? -value : value; }
};

// NDC of pixel centres: column of `width`, x right; row of `height`, y up.
template <class T> FACECORE_HD T center_x(int32_t column, int32_t width) {
  return static_cast<T>(2 * column + 1 - width) / static_cast<T>(width);
}
template <class T> FACECORE_HD T center_y(int32_t row, int32_t height) {
  return static_cast<T>(height - 2 * row - 1) / static_cast<T>(height);
}

}  // namespace facecore
