// The texels of uv_texels.h, one per lane: a tile's corners are collected into rows first.
#include "simd/uv_texels.h"

#include "core/texel.h"
#if defined(__GNUC__)
#include "simd/lanes.h"
#else
#include "simd/vector.h"
#endif

namespace facecore {
namespace {

// corner[c][i] = number c of the clip point of vertex vertices[i].
template <class T>
FACECORE_INLINE void load_points(const T* vertices_clip, const int32_t* vertices, T (*corner)[kTexelTile]) {
  for (int64_t i = 0; i < kTexelTile; ++i) {
    const T* point = vertices_clip + 4 * static_cast<int64_t>(vertices[i]);
    FACECORE_UNROLL
    for (int c = 0; c < 4; ++c) corner[c][i] = point[c];
  }
}
#if defined(__GNUC__)
FACECORE_INLINE void load_points(const float* vertices_clip, const int32_t* vertices, float (*corner)[kTexelTile]) {
  for (int64_t i = 0; i < kTexelTile; i += kLanes) {
    FloatLanes column[4];
    load_rows<4>(vertices_clip, vertices + i, column);
    for (int c = 0; c < 4; ++c) Floats::store(corner[c] + i, column[c]);
  }
}
#endif

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
    for (int64_t i = range.count; i < kTexelTile; ++i) mapped[i] = 0;
    const int32_t* corners[3] = {first, second, third};
    for (int k = 0; k < 3; ++k) {  // an empty texel: weights of 0, so w is not above 0
      int32_t vertex[kTexelTile] = {};
      for (int64_t i = 0; i < range.count; ++i) vertex[i] = corners[k][i] & mapped[i];
      load_points(range.vertices_clip, vertex, corner[k]);
      for (int64_t i = 0; i < range.count; ++i) weight[k][i] = mapped[i] ? weights[k * range.num_texels + i] : T(0);
      for (int64_t i = range.count; i < kTexelTile; ++i) weight[k][i] = T(0);
    }
    return true;
  }
};

// The pixels of the samples, from their upper left one and from the pixels that hold the points (core/bilinear.h).
template <class T>
FACECORE_INLINE void locate(int32_t height, int32_t width, const T* column, const T* row, TexelTile<T>& tile) {
  for (int64_t i = 0; i < kTexelTile; ++i) {
    tile.pixel[i] = static_cast<int32_t>(row[i]) * width + static_cast<int32_t>(column[i]);
    const int32_t x = static_cast<int32_t>(tile.first_column[i]), y = static_cast<int32_t>(tile.first_row[i]);
    const int32_t left = x < 0 ? 0 : x, right = x + 1 < width ? x + 1 : width - 1;
    const int32_t top = (y < 0 ? 0 : y) * width, bottom = (y + 1 < height ? y + 1 : height - 1) * width;
    tile.sampled[0][i] = top + left;
    tile.sampled[1][i] = top + right;
    tile.sampled[2][i] = bottom + left;
    tile.sampled[3][i] = bottom + right;
  }
}

template <class T> FACECORE_INLINE bool project(const TexelRange<T>& range, TexelTile<T>& tile) {
  using V = Vector<T, kVectorBytes>;
  using Lanes = typename V::type;
  Corners<T> corners;
  if (!corners.load(range)) return false;
  const T height = static_cast<T>(range.height), width = static_cast<T>(range.width);
  const Lanes one = Lanes{} + T(1), zero = Lanes{};
  alignas(64) T column[kTexelTile], row[kTexelTile];
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
    V::store(column + i, point.column.cell);
    V::store(row + i, point.row.cell);
    V::store(tile.first_column + i, point.column.first);
    V::store(tile.first_row + i, point.row.first);
    V::store(tile.fraction_x + i, point.column.fraction);
    V::store(tile.fraction_y + i, point.row.fraction);
  }
  locate(static_cast<int32_t>(range.height), static_cast<int32_t>(range.width), column, row, tile);
  return true;
}

