// The landmark structure loss and its gradient in one pass over the pairs (METHODS 2.2, L_gdl,lmk).
#pragma once
#include "core/launch.h"
#include "simd/landmark_pairs.h"

namespace facecore {

constexpr int64_t kLandmarkPadding = 16;  // size of a row: the next multiple of the longest vector

template <class T> struct LandmarkStructure {
  int64_t num_images, num_points;
  const T* predicted;  // [N, P, 2]
  const T* target;     // [N, P, 2]
  const T* weight;     // [N, P]
  const T* pair;       // [P, P], symmetric, 0 on the diagonal
};

// Writes the loss [1], and unless it is null the derivatives by both sets of points, [2, N, P, 2].
template <class T> void landmark_structure(const LandmarkStructure<T>& loss, T* value, T* gradient);

}  // namespace facecore
