// Triangles snapped to 1/256 pixel: exact coverage by integer edge functions, and the depth key at a pixel centre.
// Everything here is integer or explicitly ordered IEEE arithmetic, so CPU and GPU agree bit for bit.
#pragma once
#include <cstring>

#include "core/ieee.h"

namespace facecore {

constexpr int kSubpixelBits = 8;
constexpr int32_t kSubpixel = 1 << kSubpixelBits;  // grid steps per pixel
constexpr int32_t kHalfPixel = kSubpixel / 2;      // pixel centres lie at odd multiples of it

// Vertices may leave the picture by this many half pictures before their triangles are clipped. With pictures of at
// most 2^14 pixels a snapped coordinate stays below 2^28 and an edge function below 2^59: no overflow in 64 bits.
constexpr double kGuardBand = 64.0;
constexpr double kLargestW = 1e290;              // larger ones take the careful way
constexpr int kNumPlanes = 6;                    // near, far, left, right, bottom, top
constexpr uint32_t kNowhere = 1u << kNumPlanes;  // not a finite homogeneous point
constexpr uint64_t kUncovered = ~static_cast<uint64_t>(0);
constexpr int32_t kOffGrid = -(1 << 30);  // x of a vertex that is beyond a plane or nowhere

struct SnappedVertex {
  int32_t x, y;      // grid steps from the top left corner of the picture, y down
  float z;           // z_ndc
  uint32_t outside;  // bit k: beyond plane k, and then x is kOffGrid and y, z are not set; or kNowhere
};

// Signed distance (up to scale) to a clipping plane: |z| <= w, |x| <= guard * w, |y| <= guard * w. Its sign is exact.
FACECORE_HD double plane_distance(int plane, const double* point) {
  const double sign = plane & 1 ? -1.0 : 1.0;
  const double bound = plane < 2 ? point[3] : mul_rn(kGuardBand, point[3]);
  const double coordinate = plane < 2 ? point[2] : (plane < 4 ? point[0] : point[1]);
  return add_rn(bound, mul_rn(sign, coordinate));
}

// A point with w > 0 inside every plane, up to rounding. The vertical flip is here: NDC y is up, rows go down.
FACECORE_HD SnappedVertex snap(const double* point, int32_t height, int32_t width) {
  const double inverse = div_rn(1.0, point[3]);
  const double x = mul_rn(add_rn(1.0, mul_rn(point[0], inverse)), static_cast<double>(kHalfPixel) * width);
  const double y = mul_rn(sub_rn(1.0, mul_rn(point[1], inverse)), static_cast<double>(kHalfPixel) * height);
  const double z = mul_rn(point[2], inverse);
  const double z_inside = z < -1.0 ? -1.0 : (z > 1.0 ? 1.0 : z);  // a clipped end point may miss its plane by rounding
  constexpr double kLimit = (kGuardBand + 2.0) * kHalfPixel;
  const bool somewhere = fabs(x) <= kLimit * width && fabs(y) <= kLimit * height && z == z;  // false for NaN
  if (!somewhere) return {kOffGrid, 0, 0.0f, kNowhere};
  return {round_to_int(x), round_to_int(y), static_cast<float>(z_inside), 0};
}

// The bits of the planes that a point lies beyond; kNowhere for a point that is not finite, or (0, 0, 0, 0).
FACECORE_HD uint32_t outside_bits(const double* point) {
  constexpr double kLargest = 1e300;  // above it, sums of products could overflow
  uint32_t outside = 0;
  for (int k = 0; k < 4; ++k)
    if (!(fabs(point[k]) <= kLargest)) return kNowhere;
  for (int plane = 0; plane < kNumPlanes; ++plane) outside |= (plane_distance(plane, point) < 0.0 ? 1u : 0u) << plane;
  return outside || point[3] > 0.0 ? outside : kNowhere;
}

template <class T> FACECORE_HD SnappedVertex project_vertex(const T* vertex, int32_t height, int32_t width) {
  const double point[4] = {static_cast<double>(vertex[0]), static_cast<double>(vertex[1]),
                           static_cast<double>(vertex[2]), static_cast<double>(vertex[3])};
  const double w = point[3], guard = mul_rn(kGuardBand, w);
  const bool inside = (w > 0.0) & (w <= kLargestW) & (fabs(point[2]) <= w) & (fabs(point[0]) <= guard) &
                      (fabs(point[1]) <= guard);  // no bit of outside_bits() would be set
  if (!inside) {
    const uint32_t outside = outside_bits(point);
    if (outside) return {kOffGrid, 0, 0.0f, outside};
  }
  return snap(point, height, width);
}

// Nearer first, then the lower triangle id.
FACECORE_HD uint64_t make_key(float z, int32_t triangle) {
  uint32_t bits;
  z += 0.0f;  // -0 becomes +0
  memcpy(&bits, &z, sizeof bits);
  bits ^= bits >> 31 ? 0xffffffffu : 0x80000000u;  // the order of floats as the order of unsigned integers
  return static_cast<uint64_t>(bits) << 32 | static_cast<uint32_t>(triangle);
}
FACECORE_HD float key_z(uint64_t key) {
  uint32_t bits = static_cast<uint32_t>(key >> 32);
  bits ^= bits >> 31 ? 0x80000000u : 0xffffffffu;
  float z;
  memcpy(&z, &bits, sizeof z);
  return z;
}
FACECORE_HD int32_t key_triangle(uint64_t key) { return static_cast<int32_t>(key & 0xffffffffu); }

FACECORE_HD void keep_smallest(uint64_t* target, uint64_t key) {
#ifdef __CUDA_ARCH__
  atomicMin(reinterpret_cast<unsigned long long*>(target), static_cast<unsigned long long>(key));
#else
  if (key < *target) *target = key;
#endif
}

template <class I> FACECORE_HD I smallest(I a, I b) { return a < b ? a : b; }
template <class I> FACECORE_HD I largest(I a, I b) { return a > b ? a : b; }

// The pixels whose centres lie in a triangle's bounding box; empty when first > last.
struct PixelBox {
  int32_t first_column, last_column, first_row, last_row;
  FACECORE_HD bool empty() const { return (first_column > last_column) | (first_row > last_row); }
  FACECORE_HD int32_t columns() const { return last_column - first_column + 1; }
  FACECORE_HD int64_t pixels() const { return static_cast<int64_t>(columns()) * (last_row - first_row + 1); }
};

struct SnappedTriangle {
  int32_t x[3], y[3];
  float z[3];