template <class T> FACECORE_INLINE void place(const PointRange<T>& range, TexelTile<T>& tile) {
  using V = Vector<T, kVectorBytes>;
  using Lanes = typename V::type;
  alignas(64) T first[kTexelTile], second[kTexelTile];
  for (int64_t i = 0; i < range.count; ++i) first[i] = range.uv[2 * i], second[i] = range.uv[2 * i + 1];
  for (int64_t i = range.count; i < kTexelTile; ++i) first[i] = second[i] = T(0);
  const T height = static_cast<T>(range.height), width = static_cast<T>(range.width);
  const Lanes one = Lanes{} + T(1), zero = Lanes{};
  for (int64_t i = 0; i < kTexelTile; i += V::lanes) {
    const Lanes u = V::load(first + i) * width, v = (T(1) - V::load(second + i)) * height;
    const Lanes known = ((u == u) & (v == v)) ? one : zero;
    const Lanes x = u > T(0) ? u : zero, y = v > T(0) ? v : zero;  // NaN becomes 0
    const Lanes right = Lanes{} + width, below = Lanes{} + height;
    const SampleAxis<Lanes> column = sample_axis<T>(x < right ? x : right, width);
    const SampleAxis<Lanes> row = sample_axis<T>(y < below ? y : below, height);
    V::store(tile.inside + i, known);
    V::store(tile.first_column + i, column.first);
    V::store(tile.first_row + i, row.first);
    V::store(tile.fraction_x + i, column.fraction);
    V::store(tile.fraction_y + i, row.fraction);
  }
  locate(static_cast<int32_t>(range.height), static_cast<int32_t>(range.width), tile.first_column, tile.first_row,
         tile);
}

template <class T> struct Pixels {  // of one plane, one row for each of a sample's four
  alignas(64) T value[4][kTexelTile];

  FACECORE_INLINE Pixels(const TexelTile<T>& tile, const T* plane) {
    for (int k = 0; k < 4; ++k)
      for (int64_t i = 0; i < kTexelTile; ++i) value[k][i] = plane[tile.sampled[k][i]];
  }
  FACECORE_INLINE typename Vector<T, kVectorBytes>::type at(int k, int64_t i) const {
    return Vector<T, kVectorBytes>::load(value[k] + i);
  }
};
#if defined(__GNUC__)
template <> struct Pixels<float> {
  const TexelTile<float>& tile;
  const float* plane;

  FACECORE_INLINE Pixels(const TexelTile<float>& tile, const float* plane) : tile(tile), plane(plane) {}
  FACECORE_INLINE FloatLanes at(int k, int64_t i) const { return gather(plane, Ints::load(tile.sampled[k] + i)); }
};
#endif

template <class T> FACECORE_INLINE void sample(const TexelTile<T>& tile, const T* plane, T* out) {
  using V = Vector<T, kVectorBytes>;
  const Pixels<T> pixels(tile, plane);
  for (int64_t i = 0; i < kTexelTile; i += V::lanes) {
    const typename V::type x = V::load(tile.fraction_x + i), y = V::load(tile.fraction_y + i);
    const typename V::type top_left = pixels.at(0, i), bottom_left = pixels.at(2, i);
    const typename V::type top = top_left + x * (pixels.at(1, i) - top_left);
    const typename V::type bottom = bottom_left + x * (pixels.at(3, i) - bottom_left);
    V::store(out + i, top + y * (bottom - top));
  }
}

template <class T>
FACECORE_INLINE void gradient(const TexelTile<T>& tile, const T* plane, const T* grad, T* grad_u, T* grad_v) {
  using V = Vector<T, kVectorBytes>;
  const Pixels<T> pixels(tile, plane);
  for (int64_t i = 0; i < kTexelTile; i += V::lanes) {
    const typename V::type x = V::load(tile.fraction_x + i), y = V::load(tile.fraction_y + i), g = V::load(grad + i);
    const typename V::type top_left = pixels.at(0, i), bottom_left = pixels.at(2, i);
    const typename V::type top = pixels.at(1, i) - top_left;
    const typename V::type bottom = pixels.at(3, i) - bottom_left;
    V::store(grad_u + i, V::load(grad_u + i) + g * (top + y * (bottom - top)));
    V::store(grad_v + i, V::load(grad_v + i) + g * (bottom_left - top_left + x * (bottom - top)));
  }
}

}  // namespace

namespace FACECORE_SIMD_NAMESPACE {
void place_points(const PointRange<float>& range, TexelTile<float>& tile) { place(range, tile); }
void place_points(const PointRange<double>& range, TexelTile<double>& tile) { place(range, tile); }
bool project_texels(const TexelRange<float>& range, TexelTile<float>& tile) { return project(range, tile); }
bool project_texels(const TexelRange<double>& range, TexelTile<double>& tile) { return project(range, tile); }
void sample_texels(const TexelTile<float>& tile, const float* plane, float* out) { sample(tile, plane, out); }
void sample_texels(const TexelTile<double>& tile, const double* plane, double* out) { sample(tile, plane, out); }
void sample_gradients(const TexelTile<float>& tile, const float* plane, const float* grad, float* grad_u,
                      float* grad_v) {
  gradient(tile, plane, grad, grad_u, grad_v);
}
void sample_gradients(const TexelTile<double>& tile, const double* plane, const double* grad, double* grad_u,
                      double* grad_v) {
  gradient(tile, plane, grad, grad_u, grad_v);
}
}  // namespace FACECORE_SIMD_NAMESPACE

}  // namespace facecore
