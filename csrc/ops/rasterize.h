// Clip-space triangles to pixels: project each vertex, keep the smallest (depth, triangle) at each pixel, then the
// barycentrics of the winner. Coverage is exact (core/triangle.h); b and its gradient follow METHODS 1.8.
#pragma once
#include "core/clip.h"
#include "core/groups.h"
#include "core/launch.h"
#include "core/pixel_triangle.h"

namespace facecore {

template <class T>
FACECORE_HD PixelTriangle<ScalarLanes<T>> pixel_triangle(const T* const* corners, int32_t row, int32_t column,
                                                         int32_t height, int32_t width) {
  T xyw[3][3];
  for (int k = 0; k < 3; ++k) {
    xyw[k][0] = corners[k][0];
    xyw[k][1] = corners[k][1];
    xyw[k][2] = corners[k][3];
  }
  return {xyw, center_x<T>(column, width), center_y<T>(row, height)};
}

// One image. `keys` holds kUncovered on entry to draw().
template <class T> struct RasterImage {
  int64_t num_vertices, num_triangles;
  int32_t height, width;
  bool cull_backfaces;
  const T* vertices_clip;    // [V, 4]
  const int32_t* triangles;  // [T, 3]
  SnappedVertex* snapped;    // [V]; absent on the device, where each triangle projects its own vertices
  uint64_t* keys;            // [H, W]
  int32_t* triangle_id;      // [H, W]
  T* barycentric;            // [H, W, 3]
  T* z_ndc;                  // [H, W]

  FACECORE_HD void project(int64_t vertex) const {
    snapped[vertex] = project_vertex(vertices_clip + 4 * vertex, height, width);
  }

  FACECORE_HD void corners_of(int64_t triangle, const T** corners) const {
    for (int k = 0; k < 3; ++k) corners[k] = vertices_clip + 4 * static_cast<int64_t>(triangles[3 * triangle + k]);
  }

  // Sets `result` for a triangle that needs no clipping. Returns the union of its vertices' outside bits, kNowhere when
  // it cannot be seen at all (a bad index, a vertex that is not finite, all vertices beyond one plane).
  FACECORE_HD uint32_t load(int64_t triangle, SnappedTriangle& result) const {
    uint32_t any = 0, all = ~0u;
    for (int k = 0; k < 3; ++k) {
      const int32_t index = triangles[3 * triangle + k];
      if (static_cast<uint32_t>(index) >= num_vertices) return kNowhere;
      const SnappedVertex vertex =
          snapped ? snapped[index] : project_vertex(vertices_clip + 4 * static_cast<int64_t>(index), height, width);
      result.set(k, vertex);
      any |= vertex.outside;
      all &= vertex.outside;
    }
    return (any & kNowhere) || all ? kNowhere : any;
  }

  FACECORE_HD void draw_triangle(int64_t triangle) const {
    SnappedTriangle whole;
    const uint32_t outside = load(triangle, whole);
    if (outside == 0) draw_piece(whole, triangle);
    else if (outside != kNowhere) draw_clipped(triangle);
  }

  FACECORE_HD void draw_piece(const SnappedTriangle& piece, int64_t triangle) const {
    const PixelBox box = piece.box(height, width);
    if (!box.empty()) draw(piece, box, static_cast<int32_t>(triangle), width, cull_backfaces, 0, 1, keys);
  }

  FACECORE_HD void draw_clipped(int64_t triangle) const {
    const T* corners[3];
    corners_of(triangle, corners);
    ClippedTriangle clipped;
    clipped.clip(corners);
    SnappedTriangle piece;
    for (int i = 0; i < clipped.num_pieces(); ++i)
      if (clipped.piece(i, height, width, piece)) draw_piece(piece, triangle);
  }

  FACECORE_HD void resolve(int32_t row, int32_t column, uint64_t key) const {
    const int64_t pixel = static_cast<int64_t>(row) * width + column;
    T* b = barycentric + 3 * pixel;
    if (key == kUncovered) {
      triangle_id[pixel] = -1;
      z_ndc[pixel] = T(1);
      b[0] = b[1] = b[2] = T(0);
      return;
    }
    const int32_t triangle = key_triangle(key);
    triangle_id[pixel] = triangle;
    z_ndc[pixel] = static_cast<T>(key_z(key));
    const T* corners[3];
    corners_of(triangle, corners);
    const auto at_pixel = pixel_triangle(corners, row, column, height, width);
    if (!at_pixel.regular) return snapped_barycentric(triangle, row, column, key, b);
    for (int k = 0; k < 3; ++k) b[k] = at_pixel.b[k];
  }

 private:
  // Perspective-correct barycentrics of the snapped piece that won the pixel: its screen weights over w, on the
  // corners.
  FACECORE_HD void snapped_barycentric(int64_t triangle, int32_t row, int32_t column, uint64_t key, T* b) const {
    const T* corners[3];
    corners_of(triangle, corners);
    ClippedTriangle clipped;
    clipped.clip(corners);  // one piece, the triangle itself, where no plane cuts it
    SnappedTriangle piece;
    for (int i = 0; i < clipped.num_pieces(); ++i) {
      if (!clipped.piece(i, height, width, piece)) continue;
      const EdgeFunctions<int64_t> edges(piece, {column, column, row, row}, cull_backfaces);
      if (edges.area == 0 || !EdgeFunctions<int64_t>::covers(edges.start)) continue;
      double depth_weight[3];
      edges.depth_weights(piece.z, depth_weight);
      if (make_key(edges.depth(edges.start, depth_weight), static_cast<int32_t>(triangle)) != key) continue;
      double on_corner[3] = {0.0, 0.0, 0.0}, sum = 0.0;
      for (int k = 0; k < 3; ++k) {
        const double* weight = clipped.weight[clipped.piece_point(i, k)];
        double point[4];
        clipped.position(weight, point);
        const double share = static_cast<double>(edges.start[k] + edges.excluded[k]) / point[3];
        for (int c = 0; c < 3; ++c) on_corner[c] += share * weight[c];
      }
      for (int c = 0; c < 3; ++c) sum += on_corner[c];
      for (int c = 0; c < 3; ++c) b[c] = static_cast<T>(on_corner[c] / sum);
      return;
    }
  }
};

template <class T> struct RasterBatch {
  RasterImage<T> first;  // the pointers of image 0; triangles are shared

  FACECORE_HD RasterImage<T> image(int64_t n) const {
    RasterImage<T> result = first;
    const int64_t pixels = static_cast<int64_t>(first.height) * first.width;
    result.vertices_clip += n * first.num_vertices * 4;
    if (result.snapped) result.snapped += n * first.num_vertices;
    result.keys += n * pixels;
    result.triangle_id += n * pixels;
    result.barycentric += n * pixels * 3;
    result.z_ndc += n * pixels;
    return result;
  }
};

template <class T> struct ResolvePixels {
  RasterBatch<T> batch;
  FACECORE_HD void operator()(int64_t image, int64_t pixel) const {
    const RasterImage<T> here = batch.image(image);
    const int32_t p = static_cast<int32_t>(pixel), width = here.width;  // a picture has at most 2^28 pixels
    here.resolve(p / width, p % width, here.keys[pixel]);
  }
};

// The .cu file's drawing of every triangle of every image.
template <class T> void draw_cuda(const RasterBatch<T>& batch, int64_t num_images, std::uintptr_t stream);

// grad_v_j += -b_j (G_x, G_y, 0, -(px G_x + py G_y)),  G = sum_i grad_b_i c_i
template <class T> struct RasterizeBackward {
  int64_t num_vertices, num_triangles;
  int32_t height, width;
  const T* grad_barycentric;   // [N, H, W, 3]
  const T* vertices_clip;      // [N, V, 4]
  const int32_t* triangles;    // [T, 3]
  const int32_t* triangle_id;  // [N, H, W]
  T* grad_vertices_clip;       // [N, V, 4], zero on entry

  FACECORE_HD void operator()(int64_t image, int64_t pixel) const {
    const int32_t p = static_cast<int32_t>(pixel);
    at(image, p / width, p % width);
  }

  FACECORE_HD void at(int64_t image, int32_t row, int32_t column) const {
    Share share;
    if (!load(image, row, column, share)) return;
    for (int k = 0; k < 3; ++k) {
      T* grad = grad_vertices_clip + 4 * (image * num_vertices + share.vertex[k]);
      accumulate(grad, -share.b[k] * share.x);
      accumulate(grad + 1, -share.b[k] * share.y);
      accumulate(grad + 3, -share.b[k] * share.w);
    }
  }

  // A pixel adds -b_k (x, y, 0, w) to its triangle's corner k.
  struct Share {
    int32_t vertex[3];
    T b[3], x, y, w;
  };
  // False: it adds nothing.
  FACECORE_HD bool load(int64_t image, int32_t row, int32_t column, Share& share) const {
    const int64_t p = (image * height + row) * width + column;
    if (triangle_id[p] < 0 || triangle_id[p] >= num_triangles) return false;
    const T* corners[3];
    for (int k = 0; k < 3; ++k) {
      const int32_t vertex = triangles[3 * static_cast<int64_t>(triangle_id[p]) + k];
      if (static_cast<uint32_t>(vertex) >= num_vertices) return false;
      share.vertex[k] = vertex;
      corners[k] = vertices_clip + 4 * (image * num_vertices + vertex);
    }
    const auto at_pixel = pixel_triangle(corners, row, column, height, width);
    if (!at_pixel.regular) return false;
    at_pixel.combine_gradients(grad_barycentric + 3 * p, share.x, share.y);
    share.w = -(at_pixel.px * share.x + at_pixel.py * share.y);
    for (int k = 0; k < 3; ++k) share.b[k] = at_pixel.b[k];
    return true;
  }
};

// The same without atomics: each vertex adds up the pixels of its triangles.
template <class T> struct RasterizeVertexGradient {  // item = vertex
  RasterizeBackward<T> pixels;
  VertexCorners corners;
  Groups groups;  // of pixels, by triangle

  FACECORE_HD void operator()(int64_t image, int64_t vertex) const {
    T sum[3] = {T(0), T(0), T(0)};
    const int64_t image_pixels = static_cast<int64_t>(pixels.height) * pixels.width;
    for_each_item_around(corners, groups, vertex, image * pixels.num_triangles, [&](int64_t item, int32_t place) {
      const int32_t p = static_cast<int32_t>(item - image * image_pixels);
      typename RasterizeBackward<T>::Share share;
      if (!pixels.load(image, p / pixels.width, p % pixels.width, share)) return;
      sum[0] -= share.b[place] * share.x;
      sum[1] -= share.b[place] * share.y;
      sum[2] -= share.b[place] * share.w;
    });
    T* grad = pixels.grad_vertices_clip + 4 * (image * pixels.num_vertices + vertex);
    grad[0] = sum[0], grad[1] = sum[1], grad[2] = T(0), grad[3] = sum[2];
  }
};

}  // namespace facecore
