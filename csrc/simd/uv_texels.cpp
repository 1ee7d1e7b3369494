// The texels of uv_texels.h, one per lane: a tile's corners are collected into rows first.
#include "simd/uv_texels.h"

#include "core/texel.h"
#include "simd/vector.h"

namespace facecore {
namespace {

template <class T> struct Corners {
  alignas(64) T corner[3][4][kTexelTile];
  T weight[3][kTexelTile];

  FACECORE_INLINE bool load(const TexelRange<T>& range) {
    const uint32_t limit = static_cast<uint32_t>(range.num_vertices);
    const int32_t *first = range.corners + range.begin, *second = first + range.num_texels;
    const int32_t* third = second + range.num_texels;
    const T* weights = range.barycentric + range.begin;
    int32_t mapped[kTexelTile], any = 0;
    for (int64_t i = 0; i < range.count; ++i) {
      mapped[i] = -((static_cast<uint32_t>(first[i]) < limit) & (static_cast<uint32_t>(second[i]) < limit) &
                    (static_cast<uint32_t>(third[i]) < limit));
      any |= mapped[i];
    }
    if (!any) return false;
    for (int64_t i = 0; i < range.count; ++i) {  // an empty texel: weights of 0, so w is not above 0
      const int64_t vertex[3] = {first[i] & mapped[i], second[i] & mapped[i], third[i] & mapped[i]};
      FACECORE_UNROLL
      for (int k = 0; k < 3; ++k) {
        const T* point = range.vertices_clip + 4 * vertex[k];
        FACECORE_UNROLL
        for (int c = 0; c < 4; ++c) corner[k][c][i] = point[c];
      }
    }
    for (int k = 0; k < 3; ++k) {
      for (int64_t i = 0; i < range.count; ++i) weight[k][i] = mapped[i] ? weights[k * range.num_texels + i] : T(0);
    }
    for (int64_t i = range.count; i < kTexelTile; ++i) {
      for (int k = 0; k < 3; ++k) {
        weight[k][i] = T(0);
        for (int c = 0; c < 4; ++c) corner[k][c][i] = T(0);
      }
    }
    return true;
  }
};

template <class T> FACECORE_INLINE bool project(const TexelRange<T>& range, TexelTile<T>& tile) {
  using V = Vector<T, kVectorBytes>;
  using Lanes = typename V::type;
  Corners<T> corners;
  if (!corners.load(range)) return false;
  const T height = static_cast<T>(range.height), width = static_cast<T>(range.width);
  const Lanes one = Lanes{} + T(1), zero = Lanes{};
  for (int64_t i = 0; i < kTexelTile; i += V::lanes) {
    Lanes corner[3][4], weight[3];
    FACECORE_UNROLL
    for (int k = 0; k < 3; ++k) {
      weight[k] = V::load(corners.weight[k] + i);
      FACECORE_UNROLL
      for (int c = 0; c < 4; ++c) corner[k][c] = V::load(corners.corner[k][c] + i);
    }
    const TexelPoint<Lanes> point = project_texel<T, Lanes>(corner, weight, height, width);
    Lanes inside = point.inside ? one : zero;
    if (range.with_depth) {
      const TexelPlane<Lanes> plane(corner);
      inside = plane.det > T(0) ? inside : zero;
      V::store(tile.depth + i, depth_at_centre<T, Lanes>(point, plane, height, width, range.depth_range));
    }
    V::store(tile.inside + i, inside);
    V::store(tile.x + i, point.x);
    V::store(tile.y + i, point.y);
    V::store(tile.inverse_w + i, point.inverse_w);
    V::store(tile.column + i, point.column.cell);
    V::store(tile.row + i, point.row.cell);
    V::store(tile.first_column + i, point.column.first);
    V::store(tile.first_row + i, point.row.first);
    V::store(tile.fraction_x + i, point.column.fraction);
    V::store(tile.fraction_y + i, point.row.fraction);
  }
  return true;
}

}  // namespace

namespace FACECORE_SIMD_NAMESPACE {
bool project_texels(const TexelRange<float>& range, TexelTile<float>& tile) { return project(range, tile); }
bool project_texels(const TexelRange<double>& range, TexelTile<double>& tile) { return project(range, tile); }
}  // namespace FACECORE_SIMD_NAMESPACE

}  // namespace facecore
