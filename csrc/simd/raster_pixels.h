// Pixels of a drawn picture, many at once, for rasterize on a CPU: plain structs for the SIMD kernels.
#pragma once
#include "core/simd.h"
#include "core/triangle.h"

namespace facecore {

struct RasterPixels {
  int32_t height, width;
  int32_t first_row, last_row;  // the rows of this piece of work, last_row excluded
  int64_t num_vertices, num_triangles;
  const float* vertices_clip;  // [V, 4]
  const int32_t* triangles;    // [T, 3]
};

struct RasterResolve {
  RasterPixels pixels;
  int64_t num_slices, slice_stride;
  const uint64_t* keys;  // [num_slices, height, width], slice_stride apart; a pixel's key is the smallest
  int32_t* triangle_id;  // [height, width]
  float* barycentric;    // [height, width, 3]
  float* z_ndc;          // [height, width]
};

struct VertexTerm {
  int32_t place;  // 4 * vertex
  float value[4];
};

// A picture is cut into slices of rows for threads to share. A slice adds at once to the vertices that lie in it on the
// screen, and to no others; what it has for those of other slices is put off until all are done. The cuts do not
// depend on the number of threads, so the order of every sum does not either.
struct RasterPixelsBackward {
  RasterPixels pixels;
  const int32_t* triangle_id;     // [height, width]
  const float* grad_barycentric;  // [height, width, 3]
  float* grad_vertices_clip;      // [V, 4], added to
  float top, bottom;              // NDC of the slice's own vertices: bottom < y <= top, for w > 0
  VertexTerm* put_off;            // [3 * pixels of the slice]; absent: all vertices are its own
};

// As RasterImage::resolve; returns how many pixels are left to the caller, marked by a NaN as their first barycentric:
// those whose triangle is too thin.
using RasterResolveKernel = int64_t(const RasterResolve& work);

// As RasterizeBackward: pixels whose triangle or one of its vertices does not exist add nothing. Returns how many terms
// were put off.
using RasterPixelsBackwardKernel = int64_t(const RasterPixelsBackward& work);

FACECORE_DECLARE_SIMD(int64_t raster_resolve(const RasterResolve& work))
FACECORE_DECLARE_SIMD(int64_t raster_pixels_backward(const RasterPixelsBackward& work))

constexpr bool kHasRasterPixels =
#if defined(__GNUC__)
    true;
#else
    false;  // without vectors the caller goes pixel by pixel
#endif

}  // namespace facecore
