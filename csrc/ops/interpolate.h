// out[n,p,c] = sum_k barycentric[n,p,k] * attributes[n, triangles[t,k], c],  t = triangle_id[n,p]   (METHODS 1.8)
#pragma once
#include "core/host_device.h"

namespace facecore {

// A t outside [0, T) is uncovered: the output and its gradients are 0.
template <class T> struct Interpolate {
  int64_t num_pixels, num_vertices, num_triangles, num_channels;
  const T* attributes;         // [N, V, C]
  const int32_t* triangles;    // [T, 3]
  const int32_t* triangle_id;  // [N, P]
  const T* barycentric;        // [N, P, 3]
  T* out;                      // [N, P, C]

  FACECORE_HD bool covers(int64_t id) const { return id >= 0 && id < num_triangles; }

  FACECORE_HD void operator()(int64_t image, int64_t pixel) const {
    const int64_t p = image * num_pixels + pixel;
    T* result = out + p * num_channels;
    const int64_t id = triangle_id[p];
    if (!covers(id)) {
      for (int64_t c = 0; c < num_channels; ++c) result[c] = T(0);
      return;
    }
    const T* corner[3];
    for (int k = 0; k < 3; ++k) corner[k] = attributes + (image * num_vertices + triangles[3 * id + k]) * num_channels;
    const T b0 = barycentric[3 * p], b1 = barycentric[3 * p + 1], b2 = barycentric[3 * p + 2];
    for (int64_t c = 0; c < num_channels; ++c) result[c] = b0 * corner[0][c] + b1 * corner[1][c] + b2 * corner[2][c];
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
    const int64_t id = forward.triangle_id[p];
    const T* grad = grad_out + p * channels;
    for (int k = 0; k < 3; ++k) {
      T dot = T(0);
      if (forward.covers(id)) {
        const int64_t offset = (image * forward.num_vertices + forward.triangles[3 * id + k]) * channels;
        const T weight = forward.barycentric[3 * p + k];
        for (int64_t c = 0; c < channels; ++c) {
          dot += forward.attributes[offset + c] * grad[c];
          if (grad_attributes) accumulate(grad_attributes + offset + c, weight * grad[c]);
        }
      }
      if (grad_barycentric) grad_barycentric[3 * p + k] = dot;
    }
  }
};

}  // namespace facecore
