// The sum of |M x| over a batch of vertices and its gradient, for a static sparse matrix M: the smoothness loss
// (METHODS 2.2, M = I - D^-1 A), and the symmetry loss by a barycentric map P (METHODS 1.9, M = I - P).
#pragma once
#include "core/launch.h"
#include "simd/smooth_rows.h"

namespace facecore {

template <class T> struct Smoothness {
  int64_t num_images;
  SmoothMatrix<T> matrix;
  double scale;  // of the loss: value = scale * sum |M x|
};

// Writes the loss [1], and signs [ceil(N/4), V] of M x (smooth_rows.h) if they are wanted. Sums are made in a fixed
// order.
template <class T> void smoothness(const Smoothness<T>& loss, const T* x, T* value, uint32_t* signs);

// Writes grad_out times the gradient [N, V, 3]; the matrix is the transpose.
template <class T>
void smoothness_backward(const Smoothness<T>& loss, const T* grad_out, const uint32_t* signs, T* grad_x);

}  // namespace facecore
