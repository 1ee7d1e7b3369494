// The projection of consecutive texels by core/texel.h, as plain structs: arguments of the SIMD kernels.
#pragma once
#include <cstdint>

#include "core/simd.h"

namespace facecore {

constexpr int64_t kTexelTile = 64;  // several vectors, so that a row is loaded long after its numbers were stored

template <class T> struct TexelRange {  // of one image
  int64_t begin, count;                 // count <= kTexelTile
  int64_t num_texels, num_vertices;     // num_vertices > 0
  int64_t height, width;                // of the picture, > 0
  const T* vertices_clip;               // [V, 4]
  const int32_t* corners;               // [3, P]; -1, or anything that is not a vertex: the texel is empty
  const T* barycentric;                 // [3, P]
  bool with_depth;                      // whether facing and depth are wanted
  T depth_range;                        // of the mesh
};

template <class T> struct TexelTile {  // one number per texel; lanes from count on, and empty texels, are not inside
  alignas(64) T inside[kTexelTile];    // 1 or 0; 0: the rest is not to be used, but column, row, ... are of some pixel
  T x[kTexelTile], y[kTexelTile], inverse_w[kTexelTile];  // NDC and 1 / w
  T column[kTexelTile], row[kTexelTile];                  // of the pixel that holds the point
  T first_column[kTexelTile], first_row[kTexelTile];      // of the bilinear sample
  T fraction_x[kTexelTile], fraction_y[kTexelTile];
  T depth[kTexelTile];  // with_depth: z_ndc of the triangle's plane at the pixel's centre; inside counts facing too
};

// Both return whether any texel of the range is in the table; the tile is not written when none is.
template <class T> using TexelKernel = bool(const TexelRange<T>& range, TexelTile<T>& tile);
FACECORE_DECLARE_SIMD(bool project_texels(const TexelRange<float>& range, TexelTile<float>& tile))
FACECORE_DECLARE_SIMD(bool project_texels(const TexelRange<double>& range, TexelTile<double>& tile))

}  // namespace facecore
