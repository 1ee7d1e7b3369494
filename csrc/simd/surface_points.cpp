// The shading of surface_points.h, one point per lane: tiles of points are turned from triples into three rows.
#include "simd/surface_points.h"

#include "core/lit_surface.h"
#include "simd/point_tile.h"
#include "simd/roots.h"

namespace facecore {
namespace {

template <class T> struct Lanes : RootLanes<T, Vector<T, kVectorBytes>> {
  using V = Vector<T, kVectorBytes>;
  static FACECORE_INLINE Vector3<typename V::type> load3(const PointTile<T>& tile, int64_t i) {
    return {V::load(tile.row[0] + i), V::load(tile.row[1] + i), V::load(tile.row[2] + i)};
  }
  static FACECORE_INLINE void store3(PointTile<T>& tile, int64_t i, Vector3<typename V::type> v) {
    V::store(tile.row[0] + i, v.x), V::store(tile.row[1] + i, v.y), V::store(tile.row[2] + i, v.z);
  }
};

template <class V> FACECORE_INLINE Vector3<V> times(const Vector3<V>& a, const Vector3<V>& b) {
  return {a.x * b.x, a.y * b.y, a.z * b.z};
}

template <class T> FACECORE_INLINE void shade(const SurfacePoints<T>& points) {
  using L = Lanes<T>;
  PointTile<T> normals, albedo, color, shading, unit;
  for (int64_t begin = 0; begin < points.count; begin += kTile) {
    const int64_t count = points.count - begin < kTile ? points.count - begin : kTile;
    normals.load(points.normals + 3 * begin, count);
    albedo.load(points.albedo + 3 * begin, count);
    for (int64_t i = 0; i < kTile; i += L::lanes) {
      const auto surface = lit_surface<L>(L::load3(normals, i), points.light);
      L::store3(color, i, lit_color(surface, L::load3(albedo, i)));
      L::store3(shading, i, surface.light);
      L::store3(unit, i, surface.unit);
    }
    color.store(points.color + 3 * begin, count);
    shading.store(points.shading + 3 * begin, count);
    unit.store(points.unit_normals + 3 * begin, count);
  }
}

template <class T> FACECORE_INLINE void load_if(PointTile<T>& tile, const T* triples, int64_t begin, int64_t count) {
  tile.load(triples + (triples ? 3 * begin : 0), triples ? count : 0);
}

template <class T> FACECORE_INLINE void shade_backward(const SurfacePointsBackward<T>& points) {
  using L = Lanes<T>;
  typename L::type sum[3 * kShTerms];
  for (int k = 0; k < 3 * kShTerms; ++k) sum[k] = typename L::type{};
  PointTile<T> normals, albedo, color, shading, unit, grad_normals, grad_albedo;
  for (int64_t begin = 0; begin < points.count; begin += kTile) {
    const int64_t count = points.count - begin < kTile ? points.count - begin : kTile;
    normals.load(points.normals + 3 * begin, count);
    albedo.load(points.albedo + 3 * begin, count);
    load_if(color, points.grad_color, begin, count);
    load_if(shading, points.grad_shading, begin, count);
    load_if(unit, points.grad_unit_normals, begin, count);
    for (int64_t i = 0; i < kTile; i += L::lanes) {
      const auto surface = lit_surface<L>(L::load3(normals, i), points.light);
      const auto grad_color = L::load3(color, i);
      const auto grad_light = times(grad_color, L::load3(albedo, i)) + L::load3(shading, i);
      L::store3(grad_albedo, i, times(grad_color, surface.light));
      L::store3(grad_normals, i, lit_surface_backward<L>(surface, points.light, grad_light, L::load3(unit, i), sum));
    }
    grad_normals.store(points.grad_normals + 3 * begin, count);
    grad_albedo.store(points.grad_albedo + 3 * begin, count);
  }
  for (int k = 0; k < 3 * kShTerms; ++k) {
    T lanes[L::lanes];
    L::store(lanes, sum[k]);
    T total = T(0);
    for (int i = 0; i < L::lanes; ++i) total += lanes[i];
    points.grad_light[k] = total;
  }
}

}  // namespace

namespace FACECORE_SIMD_NAMESPACE {
void surface_points(const SurfacePoints<float>& points) { shade(points); }
void surface_points(const SurfacePoints<double>& points) { shade(points); }
void surface_points_backward(const SurfacePointsBackward<float>& points) { shade_backward(points); }
void surface_points_backward(const SurfacePointsBackward<double>& points) { shade_backward(points); }
}  // namespace FACECORE_SIMD_NAMESPACE

}  // namespace facecore
