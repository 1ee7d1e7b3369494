// Bilinear samples of a picture at continuous positions, (j + 0.5, i + 0.5) being the centre of pixel (row i, column j)
// (METHODS 1.2), for numbers and for SIMD vectors. Beyond the outermost centres the border's value continues.
#pragma once
#include "core/host_device.h"

namespace facecore {

// The largest whole number that is not above x, for 0 <= x <= 2^21: adding 1.5 * 2^(mantissa bits) rounds to nearest.
// S is the type of one number; V is S, or a vector of S.
template <class S, class V> FACECORE_HD V floor_of_positive(const V& x) {
  constexpr S kShift = sizeof(S) == 4 ? S(12582912.0) : S(6755399441055744.0);
  const V shifted = x + kShift;
  const V nearest = shifted - kShift;
  return nearest > x ? nearest - S(1) : nearest;
}

// One axis of a sample at position x, 0 <= x <= size: between the centres of pixels first and first + 1.
template <class V> struct SampleAxis {
  V cell;      // the pixel that holds x: a whole number from 0 to size - 1
  V first;     // -1 to size - 1; outside of the picture the border pixel is meant
  V fraction;  // of the way from first's centre to the next one's
};

template <class S, class V> FACECORE_HD SampleAxis<V> sample_axis(const V& x, S size) {
  const V floor = floor_of_positive<S>(x);
  const V last = V{} + (size - S(1));
  const V cell = floor < last ? floor : last;
  const V first = (x - cell) < S(0.5) ? cell - S(1) : cell;
  return {cell, first, (x - first) - S(0.5)};
}

// The transpose of a sample: adds grad to its four pixels, top left, top right, bottom left and bottom right.
template <class T, class Index>
FACECORE_HD void add_sample(T* grad_plane, T grad, T fraction_x, T fraction_y, const Index* pixel) {
  const T lower = fraction_y * grad, upper = grad - lower;
  const T upper_right = fraction_x * upper, lower_right = fraction_x * lower;
  accumulate(grad_plane + pixel[0], upper - upper_right);
  accumulate(grad_plane + pixel[1], upper_right);
  accumulate(grad_plane + pixel[2], lower - lower_right);
  accumulate(grad_plane + pixel[3], lower_right);
}

// The four pixels of a sample, as offsets in a picture's plane, and where it lies between them.
template <class T> struct Sample {
  int64_t top_left, top_right, bottom_left, bottom_right;
  T fraction_x, fraction_y;

  FACECORE_HD Sample(T first_column, T first_row, T fraction_x, T fraction_y, int64_t height, int64_t width)
      : fraction_x(fraction_x), fraction_y(fraction_y) {
    const int64_t column = static_cast<int64_t>(first_column), row = static_cast<int64_t>(first_row);
    const int64_t left = column < 0 ? 0 : column, right = column + 1 < width ? column + 1 : width - 1;
    const int64_t top = (row < 0 ? 0 : row) * width, bottom = (row + 1 < height ? row + 1 : height - 1) * width;
    top_left = top + left, top_right = top + right, bottom_left = bottom + left, bottom_right = bottom + right;
  }
  FACECORE_HD Sample(T x, T y, int64_t height, int64_t width)
      : Sample(sample_axis<T>(x, static_cast<T>(width)), sample_axis<T>(y, static_cast<T>(height)), height, width) {}

  FACECORE_HD T value(const T* plane) const {
    const T top = plane[top_left] + fraction_x * (plane[top_right] - plane[top_left]);
    const T bottom = plane[bottom_left] + fraction_x * (plane[bottom_right] - plane[bottom_left]);
    return top + fraction_y * (bottom - top);
  }
  // Adds grad * d(value)/d(x, y). At the border left = right, so the derivative there is 0 without a test.
  FACECORE_HD void position_gradient(const T* plane, T grad, T* grad_x, T* grad_y) const {
    const T top = plane[top_right] - plane[top_left], bottom = plane[bottom_right] - plane[bottom_left];
    const T left = plane[bottom_left] - plane[top_left];
    *grad_x += grad * (top + fraction_y * (bottom - top));
    *grad_y += grad * (left + fraction_x * (bottom - top));
  }
  FACECORE_HD void add_to_plane(T* grad_plane, T grad) const {
    const int64_t pixel[4] = {top_left, top_right, bottom_left, bottom_right};
    add_sample(grad_plane, grad, fraction_x, fraction_y, pixel);
  }

 private:
  FACECORE_HD Sample(const SampleAxis<T>& x, const SampleAxis<T>& y, int64_t height, int64_t width)
      : Sample(x.first, y.first, x.fraction, y.fraction, height, width) {}
};

}  // namespace facecore
