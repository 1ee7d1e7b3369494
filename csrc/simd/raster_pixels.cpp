// The kernels of raster_pixels.h: one pixel per lane.
#include "simd/raster_pixels.h"

#if defined(__GNUC__)
#include "core/pixel_triangle.h"
#include "simd/lanes.h"

namespace facecore {
namespace {

constexpr int kTile = 64;  // pixels whose numbers are sorted into rows, long before they are loaded as vectors

struct PixelLanes {  // of PixelTriangle
  using Scalar = float;
  using Value = FloatLanes;
  using Mask = IntLanes;
};
using Triangles = PixelTriangle<PixelLanes>;
typedef Vector<uint32_t, kVectorBytes>::type UnsignedLanes;

// The corners of the triangles `id`, as they are given. A triangle that does not exist, that of an uncovered pixel
// above all, is replaced by one that does: nothing else may be read.
FACECORE_INLINE void find_corners(const RasterPixels& pixels, IntLanes id, IntLanes* corner) {
  const IntLanes first = bounded(id, pixels.num_triangles) * 3;
  for (int k = 0; k < 3; ++k) corner[k] = gather(pixels.triangles + k, first);
}

// 4 * the vertices of the triangles `id`, each one that exists.
FACECORE_INLINE void find_vertices(const RasterPixels& pixels, IntLanes id, IntLanes* vertex) {
  find_corners(pixels, id, vertex);
  for (int k = 0; k < 3; ++k) vertex[k] = bounded(vertex[k], pixels.num_vertices) * 4;
}

FACECORE_INLINE FloatLanes centers_x(int32_t column, int32_t width) {  // of kLanes pixels from `column` on
  const IntLanes twice = (lane_numbers() + column) * 2 + (1 - width);
  return __builtin_convertvector(twice, FloatLanes) / static_cast<float>(width);
}

struct ResolveTile {
  alignas(64) int32_t id[kTile], depth[kTile];
  alignas(64) float z[kTile], b[3][kTile];
};

// Up to kTile pixels of a row from `column` on.
FACECORE_INLINE int64_t resolve_tile(const RasterResolve& work, ResolveTile& tile, int32_t row, int32_t column,
                                     int count) {
  const int64_t pixel = static_cast<int64_t>(row) * work.pixels.width + column;
  const uint64_t* keys = work.keys + pixel;
  for (int i = 0; i < count; ++i) {
    uint64_t key = keys[i];
    for (int64_t slice = 1; slice < work.num_slices; ++slice) {
      const uint64_t other = keys[slice * work.slice_stride + i];
      key = other < key ? other : key;
    }
    tile.id[i] = static_cast<int32_t>(key);  // -1 where uncovered
    tile.depth[i] = static_cast<int32_t>(key >> 32);
  }
  for (int i = count; i < kTile; ++i) tile.id[i] = tile.depth[i] = -1;
  int64_t num_left = 0;
  for (int i = 0; i < count; i += kLanes) {
    const IntLanes id = Ints::load(tile.id + i), covered = id >= 0;
    const FloatLanes zero = {}, one = zero + 1.0f;
    FloatLanes z = one, b[3] = {zero, zero, zero};
    if (bits_of(covered)) {
      const IntLanes depth = Ints::load(tile.depth + i);  // the inverse of make_key's order
      z = covered ? reinterpret_cast<FloatLanes>(depth ^ (~(depth >> 31) | static_cast<int32_t>(0x80000000))) : one;
      IntLanes vertex[3];
      find_vertices(work.pixels, id, vertex);
      FloatLanes corners[3][3];
      for (int k = 0; k < 3; ++k) {
        corners[k][0] = gather(work.pixels.vertices_clip, vertex[k]);
        corners[k][1] = gather(work.pixels.vertices_clip + 1, vertex[k]);
        corners[k][2] = gather(work.pixels.vertices_clip + 3, vertex[k]);
      }
      const FloatLanes y = zero + center_y<float>(row, work.pixels.height);
      const Triangles at(corners, centers_x(column + i, work.pixels.width), y);
      for (int k = 0; k < 3; ++k) b[k] = covered ? at.b[k] : zero;
      const IntLanes left = covered & ~at.regular;
      if (uint32_t bits = bits_of(left)) {
        b[0] = left ? zero + __builtin_nanf("") : b[0];
        num_left += __builtin_popcount(bits);
      }
    }
    Floats::store(tile.z + i, z);
    for (int k = 0; k < 3; ++k) Floats::store(tile.b[k] + i, b[k]);
  }
  for (int i = 0; i < count; ++i) work.triangle_id[pixel + i] = tile.id[i];
  for (int i = 0; i < count; ++i) work.z_ndc[pixel + i] = tile.z[i];
  float* out = work.barycentric + 3 * pixel;
  for (int i = 0; i < count; ++i)
    for (int k = 0; k < 3; ++k) out[3 * i + k] = tile.b[k][i];
  return num_left;
}

FACECORE_INLINE int64_t resolve(const RasterResolve& work) {
  ResolveTile tile;
  int64_t num_left = 0;
  for (int32_t row = work.pixels.first_row; row < work.pixels.last_row; ++row)
    for (int32_t column = 0; column < work.pixels.width; column += kTile) {
      const int32_t left = work.pixels.width - column;
      num_left += resolve_tile(work, tile, row, column, left < kTile ? left : kTile);
    }
  return num_left;
}

// Covered pixels in order. Two take turns: one fills and finds its vertices, long before the other's are read.
struct CoveredPixels {
  static constexpr int kFull = 64, kRoom = kFull + kLanes;
  int count = 0;
  alignas(64) int32_t id[kRoom] = {}, pixel[kRoom] = {}, vertex[3][kRoom];
  alignas(64) float px[kRoom] = {}, py[kRoom] = {};

