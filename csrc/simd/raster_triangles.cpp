// The kernels of raster_triangles.h: one vertex or one triangle per lane. Built with -ffp-contract=off (core/ieee.h).
#include "simd/raster_triangles.h"

#if defined(__GNUC__)
#include "simd/lanes.h"

namespace facecore {
namespace {

constexpr int kTile = 64;     // items whose numbers are sorted into rows, long before they are loaded as vectors
constexpr int32_t kMost = 4;  // pixel columns and rows of a box up to which it is drawn here

// --- projection ---

struct VertexTile {
  alignas(64) float in[4][kTile];
  alignas(64) int32_t x[kTile], y[kTile], left[kTile];
  alignas(64) float z[kTile];
};

FACECORE_INLINE DoubleLanes absolute(DoubleLanes v) { return v < 0.0 ? -v : v; }

// core/ieee.h's round_to_int
FACECORE_INLINE HalfInts::type rounded(DoubleLanes value) {
  constexpr double kShift = 6755399441055744.0;
  return __builtin_convertvector((value + kShift) - kShift, HalfInts::type);
}

// kHalfLanes vertices: the steps of project_vertex and snap in core/triangle.h, in their order.
FACECORE_INLINE void project_lanes(VertexTile& tile, int i, double height, double width) {
  DoubleLanes in[4];
  for (int c = 0; c < 4; ++c) in[c] = __builtin_convertvector(HalfFloats::load(tile.in[c] + i), DoubleLanes);
  const DoubleLanes w = in[3], guard = kGuardBand * w;
  const auto inside =
      (w > 0.0) & (w <= kLargestW) & (absolute(in[2]) <= w) & (absolute(in[0]) <= guard) & (absolute(in[1]) <= guard);
  const DoubleLanes one = DoubleLanes{} + 1.0;
  const DoubleLanes inverse = one / (inside ? w : one);
  const DoubleLanes x = (1.0 + in[0] * inverse) * (kHalfPixel * width);
  const DoubleLanes y = (1.0 - in[1] * inverse) * (kHalfPixel * height);
  DoubleLanes z = in[2] * inverse;
  z = z < -1.0 ? -one : (z > 1.0 ? one : z);
  constexpr double kLimit = (kGuardBand + 2.0) * kHalfPixel;
  const auto decided = inside & (absolute(x) <= kLimit * width) & (absolute(y) <= kLimit * height) & (z == z);
  const DoubleLanes zero = {};
  HalfInts::store(tile.x + i, rounded(decided ? x : zero));
  HalfInts::store(tile.y + i, rounded(decided ? y : zero));
  HalfFloats::store(tile.z + i, __builtin_convertvector(decided ? z : zero, HalfFloats::type));
  HalfInts::store(tile.left + i, __builtin_convertvector(~decided, HalfInts::type));
}

FACECORE_INLINE int64_t project(const RasterProject& work) {
  int64_t num_left = 0;
  VertexTile tile;
  for (int64_t begin = 0; begin < work.count; begin += kTile) {
    const int count = static_cast<int>(work.count - begin < kTile ? work.count - begin : kTile);
    const float* in = work.vertices_clip + 4 * begin;
    for (int i = 0; i < count; ++i)
      for (int c = 0; c < 4; ++c) tile.in[c][i] = in[4 * i + c];
    for (int i = count; i < kTile; ++i)
      for (int c = 0; c < 4; ++c) tile.in[c][i] = 1.0f;
    for (int i = 0; i < kTile; i += kHalfLanes) project_lanes(tile, i, work.height, work.width);
    SnappedVertex* out = work.snapped + begin;
    for (int i = 0; i < count; ++i) {
      out[i] = {tile.x[i], tile.y[i], tile.z[i], static_cast<uint32_t>(tile.left[i])};  // -1 is kLeftToScalar
      num_left -= tile.left[i];
    }
  }
  return num_left;
}

// --- drawing ---

// Pixels that triangles cover, until they are compared with the keys there: without it, a branch per pixel and lane.
struct HitQueue {
  static constexpr int kGroup = kLanes * kMost * kMost;  // what one group of triangles adds at most
  static constexpr int kFull = 4 * kGroup;
  int count = 0;
  int32_t depth[kFull + kGroup + kLanes], pixel[kFull + kGroup + kLanes], id[kFull + kGroup + kLanes];

