// out[n,p,c] = sum_k barycentric[n,p,k] * attributes[n, triangles[t,k], c],  t = triangle_id[n,p]   (METHODS 1.8)
// The device's bodies; the host takes ranges of pixels by simd/pixel_values.h.
#pragma once
#include "core/groups.h"

namespace facecore {

// A t outside [0, T), or one with a vertex outside [0, V), is uncovered: the output and its gradients are 0.
template <class T> struct Interpolate {
  int64_t num_pixels, num_vertices, num_triangles, num_channels;
  const T* attributes;         // [N, V, C]
  const int32_t* triangles;    // [T, 3]
  const int32_t* triangle_id;  // [N, P]
  const T* barycentric;        // [N, P, 3]
  T* out;                      // [N, P, C]

  // The places in `attributes` of the rows seen at a pixel; false: it is uncovered.
  FACECORE_HD bool find_rows(int64_t image, int64_t pixel, int64_t (&row)[3]) const {
    const int64_t id = triangle_id[image * num_pixels + pixel];
    if (id < 0 || id >= num_triangles) return false;
    for (int k = 0; k < 3; ++k) {
      const int64_t vertex = triangles[3 * id + k];
      if (vertex < 0 || vertex >= num_vertices) return false;
      row[k] = (image * num_vertices + vertex) * num_channels;
    }
    return true;
  }

  FACECORE_HD void operator()(int64_t image, int64_t pixel) const {
    const int64_t p = image * num_pixels + pixel;
    T* result = out + p * num_channels;
    int64_t row[3];
    if (!find_rows(image, pixel, row)) {
      for (int64_t c = 0; c < num_channels; ++c) result[c] = T(0);
      return;
    }
    const T b0 = barycentric[3 * p], b1 = barycentric[3 * p + 1], b2 = barycentric[3 * p + 2];
    for (int64_t c = 0; c < num_channels; ++c)
      result[c] = b0 * attributes[row[0] + c] + b1 * attributes[row[1] + c] + b2 * attributes[row[2] + c];
  }
};

// grad_attributes[v] += barycentric * grad_out,  grad_barycentric[k] = <attributes of corner k, grad_out>
template <class T> struct InterpolateBackward {
  Interpolate<T> forward;
  const T* grad_out;    // [N, P, C]
  T* grad_attributes;   // [N, V, C], zero on entry; absent when not wanted
  T* grad_barycentric;  // [N, P, 3]; absent when not wanted

  FACECORE_HD void operator()(int64_t image, int64_t pixel) const {
    const int64_t p = image * forward.num_pixels + pixel, channels = forward.num_channels;
    const T* grad = grad_out + p * channels;
    int64_t row[3];
    const bool covered = forward.find_rows(image, pixel, row);
    for (int k = 0; k < 3; ++k) {
      T dot = T(0);
      if (covered) {
        const T weight = forward.barycentric[3 * p + k];
        for (int64_t c = 0; c < channels; ++c) {
          if (grad_barycentric) dot += forward.attributes[row[k] + c] * grad[c];
          if (grad_attributes) accumulate(grad_attributes + row[k] + c, weight * grad[c]);
        }
      }
      if (grad_barycentric) grad_barycentric[3 * p + k] = dot;
    }
  }
};

// The gradient of the attributes without atomics: each vertex adds up the pixels of its triangles.
template <class T> struct InterpolateVertexGradient {  // item = channel of a vertex: neighbours read neighbours
  InterpolateBackward<T> pixels;
  VertexCorners corners;
  Groups groups;  // of pixels, by triangle

  FACECORE_HD void operator()(int64_t image, int64_t item) const {
    const Interpolate<T>& forward = pixels.forward;
    const int64_t vertex = item / forward.num_channels, channel = item % forward.num_channels;
    T sum = T(0);
    for_each_item_around(corners, groups, vertex, image * forward.num_triangles, [&](int64_t p, int32_t place) {
      int64_t row[3];
      if (!forward.find_rows(image, p - image * forward.num_pixels, row)) return;
      sum += forward.barycentric[3 * p + place] * pixels.grad_out[p * forward.num_channels + channel];
    });
    pixels.grad_attributes[(image * forward.num_vertices + vertex) * forward.num_channels + channel] = sum;
  }
};

}  // namespace facecore
