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
  alignas(64) T inside[kTexelTile];    // 1 or 0; 0: the rest is not to be used, but the pixels are of the picture
  T x[kTexelTile], y[kTexelTile], inverse_w[kTexelTile];  // NDC and 1 / w
  T fraction_x[kTexelTile], fraction_y[kTexelTile];       // of the bilinear sample
  T first_column[kTexelTile], first_row[kTexelTile];      // of its upper left pixel, -1 beyond the border
  T depth[kTexelTile];        // with_depth: z_ndc of the triangle's plane at the centre of the pixel that holds the
                              // point; inside counts facing too
  int32_t pixel[kTexelTile];  // the pixel that holds the point, as an offset in a plane
  int32_t sampled[4][kTexelTile];  // the pixels of the sample: top left, top right, bottom left, bottom right
};

// Returns whether any texel of the range is in the table; the tile is not written when none is.
template <class T> using TexelKernel = bool(const TexelRange<T>& range, TexelTile<T>& tile);
// out[i] = the sample of texel i from a plane of the picture, all kTexelTile of them.
template <class T> using TexelSampler = void(const TexelTile<T>& tile, const T* plane, T* out);
// Adds grad[i] * d(sample of texel i)/d(u, v in pixels) to grad_u[i] and grad_v[i].
template <class T>
using TexelSamplerGradient = void(const TexelTile<T>& tile, const T* plane, const T* grad, T* grad_u, T* grad_v);

// Fills the sample of a tile (inside: not NaN; the pixels and fractions) from texture coordinates (ops/uv_sample.h).
template <class T> struct PointRange {
  int64_t count, height, width;  // count <= kTexelTile; of the texture
  const T* uv;                   // [count, 2]
};
template <class T> using PointKernel = void(const PointRange<T>& range, TexelTile<T>& tile);

FACECORE_DECLARE_SIMD(void place_points(const PointRange<float>& range, TexelTile<float>& tile))
FACECORE_DECLARE_SIMD(void place_points(const PointRange<double>& range, TexelTile<double>& tile))
FACECORE_DECLARE_SIMD(bool project_texels(const TexelRange<float>& range, TexelTile<float>& tile))
FACECORE_DECLARE_SIMD(bool project_texels(const TexelRange<double>& range, TexelTile<double>& tile))
FACECORE_DECLARE_SIMD(void sample_texels(const TexelTile<float>& tile, const float* plane, float* out))
FACECORE_DECLARE_SIMD(void sample_texels(const TexelTile<double>& tile, const double* plane, double* out))
FACECORE_DECLARE_SIMD(void sample_gradients(const TexelTile<float>& tile, const float* plane, const float* grad,
                                            float* grad_u, float* grad_v))
FACECORE_DECLARE_SIMD(void sample_gradients(const TexelTile<double>& tile, const double* plane, const double* grad,
                                            double* grad_u, double* grad_v))

}  // namespace facecore
