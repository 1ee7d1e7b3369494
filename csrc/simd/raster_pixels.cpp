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

// The triangles `id` seen at pixels `column`, ... of `row`. vertex: 4 * index. A triangle or vertex that does not
// exist, a triangle of an uncovered pixel above all, is replaced by one that does: nothing else may be read or written.
FACECORE_INLINE Triangles triangles_at(const RasterPixels& pixels, IntLanes id, int32_t row, int32_t column,
                                       IntLanes* vertex) {
  const IntLanes first = bounded(id, pixels.num_triangles) * 3;
  FloatLanes corners[3][3];
  for (int k = 0; k < 3; ++k) {
    vertex[k] = bounded(gather(pixels.triangles + k, first), pixels.num_vertices) * 4;
    corners[k][0] = gather(pixels.vertices_clip, vertex[k]);
    corners[k][1] = gather(pixels.vertices_clip + 1, vertex[k]);
    corners[k][2] = gather(pixels.vertices_clip + 3, vertex[k]);
  }
  const IntLanes twice = (lane_numbers() + column) * 2 + (1 - pixels.width);
  const FloatLanes x = __builtin_convertvector(twice, FloatLanes) / static_cast<float>(pixels.width);
  return {corners, x, FloatLanes{} + center_y<float>(row, pixels.height)};
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
      const Triangles at(triangles_at(work.pixels, id, row, column + i, vertex));
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

struct BackwardTile {
  alignas(64) int32_t id[kTile];
  alignas(64) float grad[3][kTile];
};

// grad_v_j += -b_j (G_x, G_y, 0, -(px G_x + py G_y)) at kLanes pixels, one after the other.
FACECORE_INLINE void backward_lanes(const RasterPixelsBackward& work, const BackwardTile& tile, int i, int32_t row,
                                    int32_t column) {
  using Corner = Vector<float, 16>;
  const IntLanes id = Ints::load(tile.id + i);
  const IntLanes seen = (id >= 0) & (id < static_cast<int32_t>(work.pixels.num_triangles));
  if (bits_of(seen) == 0) return;
  IntLanes vertex[3];
  const Triangles at(triangles_at(work.pixels, id, row, column, vertex));
  FloatLanes weight[3], x, y;
  for (int k = 0; k < 3; ++k) weight[k] = Floats::load(tile.grad[k] + i);
  at.combine_gradients(weight, x, y);
  const FloatLanes along_w = -(at.px * x + at.py * y);
  alignas(64) float gradient[4][kLanes] = {}, b[3][kLanes];
  alignas(64) int32_t offset[3][kLanes];
  Floats::store(gradient[0], x);
  Floats::store(gradient[1], y);
  Floats::store(gradient[3], along_w);
  for (int k = 0; k < 3; ++k) {
    Floats::store(b[k], at.b[k]);
    Ints::store(offset[k], vertex[k]);
  }
  for (uint32_t bits = bits_of(seen & at.regular); bits; bits &= bits - 1) {
    const int l = lowest_bit(bits);
    const Corner::type along = {gradient[0][l], gradient[1][l], 0.0f, gradient[3][l]};
    for (int k = 0; k < 3; ++k) {
      float* target = work.grad_vertices_clip + offset[k][l];
      Corner::store(target, Corner::load(target) - b[k][l] * along);
    }
  }
}

FACECORE_INLINE void pixels_backward(const RasterPixelsBackward& work) {
  if (work.pixels.num_vertices == 0 || work.pixels.num_triangles == 0) return;
  BackwardTile tile;
  const int32_t width = work.pixels.width;
  for (int32_t row = work.pixels.first_row; row < work.pixels.last_row; ++row)
    for (int32_t column = 0; column < width; column += kTile) {
      const int count = width - column < kTile ? width - column : kTile;
      const int64_t pixel = static_cast<int64_t>(row) * width + column;
      int32_t all = -1;
      for (int i = 0; i < count; ++i) all &= tile.id[i] = work.triangle_id[pixel + i];
      if (all == -1) continue;  // uncovered: an id that is not -1 has a bit that is not set
      for (int i = count; i < kTile; ++i) tile.id[i] = -1;
      const float* grad = work.grad_barycentric + 3 * pixel;
      for (int i = 0; i < count; ++i)
        for (int k = 0; k < 3; ++k) tile.grad[k][i] = grad[3 * i + k];
      for (int i = count; i < kTile; ++i)
        for (int k = 0; k < 3; ++k) tile.grad[k][i] = 0.0f;
      for (int i = 0; i < count; i += kLanes) backward_lanes(work, tile, i, row, column + i);
    }
}

}  // namespace

namespace FACECORE_SIMD_NAMESPACE {
int64_t raster_resolve(const RasterResolve& work) { return resolve(work); }
void raster_pixels_backward(const RasterPixelsBackward& work) { pixels_backward(work); }
}  // namespace FACECORE_SIMD_NAMESPACE

}  // namespace facecore
#else
#include "simd/vector.h"

namespace facecore {
namespace FACECORE_SIMD_NAMESPACE {  // kHasRasterPixels is false: not called
int64_t raster_resolve(const RasterResolve&) { return 0; }
void raster_pixels_backward(const RasterPixelsBackward&) {}
}  // namespace FACECORE_SIMD_NAMESPACE
}  // namespace facecore
#endif
