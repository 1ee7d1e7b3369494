// Sums of differences between values and those at the mirrored place, and the gradients (METHODS 1.9, 2.2): per vertex
// by a list of opposite vertices, and of textures turned left to right.
#pragma once
#include "core/launch.h"
#include "simd/difference_rows.h"

namespace facecore {

template <class T> struct VertexMirror {  // value = scale * sum |values[v] - values[opposite[v]]|
  int64_t num_images, num_vertices, num_channels;
  const T* values;          // [N, V, C]
  const int64_t* opposite;  // [V]
  double scale;
};

template <class T> struct TextureMirror {
  int64_t num_images, num_channels, height, width;
  const T* texture;      // [N, C, H, W]
  const uint8_t* valid;  // [N or 1, H, W], or null = all
  int64_t valid_image;   // elements between the images of `valid`, 0 for one of all
};

// Each writes the loss [1] in a fixed order of sums, or grad_out times the gradient. The first two throw
// ValueError for an opposite vertex that there is not.
template <class T> void vertex_symmetry(const VertexMirror<T>& mirror, T* value);
template <class T> void vertex_symmetry_backward(const VertexMirror<T>& mirror, const T* grad_out, T* grad);
// value = mean over images of sum |texture - turned| / (C max(number of valid pairs, 1)); scales [N]: the derivative by
// each image's sum.
template <class T> void texture_symmetry(const TextureMirror<T>& mirror, T* value, T* scales);
template <class T>
void texture_symmetry_backward(const TextureMirror<T>& mirror, const T* grad_out, const T* scales, T* grad);

}  // namespace facecore
