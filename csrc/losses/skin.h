// The skin probability of the pixels of a batch of pictures and its gradient (METHODS 1.10).
#pragma once
#include "core/launch.h"
#include "simd/skin_pixels.h"

namespace facecore {

template <class T> struct SkinPictures {
  int64_t num_images, num_pixels;  // pixels of an image
  const T* gaussians;              // [8, 13], simd/skin_pixels.h
  const T* image;                  // [N, 3, P]
};

template <class T> void skin_probability(const SkinPictures<T>& pictures, T* probability);  // [N, P]
template <class T> void skin_gradient(const SkinPictures<T>& pictures, const T* grad_out, T* grad_image);

}  // namespace facecore
