// The variance of albedo over a region of the face, and its gradient (METHODS 4, L_tex).
#pragma once
#include "core/launch.h"
#include "simd/weighted_rows.h"

namespace facecore {

// With D = max(sum w, 1), m_c = sum w a_c / D: value = mean over images of sum_c sum w (a_c - m_c)^2 / D.
template <class T> struct Flattening {
  int64_t num_images, num_vertices, num_channels;
  const T* albedo;  // [N, V, C]
  const T* region;  // [V]: w; what is not positive counts as 0
};

// Writes the loss [1] and the centers [N, C] with which the derivative is 2 w (a - center) / (N D). In a fixed order.
template <class T> void flattening(const Flattening<T>& loss, T* value, T* centers);
template <class T>
void flattening_backward(const Flattening<T>& loss, const T* grad_out, const T* centers, T* grad_albedo);

}  // namespace facecore