  FACECORE_INLINE void flush(uint64_t* keys) {
    for (int i = 0; i < count; ++i) {
      const uint64_t key = static_cast<uint64_t>(static_cast<uint32_t>(depth[i])) << 32 | static_cast<uint32_t>(id[i]);
      uint64_t* target = keys + pixel[i];
      *target = key < *target ? key : *target;
    }
    count = 0;
  }
};

// kLanes triangles: the vector form of SnappedTriangle::box and EdgeFunctions<int32_t>.
struct TriangleLanes {
  IntLanes index[3], x[3], y[3], id;
  IntLanes first_column, columns, first_row, rows;  // of the box; columns and rows count from 0
  IntLanes active;                                  // drawn here
  IntLanes area, edge[3], step_column[3], step_row[3], excluded[3];
  DoubleLanes weight[3][2];  // of depth_weights, for the two halves of the lanes

  // Returns the mask of triangles that are left to the caller.
  FACECORE_INLINE IntLanes load(const RasterDraw& work, const int32_t (*corner)[kTile], int i, IntLanes number) {
    const int32_t num_vertices = static_cast<int32_t>(work.num_vertices);
    IntLanes valid = number < static_cast<int32_t>(work.end - work.begin);
    for (int k = 0; k < 3; ++k) {
      index[k] = Ints::load(corner[k] + i);
      valid &= (index[k] >= 0) & (index[k] < num_vertices);
    }
    const int32_t* base = reinterpret_cast<const int32_t*>(work.snapped);
    for (int k = 0; k < 3; ++k) {
      index[k] = (index[k] & valid) * 4;
      x[k] = gather(base, index[k]);
      y[k] = gather(base + 1, index[k]);
    }
    const IntLanes low_x = smaller(x[0], smaller(x[1], x[2])), high_x = larger(x[0], larger(x[1], x[2]));
    const IntLanes low_y = smaller(y[0], smaller(y[1], y[2])), high_y = larger(y[0], larger(y[1], y[2]));
    const IntLanes zero = {};
    first_column = larger((low_x + (kHalfPixel - 1)) >> kSubpixelBits, zero);
    first_row = larger((low_y + (kHalfPixel - 1)) >> kSubpixelBits, zero);
    columns = smaller((high_x - kHalfPixel) >> kSubpixelBits, zero + (work.width - 1)) - first_column;
    rows = smaller((high_y - kHalfPixel) >> kSubpixelBits, zero + (work.height - 1)) - first_row;
    const IntLanes off_grid = low_x == kOffGrid;
    const IntLanes seen = (columns >= 0) & (rows >= 0);
    constexpr int32_t kLimit = 1 << 14;  // SnappedTriangle::is_small
    const IntLanes small = (high_x - low_x < kLimit) & (high_y - low_y < kLimit) & (columns < kMost) & (rows < kMost);
    active = valid & ~off_grid & seen & small;
    return valid & (off_grid | (seen & ~small));
  }

  FACECORE_INLINE void set_edges(const RasterDraw& work) {
    for (int k = 0; k < 3; ++k) {  // inactive lanes are a point: nothing overflows
      x[k] &= active;
      y[k] &= active;
    }
    const IntLanes doubled = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0]);
    const IntLanes flipped = doubled < 0;
    active &= doubled != 0;
    if (work.cull_backfaces) active &= flipped;
    area = flipped ? -doubled : doubled;
    const IntLanes column = (first_column & active) * kSubpixel + kHalfPixel;
    const IntLanes row = (first_row & active) * kSubpixel + kHalfPixel;
    for (int k = 0; k < 3; ++k) {
      const int a = (k + 1) % 3, b = (k + 2) % 3;
      const IntLanes along_x = x[b] - x[a], along_y = y[b] - y[a];
      const IntLanes dx = flipped ? -along_x : along_x, dy = flipped ? -along_y : along_y;
      excluded[k] = ~((dy < 0) | ((dy == 0) & (dx > 0))) & 1;
      edge[k] = dx * ((row - y[a]) & active) - dy * ((column - x[a]) & active) - excluded[k];
      step_column[k] = -dy * kSubpixel;
      step_row[k] = dx * kSubpixel;
    }
  }

  FACECORE_INLINE void set_weights(const RasterDraw& work) {
    const float* base = &work.snapped->z;
    DoubleLanes inverse[2];
    widen(active ? area : IntLanes{} + 1, inverse);
    for (int half = 0; half < 2; ++half) inverse[half] = 1.0 / inverse[half];
    for (int k = 0; k < 3; ++k) {
      widen(gather(base, index[k]), weight[k]);
      for (int half = 0; half < 2; ++half) weight[k][half] *= inverse[half];
    }
  }

