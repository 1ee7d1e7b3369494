// The sum of |a - b| / std or of its square over batches of vertices, and the gradient (METHODS 2.2, 3).
#pragma once
#include "core/launch.h"
#include "simd/difference_rows.h"

namespace facecore {

template <class T> struct ShapeLoss {  // value = scale * sum over images and elements
  int64_t num_images, num_elements;    // of an image: V times 3
  const T* a;                          // [N, V, 3]
  const T* b;                          // [N, V, 3]
  const T* weight;                     // [V, 3], 1 / std; null = 1
  bool squared;
  double scale;
};

// Writes the loss [1]. Sums are made in a fixed order.
template <class T> void shape_loss(const ShapeLoss<T>& loss, T* value);

// Writes grad_out times the gradients [N, V, 3]; a null one is left out.
template <class T> void shape_loss_backward(const ShapeLoss<T>& loss, const T* grad_out, T* grad_a, T* grad_b);

}  // namespace facecore
