// The shading of sh_points.h, one point per lane: tiles of points are turned from (x, y, z) triples into three rows.
#include "simd/sh_points.h"

#include "core/spherical_harmonics.h"
#include "simd/point_tile.h"

namespace facecore {
namespace {

template <class T> FACECORE_INLINE void shade(const ShPoints<T>& points) {
  using V = Vector<T, kVectorBytes>;
  PointTile<T> normals, out;
  for (int64_t begin = 0; begin < points.count; begin += kTile) {
    const int64_t count = points.count - begin < kTile ? points.count - begin : kTile;
    normals.load(points.normals + 3 * begin, count);
    for (int64_t i = 0; i < kTile; i += V::lanes) {
      typename V::type normal[3], basis[kShTerms], light[3];
      for (int c = 0; c < 3; ++c) normal[c] = V::load(normals.row[c] + i);
      sh_light(normal, points.light, basis, light);
      for (int c = 0; c < 3; ++c) V::store(out.row[c] + i, light[c]);
    }
    out.store(points.out + 3 * begin, count);
  }
}

template <class T> FACECORE_INLINE void shade_backward(const ShPointsBackward<T>& points) {
  using V = Vector<T, kVectorBytes>;
  typename V::type sum[3 * kShTerms];
  for (int k = 0; k < 3 * kShTerms; ++k) sum[k] = typename V::type{};
  PointTile<T> normals, grad_out, grad_normals;
  for (int64_t begin = 0; begin < points.count; begin += kTile) {
    const int64_t count = points.count - begin < kTile ? points.count - begin : kTile;
    normals.load(points.normals + 3 * begin, count);
    grad_out.load(points.grad_out + 3 * begin, count);
    for (int64_t i = 0; i < kTile; i += V::lanes) {
      typename V::type normal[3], grad[3], basis[kShTerms], grad_normal[3];
      for (int c = 0; c < 3; ++c) {
        normal[c] = V::load(normals.row[c] + i);
        grad[c] = V::load(grad_out.row[c] + i);
      }
      sh_basis<T>(normal[0], normal[1], normal[2], basis);
      sh_light_backward(normal, points.light, basis, grad, grad_normal, sum);
      for (int c = 0; c < 3; ++c) V::store(grad_normals.row[c] + i, grad_normal[c]);
    }
    grad_normals.store(points.grad_normals + 3 * begin, count);
  }
  for (int k = 0; k < 3 * kShTerms; ++k) {
    T lanes[V::lanes];
    V::store(lanes, sum[k]);
    T total = T(0);
    for (int i = 0; i < V::lanes; ++i) total += lanes[i];
    points.grad_light[k] = total;
  }
}

}  // namespace

namespace FACECORE_SIMD_NAMESPACE {
void sh_points(const ShPoints<float>& points) { shade(points); }
void sh_points(const ShPoints<double>& points) { shade(points); }
void sh_points_backward(const ShPointsBackward<float>& points) { shade_backward(points); }
void sh_points_backward(const ShPointsBackward<double>& points) { shade_backward(points); }
}  // namespace FACECORE_SIMD_NAMESPACE

}  // namespace facecore