  // The upper halves of the keys at a pixel: EdgeFunctions::depth and make_key.
  FACECORE_INLINE IntLanes depth_keys(const IntLanes* at) const {
    DoubleLanes term[3][2], sum[2];
    for (int k = 0; k < 3; ++k) widen(at[k] + excluded[k], term[k]);
    for (int half = 0; half < 2; ++half)
      sum[half] = (term[0][half] * weight[0][half] + term[1][half] * weight[1][half]) + term[2][half] * weight[2][half];
    const IntLanes bits = reinterpret_cast<IntLanes>(narrow(sum) + 0.0f);
    return bits ^ ((bits >> 31) | static_cast<int32_t>(0x80000000));
  }

  FACECORE_INLINE void draw(int32_t width, HitQueue& hits) const {
    IntLanes in_row[3] = {edge[0], edge[1], edge[2]};
    IntLanes row_pixel = first_row * width + first_column;
    for (int32_t row = 0;; ++row) {
      const IntLanes rows_left = active & (rows >= row);
      if (bits_of(rows_left) == 0) return;
      IntLanes at[3] = {in_row[0], in_row[1], in_row[2]}, pixel = row_pixel;
      for (int32_t column = 0;; ++column) {
        const IntLanes candidates = rows_left & (columns >= column);
        if (bits_of(candidates) == 0) break;
        const uint32_t covered = bits_of(candidates & ((at[0] | at[1] | at[2]) >= 0));
        compress_store(hits.depth + hits.count, depth_keys(at), covered);
        compress_store(hits.pixel + hits.count, pixel, covered);
        compress_store(hits.id + hits.count, id, covered);
        hits.count += __builtin_popcount(covered);
        for (int k = 0; k < 3; ++k) at[k] += step_column[k];
        pixel += 1;
      }
      for (int k = 0; k < 3; ++k) in_row[k] += step_row[k];
      row_pixel += width;
    }
  }
};

FACECORE_INLINE int64_t draw(const RasterDraw& work) {
  int64_t num_rest = 0;
  alignas(64) int32_t corner[3][kTile];
  TriangleLanes lanes;
  HitQueue hits;
  const IntLanes numbers = lane_numbers();
  for (int64_t begin = work.begin; begin < work.end; begin += kTile) {
    const int count = static_cast<int>(work.end - begin < kTile ? work.end - begin : kTile);
    const int32_t* in = work.triangles + 3 * begin;
    for (int i = 0; i < count; ++i)
      for (int k = 0; k < 3; ++k) corner[k][i] = in[3 * i + k];
    for (int i = count; i < kTile; ++i)
      for (int k = 0; k < 3; ++k) corner[k][i] = -1;
    for (int i = 0; i < count; i += kLanes) {
      const int32_t first = static_cast<int32_t>(begin - work.begin) + i;
      uint32_t rest = bits_of(lanes.load(work, corner, i, numbers + first));
      lanes.id = numbers + (first + static_cast<int32_t>(work.begin));
      for (; rest; rest &= rest - 1) work.rest[num_rest++] = lanes.id[lowest_bit(rest)];
      if (bits_of(lanes.active) == 0) continue;
      lanes.set_edges(work);
      lanes.set_weights(work);
      lanes.draw(work.width, hits);
      if (hits.count >= HitQueue::kFull) hits.flush(work.keys);
    }
  }
  hits.flush(work.keys);
  return num_rest;
}

}  // namespace

namespace FACECORE_SIMD_NAMESPACE {
int64_t raster_project(const RasterProject& work) { return project(work); }
int64_t raster_draw(const RasterDraw& work) { return work.num_vertices == 0 ? 0 : draw(work); }
}  // namespace FACECORE_SIMD_NAMESPACE

}  // namespace facecore
#else
#include "simd/vector.h"

namespace facecore {
namespace FACECORE_SIMD_NAMESPACE {  // without vectors everything is left to the caller
int64_t raster_project(const RasterProject& work) {
  for (int64_t v = 0; v < work.count; ++v) work.snapped[v].outside = kLeftToScalar;
  return work.count;
}
int64_t raster_draw(const RasterDraw& work) {
  for (int64_t t = work.begin; t < work.end; ++t) work.rest[t - work.begin] = static_cast<int32_t>(t);
  return work.end - work.begin;
}
}  // namespace FACECORE_SIMD_NAMESPACE
}  // namespace facecore
#endif
