// A texel's point on the screen, and the depth of its triangle's plane at the centre of a pixel (METHODS 1.9), for
// numbers and for SIMD vectors.
#pragma once
#include "core/bilinear.h"

namespace facecore {

constexpr double kUnwrapTolerance = 0.005;  // of the mesh's depth range, METHODS 1.9
constexpr double kUnwrapSlope = 0.1;  // of the depth range per pixel and axis: steeper planes are taken as this steep

// S is the type of one number; V is S, or a vector of S; a Mask is what comparing two V gives.
template <class V> using Mask = decltype(V{} < V{});

template <class V> struct TexelPoint {
  V x, y, z, inverse_w;  // NDC, and 1 / w
  SampleAxis<V> column, row;
  Mask<V> inside;  // of the clip volume and of the picture; where it is false nothing else is to be used
};

// q = sum_k weight_k corner_k in clip coordinates, then the division by w.
template <class S, class V>
FACECORE_HD TexelPoint<V> project_texel(const V (*corner)[4], const V* weight, S height, S width) {
  V q[4];
  for (int c = 0; c < 4; ++c) q[c] = weight[0] * corner[0][c] + weight[1] * corner[1][c] + weight[2] * corner[2][c];
  TexelPoint<V> point;
  point.inverse_w = S(1) / q[3];
  point.x = q[0] * point.inverse_w;
  point.y = q[1] * point.inverse_w;
  point.z = q[2] * point.inverse_w;
  const V u = (S(0.5) * width) * (S(1) + point.x), v = (S(0.5) * height) * (S(1) - point.y);
  point.inside = (q[3] > S(0)) & (point.inverse_w > S(0)) & (q[2] <= q[3]) & (-q[2] <= q[3]) & (u >= S(0)) &
                 (u <= width) & (v >= S(0)) & (v <= height);
  const V zero = V{};
  point.column = sample_axis<S>(point.inside ? u : zero, width);  // whole numbers that an integer can hold
  point.row = sample_axis<S>(point.inside ? v : zero, height);
  return point;
}

// The homogeneous plane z = g . (x, y, w) through the corners: with v = corner 0, a and b the differences of the others
// to it and f their differences in z, det g = z_0 (a x b) + f_a (b x v) + f_b (v x a), det = v . (a x b). det > 0 is
// the front. Differences first: the corners of a small triangle are nearly equal.
template <class V> struct TexelPlane {
  V det, slope_x, slope_y;  // the slopes of z_ndc in NDC x and y, times det

  FACECORE_HD explicit TexelPlane(const V (*corner)[4]) {
    const V* v = corner[0];
    V a[4], b[4];
    for (int c = 0; c < 4; ++c) a[c] = corner[1][c] - v[c], b[c] = corner[2][c] - v[c];
    const V normal_x = a[1] * b[3] - a[3] * b[1], normal_y = a[3] * b[0] - a[0] * b[3];
    const V normal_w = a[0] * b[1] - a[1] * b[0];
    det = v[0] * normal_x + v[1] * normal_y + v[3] * normal_w;
    slope_x = v[2] * normal_x + a[2] * (b[1] * v[3] - b[3] * v[1]) + b[2] * (v[1] * a[3] - v[3] * a[1]);
    slope_y = v[2] * normal_y + a[2] * (b[3] * v[0] - b[0] * v[3]) + b[2] * (v[3] * a[0] - v[0] * a[3]);
  }
};

template <class V> FACECORE_HD V clamp_symmetric(const V& x, const V& limit) {
  const V low = x < -limit ? -limit : x;
  return low > limit ? limit : low;
}

// z_ndc of the plane at the centre of the point's pixel; depth_range is that of the mesh.
template <class S, class V>
FACECORE_HD V depth_at_centre(const TexelPoint<V>& point, const TexelPlane<V>& plane, S height, S width,
                              S depth_range) {
  const V inverse = S(1) / plane.det, limit = V{} + S(kUnwrapSlope) * depth_range;
  const V slope_u = clamp_symmetric(plane.slope_x * inverse * (S(2) / width), limit);  // per pixel
  const V slope_v = clamp_symmetric(plane.slope_y * inverse * (S(-2) / height), limit);
  // u - (cell + 1/2) = first + fraction - cell
  return point.z - slope_u * (point.column.first + point.column.fraction - point.column.cell) -
         slope_v * (point.row.first + point.row.fraction - point.row.cell);
}

}  // namespace facecore
