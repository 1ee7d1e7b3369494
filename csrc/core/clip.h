// Clips a triangle in homogeneous space against the near and far planes and the guard band (core/triangle.h).
#pragma once
#include "core/triangle.h"

namespace facecore {

// The convex polygon that is left. A point is kept as its weights on the triangle's corners, position = sum_k weight_k
// corner_k: on an edge the third weight stays exactly 0, so the two triangles of an edge compute the same bits whatever
// the order of their corners. An intersection is taken from the inner end point towards the outer one for that reason.
struct ClippedTriangle {
  static constexpr int kCapacity = 3 + kNumPlanes;
  int count = 0;
  double weight[kCapacity][3];
  double corner[3][4];

  template <class T> FACECORE_HD void clip(const T* const* corners) {
    for (int k = 0; k < 3; ++k)
      for (int c = 0; c < 4; ++c) corner[k][c] = static_cast<double>(corners[k][c]);
    count = 3;
    for (int k = 0; k < 3; ++k)
      for (int j = 0; j < 3; ++j) weight[k][j] = k == j ? 1.0 : 0.0;
    for (int plane = 0; plane < kNumPlanes && count > 0; ++plane) clip_by(plane);
    if (count < 3) count = 0;
  }

  FACECORE_HD int num_pieces() const { return count < 3 ? 0 : count - 2; }
  FACECORE_HD int piece_point(int piece, int k) const { return k == 0 ? 0 : piece + k; }  // a fan

  FACECORE_HD void position(const double* w, double* point) const {
    for (int c = 0; c < 4; ++c)
      point[c] = add_rn(add_rn(mul_rn(w[0], corner[0][c]), mul_rn(w[1], corner[1][c])), mul_rn(w[2], corner[2][c]));
  }

  // False where rounding left a point nowhere (a triangle that passes through the centre of projection).
  FACECORE_HD bool piece(int index, int32_t height, int32_t width, SnappedTriangle& result) const {
    for (int k = 0; k < 3; ++k) {
      double point[4];
      position(weight[piece_point(index, k)], point);
      if (!(point[3] > 0.0)) return false;
      const SnappedVertex vertex = snap(point, height, width);
      if (vertex.outside) return false;
      result.set(k, vertex);
    }
    return true;
  }

 private:
  FACECORE_HD void clip_by(int plane) {
    double kept[kCapacity][3];
    int num_kept = 0;
    double point[4];
    position(weight[count - 1], point);
    const double* previous = weight[count - 1];
    double previous_distance = plane_distance(plane, point);
    for (int i = 0; i < count; ++i) {
      const double* current = weight[i];
      position(current, point);
      const double distance = plane_distance(plane, point);
      if ((distance >= 0.0) != (previous_distance >= 0.0) && num_kept < kCapacity) {
        const bool inner_is_current = distance >= 0.0;
        const double* inner = inner_is_current ? current : previous;
        const double* outer = inner_is_current ? previous : current;
        const double from = inner_is_current ? distance : previous_distance;
        const double to = inner_is_current ? previous_distance : distance;
        const double t = div_rn(from, sub_rn(from, to));
        for (int k = 0; k < 3; ++k) kept[num_kept][k] = add_rn(inner[k], mul_rn(t, sub_rn(outer[k], inner[k])));
        ++num_kept;
      }
      if (distance >= 0.0 && num_kept < kCapacity) {
        for (int k = 0; k < 3; ++k) kept[num_kept][k] = current[k];
        ++num_kept;
      }
      previous = current;
      previous_distance = distance;
    }
    count = num_kept;
    for (int i = 0; i < count; ++i)
      for (int k = 0; k < 3; ++k) weight[i][k] = kept[i][k];
  }
};

}  // namespace facecore