  FACECORE_INLINE void append(IntLanes ids, int32_t first_pixel, FloatLanes x, float y, uint32_t covered) {
    compress_store(id + count, ids, covered);
    compress_store(pixel + count, lane_numbers() + first_pixel, covered);
    compress_store(reinterpret_cast<int32_t*>(px) + count, reinterpret_cast<IntLanes>(x), covered);
    Floats::store(py + count, FloatLanes{} + y);
    count += __builtin_popcount(covered);
  }

  FACECORE_INLINE void move_rest_to(CoveredPixels& other) {
    Ints::store(other.id, Ints::load(id + kFull));
    Ints::store(other.pixel, Ints::load(pixel + kFull));
    Floats::store(other.px, Floats::load(px + kFull));
    Floats::store(other.py, Floats::load(py + kFull));
    other.count = count - kFull;
    count = kFull;
  }

  FACECORE_INLINE void find(const RasterPixels& pixels) {
    UnsignedLanes largest = {};
    for (int i = 0; i < count; i += kLanes) {
      IntLanes corner[3];
      find_corners(pixels, Ints::load(id + i), corner);
      for (int k = 0; k < 3; ++k) {
        const UnsignedLanes index = reinterpret_cast<UnsignedLanes>(corner[k]);
        largest = index > largest ? index : largest;
        Ints::store(vertex[k] + i, corner[k] * 4);
      }
    }
    if (bits_of(largest >= static_cast<uint32_t>(pixels.num_vertices))) leave_out_missing(pixels);
  }