  FACECORE_HD void set(int k, const SnappedVertex& vertex) {
    x[k] = vertex.x;
    y[k] = vertex.y;
    z[k] = vertex.z;
  }
  FACECORE_HD static int32_t low(const int32_t* v) { return smallest(v[0], smallest(v[1], v[2])); }
  FACECORE_HD static int32_t high(const int32_t* v) { return largest(v[0], largest(v[1], v[2])); }

  FACECORE_HD PixelBox box(int32_t height, int32_t width) const {
    return {largest((low(x) + kHalfPixel - 1) >> kSubpixelBits, 0),
            smallest((high(x) - kHalfPixel) >> kSubpixelBits, width - 1),
            largest((low(y) + kHalfPixel - 1) >> kSubpixelBits, 0),
            smallest((high(y) - kHalfPixel) >> kSubpixelBits, height - 1)};
  }

  // Whether every edge function fits in 32 bits at every pixel of the bounding box.
  FACECORE_HD bool is_small() const {
    constexpr int32_t kLimit = 1 << 14;
    return high(x) - low(x) < kLimit && high(y) - low(y) < kLimit;
  }
};

// E_k(p) >= 0 on the inner side of the edge opposite to corner k; E_0 + E_1 + E_2 = twice the area. All exact.
// Top-left rule: a centre on an edge belongs to the triangle only where that edge is its left or its top one.
template <class Int> struct EdgeFunctions {
  Int area;      // twice the area, > 0; 0: the triangle is not drawn
  Int start[3];  // E_k - excluded[k] at the box's first pixel
  Int step_column[3], step_row[3];
  Int excluded[3];  // 1 where the edge itself does not belong to the triangle

  FACECORE_HD EdgeFunctions(const SnappedTriangle& t, const PixelBox& box, bool cull_backfaces) {
    const Int doubled =
        static_cast<Int>(t.x[1] - t.x[0]) * (t.y[2] - t.y[0]) - static_cast<Int>(t.y[1] - t.y[0]) * (t.x[2] - t.x[0]);
    const Int sign = doubled < 0 ? -1 : 1;  // < 0: counter-clockwise with y up, the front
    area = (cull_backfaces && doubled > 0) ? 0 : sign * doubled;
    const int32_t column = box.first_column * kSubpixel + kHalfPixel, row = box.first_row * kSubpixel + kHalfPixel;
    for (int k = 0; k < 3; ++k) {
      const int a = (k + 1) % 3, b = (k + 2) % 3;
      const Int dx = sign * static_cast<Int>(t.x[b] - t.x[a]), dy = sign * static_cast<Int>(t.y[b] - t.y[a]);
      excluded[k] = (dy < 0 || (dy == 0 && dx > 0)) ? 0 : 1;
      start[k] = dx * (row - t.y[a]) - dy * (column - t.x[a]) - excluded[k];
      step_column[k] = -dy * kSubpixel;
      step_row[k] = dx * kSubpixel;
    }
  }

  FACECORE_HD void at(int32_t column, int32_t row, Int* edge) const {  // offsets from the box's first pixel
    for (int k = 0; k < 3; ++k) edge[k] = start[k] + step_column[k] * column + step_row[k] * row;
  }
  FACECORE_HD static bool covers(const Int* edge) { return (edge[0] | edge[1] | edge[2]) >= 0; }

  // z_ndc is affine on the screen: z = sum_k E_k (z_k / area). The order of operations is part of the definition.
  FACECORE_HD void depth_weights(const float* z, double* weight) const {
    const double inverse = div_rn(1.0, static_cast<double>(area));
    for (int k = 0; k < 3; ++k) weight[k] = mul_rn(static_cast<double>(z[k]), inverse);
  }
  FACECORE_HD float depth(const Int* edge, const double* weight) const {
    double term[3];
    for (int k = 0; k < 3; ++k) term[k] = mul_rn(static_cast<double>(edge[k] + excluded[k]), weight[k]);
    return static_cast<float>(add_rn(add_rn(term[0], term[1]), term[2]));
  }
};

// Draws the pixels first, first + stride, ... of the triangle's box, row by row.
template <class Int>
FACECORE_HD void draw_with(const SnappedTriangle& triangle, const PixelBox& box, int32_t id, int32_t width,
                           bool cull_backfaces, int32_t first, int32_t stride, uint64_t* keys) {
  const EdgeFunctions<Int> edges(triangle, box, cull_backfaces);
  if (edges.area == 0) return;
  bool weighted = false;
  double weight[3] = {0.0, 0.0, 0.0};
  for (int32_t row = box.first_row; row <= box.last_row; ++row) {
    Int edge[3];
    edges.at(first, row - box.first_row, edge);
    for (int32_t column = box.first_column + first; column <= box.last_column; column += stride) {
      if (EdgeFunctions<Int>::covers(edge)) {
        if (!weighted) edges.depth_weights(triangle.z, weight);  // most small triangles cover nothing: divide late
        weighted = true;
        keep_smallest(keys + static_cast<int64_t>(row) * width + column, make_key(edges.depth(edge, weight), id));
      }
      for (int k = 0; k < 3; ++k) edge[k] += edges.step_column[k] * stride;
    }
  }
}

FACECORE_HD void draw(const SnappedTriangle& triangle, const PixelBox& box, int32_t id, int32_t width,
                      bool cull_backfaces, int32_t first, int32_t stride, uint64_t* keys) {
  if (triangle.is_small()) draw_with<int32_t>(triangle, box, id, width, cull_backfaces, first, stride, keys);
  else draw_with<int64_t>(triangle, box, id, width, cull_backfaces, first, stride, keys);
}

}  // namespace facecore
