// Projection and drawing of many small triangles at once, for rasterize on a CPU: plain structs for the SIMD kernels.
#pragma once
#include "core/simd.h"
#include "core/triangle.h"

namespace facecore {

constexpr uint32_t kLeftToScalar = ~0u;  // SnappedVertex::outside of a vertex that the kernel did not decide

struct RasterProject {
  int64_t count;
  int32_t height, width;
  const float* vertices_clip;  // [count, 4]
  SnappedVertex* snapped;      // [count]
};

struct RasterDraw {
  int64_t num_vertices;
  int64_t begin, end;  // triangles
  int32_t height, width;
  bool cull_backfaces;
  const int32_t* triangles;      // [T, 3]
  const SnappedVertex* snapped;  // [num_vertices]
  uint64_t* keys;                // [height, width]
  int32_t* rest;                 // room for end - begin triangles that are left to the caller
};

// Returns how many vertices are left to the caller, marked by kLeftToScalar: those that project_vertex would not take
// its quick way with. The others have the very bits that it gives.
using RasterProjectKernel = int64_t(const RasterProject& work);

// Draws as RasterImage::draw_triangle does, bit for bit. Returns the number of triangles in `rest`: those that are cut
// by a plane and those with many pixels.
using RasterDrawKernel = int64_t(const RasterDraw& work);

FACECORE_DECLARE_SIMD(int64_t raster_project(const RasterProject& work))
FACECORE_DECLARE_SIMD(int64_t raster_draw(const RasterDraw& work))

}  // namespace facecore