  // What find does where some vertex does not exist: the pixels of its triangles are left out, by a place that is NaN.
  __attribute__((noinline, cold)) void leave_out_missing(const RasterPixels& pixels) {
    for (int i = 0; i < count; i += kLanes) {
      IntLanes corner[3], missing = {};
      find_corners(pixels, Ints::load(id + i), corner);
      for (int k = 0; k < 3; ++k) {
        const IntLanes existing = bounded(corner[k], pixels.num_vertices);
        missing |= existing != corner[k];
        Ints::store(vertex[k] + i, existing * 4);
      }
      const FloatLanes place = Floats::load(px + i);
      Floats::store(px + i, missing ? FloatLanes{} + __builtin_nanf("") : place);
    }
  }
};

// grad_v_j += -b_j (G_x, G_y, 0, -(px G_x + py G_y)) at kLanes pixels, one after the other.
FACECORE_INLINE int64_t backward_lanes(const RasterPixelsBackward& work, const CoveredPixels& covered, int i,
                                       VertexTerm* put_off) {
  using Corner = Vector<float, 16>;
  FloatLanes corners[3][3], weight[3], x, y;
  for (int k = 0; k < 3; ++k) {
    FloatLanes column[4];
    load_rows<1>(work.pixels.vertices_clip, covered.vertex[k] + i, column);
    corners[k][0] = column[0], corners[k][1] = column[1], corners[k][2] = column[3];
    weight[k] = gather(work.grad_barycentric + k, Ints::load(covered.pixel + i) * 3);
  }
  const Triangles at(corners, Floats::load(covered.px + i), Floats::load(covered.py + i));
  at.combine_gradients(weight, x, y);
  const FloatLanes along_w = -(at.px * x + at.py * y);
  alignas(64) float gradient[3][4 * kLanes];
  for (int k = 0; k < 3; ++k) {
    FloatLanes row[4] = {-at.b[k] * x, -at.b[k] * y, FloatLanes{}, -at.b[k] * along_w};
    transpose_rows(row);
    for (int part = 0; part < 4; ++part) Floats::store(gradient[k] + part * kLanes, row[part]);
  }
  const auto add = [&](int lane, int k) __attribute__((always_inline)) {
    float* target = work.grad_vertices_clip + covered.vertex[k][i + lane];
    Corner::store(target, Corner::load(target) + Corner::load(gradient[k] + row_place(lane)));
  };
  constexpr uint32_t kAll = (1u << kLanes) - 1;
  const int left = covered.count - i;
  uint32_t bits = bits_of(at.regular) & (left < kLanes ? (1u << left) - 1 : kAll), own[3] = {kAll, kAll, kAll};
  if (work.put_off)
    for (int k = 0; k < 3; ++k) {
      const FloatLanes y_k = corners[k][1], w = corners[k][2];
      own[k] = bits_of((w > 0.0f) & (y_k - work.top * w <= 0.0f) & (y_k - work.bottom * w > 0.0f));
    }
  if ((bits & own[0] & own[1] & own[2]) == kAll) {
    FACECORE_UNROLL
    for (int lane = 0; lane < kLanes; ++lane)
      for (int k = 0; k < 3; ++k) add(lane, k);
    return 0;
  }
  int64_t num_put_off = 0;
  for (; bits; bits &= bits - 1) {
    const int lane = lowest_bit(bits);
    for (int k = 0; k < 3; ++k) {
      if (own[k] >> lane & 1) {
        add(lane, k);
        continue;
      }
      put_off[num_put_off].place = covered.vertex[k][i + lane];
      Corner::store(put_off[num_put_off++].value, Corner::load(gradient[k] + row_place(lane)));
    }
  }
  return num_put_off;
}

FACECORE_INLINE int64_t backward_covered(const RasterPixelsBackward& work, const CoveredPixels& covered,
                                         VertexTerm* put_off) {
  int64_t num_put_off = 0;
  for (int i = 0; i < covered.count; i += kLanes)
    num_put_off += backward_lanes(work, covered, i, put_off + num_put_off);
  return num_put_off;
}

// kLanes ids of a row, -1 beyond its end.
FACECORE_INLINE IntLanes load_ids(const int32_t* ids, int32_t count) {
  if (count >= kLanes) return Ints::load(ids);
  alignas(64) int32_t part[kLanes];
  for (int i = 0; i < kLanes; ++i) part[i] = i < count ? ids[i] : -1;
  return Ints::load(part);
}

FACECORE_INLINE IntLanes exists(const RasterPixels& pixels, IntLanes id) {
  return (id >= 0) & (id < static_cast<int32_t>(pixels.num_triangles));
}

FACECORE_INLINE int64_t pixels_backward(const RasterPixelsBackward& work) {
  const RasterPixels& pixels = work.pixels;
  if (pixels.num_vertices == 0 || pixels.num_triangles == 0) return 0;
  CoveredPixels queue[2];
  int filling = 0;
  int64_t num_put_off = 0;
  for (int32_t row = pixels.first_row; row < pixels.last_row; ++row) {
    const float y = center_y<float>(row, pixels.height);
    for (int32_t column = 0; column < pixels.width; column += kLanes) {
      const int32_t pixel = row * pixels.width + column;  // a picture has at most 2^28 pixels
      const IntLanes id = load_ids(work.triangle_id + pixel, pixels.width - column);
      const uint32_t covered = bits_of(exists(pixels, id));
      if (covered == 0) continue;
      CoveredPixels& next = queue[filling];
      next.append(id, pixel, centers_x(column, pixels.width), y, covered);
      if (next.count < CoveredPixels::kFull) continue;
      next.find(pixels);
      filling = 1 - filling;
      num_put_off += backward_covered(work, queue[filling], work.put_off + num_put_off);
      next.move_rest_to(queue[filling]);
    }
  }
  queue[filling].find(pixels);
  num_put_off += backward_covered(work, queue[1 - filling], work.put_off + num_put_off);
  return num_put_off + backward_covered(work, queue[filling], work.put_off + num_put_off);
}

}  // namespace

namespace FACECORE_SIMD_NAMESPACE {
int64_t raster_resolve(const RasterResolve& work) { return resolve(work); }
int64_t raster_pixels_backward(const RasterPixelsBackward& work) { return pixels_backward(work); }
}  // namespace FACECORE_SIMD_NAMESPACE

}  // namespace facecore
#else
#include "simd/vector.h"

namespace facecore {
namespace FACECORE_SIMD_NAMESPACE {  // kHasRasterPixels is false: not called
int64_t raster_resolve(const RasterResolve&) { return 0; }
int64_t raster_pixels_backward(const RasterPixelsBackward&) { return 0; }
}  // namespace FACECORE_SIMD_NAMESPACE
}  // namespace facecore
#endif
