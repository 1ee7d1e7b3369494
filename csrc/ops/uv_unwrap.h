// texture[n,c,p] = bilinear image[n,c] at (u, v) = screen(sum_k barycentric[k,p] vertices_clip[n, corners[k,p]]), where
// the texel's triangle is visible; 0 elsewhere (METHODS 1.9). The device's bodies, and what the host shares with them;
// the host projects tiles of texels by simd/uv_texels.h. Both use core/texel.h.
#pragma once
#include "core/sample_sums.h"
#include "core/texel.h"

namespace facecore {

constexpr double kEmptyDepth = 2.0;  // beyond every z_ndc that counts

// The smallest and the largest z_ndc in [-1, 1] of a block of vertices in front of the camera.
template <class T> struct DepthRanges {  // item = block
  int64_t num_vertices, num_blocks, block_size;
  const T* vertices_clip;  // [N, V, 4]
  T* ranges;               // [N, B, 2]; (kEmptyDepth, -kEmptyDepth) where there is none

  FACECORE_HD void operator()(int64_t image, int64_t block) const {
    const int64_t begin = block * block_size, limit = begin + block_size;
    const int64_t end = limit < num_vertices ? limit : num_vertices;
    const T* point = vertices_clip + 4 * (image * num_vertices + begin);
    T low = T(kEmptyDepth), high = T(-kEmptyDepth);
    for (int64_t v = begin; v < end; ++v, point += 4) {
      const T z = point[2] / point[3];
      const bool counts = (point[3] > T(0)) & (z >= T(-1)) & (z <= T(1));
      low = counts & (z < low) ? z : low;
      high = counts & (z > high) ? z : high;
    }
    T* range = ranges + 2 * (image * num_blocks + block);
    range[0] = low, range[1] = high;
  }
};

template <class T> struct UvUnwrap {  // item = texel
  int64_t num_texels, num_vertices, num_triangles, num_channels, height, width;
  const T* image;              // [N, C, H, W]
  const T* vertices_clip;      // [N, V, 4]
  const int32_t* corners;      // [3, P]; anything that is not a vertex: the texel is empty
  const T* barycentric;        // [3, P]
  const int32_t* triangles;    // [T, 3]
  const T* z_ndc;              // [N, H, W]; absent: nothing hides anything
  const int32_t* triangle_id;  // [N, H, W]; absent with z_ndc
  const T* depth_range;        // [N]; absent with z_ndc
  T* texture;                  // [N, C, P]
  bool* valid;                 // [N, P]

  FACECORE_HD bool empty() const { return num_vertices == 0 || height == 0 || width == 0; }

  // Whether the triangle in the depth buffer has a vertex in common with the texel's own.
  FACECORE_HD bool touches(int64_t texel, int64_t pixel_of_batch) const {
    const int64_t id = triangle_id[pixel_of_batch];
    if (id < 0 || id >= num_triangles) return false;
    bool touching = false;
    for (int k = 0; k < 3; ++k)
      for (int j = 0; j < 3; ++j) touching |= corners[k * num_texels + texel] == triangles[3 * id + j];
    return touching;
  }
  FACECORE_HD bool is_seen(int64_t image_index, int64_t texel, T column, T row, T depth) const {
    if (!z_ndc) return true;
    const int64_t pixel = (image_index * height + static_cast<int64_t>(row)) * width + static_cast<int64_t>(column);
    return depth <= z_ndc[pixel] + T(kUnwrapTolerance) * depth_range[image_index] || touches(texel, pixel);
  }

  // False where the texel is not in the table.
  FACECORE_HD bool load(int64_t image_index, int64_t texel, T (*corner)[4], T* weight) const {
    for (int k = 0; k < 3; ++k) {
      const int64_t vertex = corners[k * num_texels + texel];
      if (vertex < 0 || vertex >= num_vertices) return false;
      weight[k] = barycentric[k * num_texels + texel];
      for (int c = 0; c < 4; ++c) corner[k][c] = vertices_clip[4 * (image_index * num_vertices + vertex) + c];
    }
    return true;
  }
  FACECORE_HD Sample<T> sample(const TexelPoint<T>& point) const {
    return {point.column.first, point.row.first, point.column.fraction, point.row.fraction, height, width};
  }

  FACECORE_HD void operator()(int64_t image_index, int64_t texel) const {
    T corner[3][4], weight[3];
    bool seen = !empty() && load(image_index, texel, corner, weight);
    TexelPoint<T> point;
    if (seen) {
      point = project_texel<T>(corner, weight, static_cast<T>(height), static_cast<T>(width));
      const TexelPlane<T> plane(corner);
      const T range = depth_range ? depth_range[image_index] : T(0);
      seen = point.inside && plane.det > T(0) &&
             is_seen(image_index, texel, point.column.cell, point.row.cell,
                     depth_at_centre<T>(point, plane, static_cast<T>(height), static_cast<T>(width), range));
    }
    valid[image_index * num_texels + texel] = seen;
    for (int64_t c = image_index * num_channels; c < (image_index + 1) * num_channels; ++c)
      texture[c * num_texels + texel] = seen ? sample(point).value(image + c * height * width) : T(0);
  }
};

// With x = q_x / w and u = W/2 (1 + x): grad_q = (g_x, g_y, 0, -(g_x x + g_y y)) / w, g_x = W/2 grad_u; likewise y with
// the sign of the flip. grad_vertices_clip[corner k] += barycentric[k] grad_q.
template <class T> struct ClipGradient {
  T x, y, w;
  FACECORE_HD ClipGradient(T ndc_x, T ndc_y, T inverse_w, T grad_u, T grad_v, T height, T width)
      : x(T(0.5) * width * grad_u * inverse_w), y(T(-0.5) * height * grad_v * inverse_w), w(-(x * ndc_x + y * ndc_y)) {}
};

template <class T> struct UvUnwrapBackward {  // item = texel
  UvUnwrap<T> forward;
  const T* grad_texture;  // [N, C, P]
  const bool* valid;      // [N, P], of the forward
  T* grad_image;          // [N, C, H, W], zero on entry; absent when not wanted
  T* grad_vertices_clip;  // [N, V, 4], zero on entry; absent when not wanted

  FACECORE_HD void operator()(int64_t image_index, int64_t texel) const {
    T weight[3];
    TexelPoint<T> point;
    if (!find(image_index, texel, weight, point)) return;
    T grad_u = T(0), grad_v = T(0);
    add_to_image(image_index, texel, forward.sample(point), &grad_u, &grad_v);
    if (!grad_vertices_clip) return;
    const ClipGradient<T> grad = clip_gradient(point, grad_u, grad_v);
    for (int k = 0; k < 3; ++k) {
      const int64_t vertex = forward.corners[k * forward.num_texels + texel];
      T* target = grad_vertices_clip + 4 * (image_index * forward.num_vertices + vertex);
      accumulate(target, weight[k] * grad.x);
      accumulate(target + 1, weight[k] * grad.y);
      accumulate(target + 3, weight[k] * grad.w);
    }
  }

  // False where the texel has no gradient.
  FACECORE_HD bool find(int64_t image_index, int64_t texel, T* weight, TexelPoint<T>& point) const {
    T corner[3][4];
    if (forward.empty() || !valid[image_index * forward.num_texels + texel]) return false;
    if (!forward.load(image_index, texel, corner, weight)) return false;
    point = project_texel<T>(corner, weight, static_cast<T>(forward.height), static_cast<T>(forward.width));
    return point.inside;
  }
  FACECORE_HD ClipGradient<T> clip_gradient(const TexelPoint<T>& point, T grad_u, T grad_v) const {
    return {point.x,
            point.y,
            point.inverse_w,
            grad_u,
            grad_v,
            static_cast<T>(forward.height),
            static_cast<T>(forward.width)};
  }

  FACECORE_HD void add_to_image(int64_t image_index, int64_t texel, const Sample<T>& sample, T* grad_u,
                                T* grad_v) const {
    const int64_t pixels = forward.height * forward.width;
    for (int64_t c = image_index * forward.num_channels; c < (image_index + 1) * forward.num_channels; ++c) {
      const T grad = grad_texture[c * forward.num_texels + texel];
      sample.position_gradient(forward.image + c * pixels, grad, grad_u, grad_v);
      if (grad_image) sample.add_to_plane(grad_image + c * pixels, grad);
    }
  }
};

// The same without atomics. First what each texel has to give; then each vertex adds up its texels, and each pixel the
// samples around it (core/sample_sums.h).
template <class T> struct UvUnwrapTexelGradient {  // item = texel
  UvUnwrapBackward<T> texels;                      // its grad_image is absent
  T* clip;                                         // [N, P, 3]: grad_q's x, y, w, 0 without a gradient
  SampleCells<T> cells;

  FACECORE_HD void operator()(int64_t image_index, int64_t texel) const {
    T weight[3];
    TexelPoint<T> point;
    const int64_t item = image_index * texels.forward.num_texels + texel;
    T* result = clip + 3 * item;
    if (!texels.find(image_index, texel, weight, point)) {
      result[0] = result[1] = result[2] = T(0);
      return cells.set_none(item);
    }
    cells.set(item, point.column, point.row);
    T grad_u = T(0), grad_v = T(0);
    texels.add_to_image(image_index, texel, texels.forward.sample(point), &grad_u, &grad_v);
    const ClipGradient<T> grad = texels.clip_gradient(point, grad_u, grad_v);
    result[0] = grad.x, result[1] = grad.y, result[2] = grad.w;
  }
};

template <class T> struct UvUnwrapVertexGradient {  // item = vertex
  int64_t num_texels, num_vertices, num_entries;
  const T* barycentric;          // [3, P]
  const int32_t* vertex_start;   // [V+1]; vertex v's entries are vertex_texels[vertex_start[v] .. vertex_start[v+1])
  const int32_t* vertex_texels;  // [E]; 3 * texel + corner, ascending for each vertex
  const T* clip;                 // of UvUnwrapTexelGradient
  T* grad_vertices_clip;         // [N, V, 4]

  FACECORE_HD void operator()(int64_t image_index, int64_t vertex) const {
    const int64_t first = vertex_start[vertex], last = vertex_start[vertex + 1];
    T sum[3] = {T(0), T(0), T(0)};
    for (int64_t i = first < 0 ? 0 : first; i < (last < num_entries ? last : num_entries); ++i) {
      const int64_t texel = vertex_texels[i] / 3, corner = vertex_texels[i] % 3;
      if (vertex_texels[i] < 0 || texel >= num_texels) continue;
      const T weight = barycentric[corner * num_texels + texel];
      const T* grad = clip + 3 * (image_index * num_texels + texel);
      for (int c = 0; c < 3; ++c) sum[c] += weight * grad[c];
    }
    T* result = grad_vertices_clip + 4 * (image_index * num_vertices + vertex);
    result[0] = sum[0], result[1] = sum[1], result[2] = T(0), result[3] = sum[2];
  }
};

}  // namespace facecore
