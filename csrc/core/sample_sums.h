// The transpose of bilinear samples (core/bilinear.h) without atomics: samples are grouped by the cell between four
// pixel centres that they lie in, and each pixel adds up its four cells in a fixed order.
#pragma once
#include "core/bilinear.h"
#include "core/groups.h"

namespace facecore {

// Cell (row, column) lies below and right of the centre of pixel (row, column); -1 is the strip before the first one.
template <class T> struct SampleCells {
  int64_t height, width;
  int32_t* cell;  // [N, P]: (row + 1) (width + 1) + column + 1, or kNoCell
  T* fraction;    // [N, P, 2] of SampleAxis, x and y
  static constexpr int32_t kNoCell = -1;

  FACECORE_HD void set(int64_t item, const SampleAxis<T>& column, const SampleAxis<T>& row) const {
    const int64_t index = (static_cast<int64_t>(row.first) + 1) * (width + 1) + static_cast<int64_t>(column.first) + 1;
    cell[item] = static_cast<int32_t>(index);  // a picture has at most 2^14 pixels a side
    fraction[2 * item] = column.fraction;
    fraction[2 * item + 1] = row.fraction;
  }
  FACECORE_HD void set_none(int64_t item) const {
    cell[item] = kNoCell;
    fraction[2 * item] = fraction[2 * item + 1] = T(0);
  }
};

// grad_image[n,c,pixel] = sum over the samples of its four cells of weight * grad[n,c,sample]
template <class T> struct SampleSums {  // item = pixel of a channel
  int64_t num_samples, num_channels, height, width;
  int64_t channel_stride, sample_stride;  // of grad, whose images lie num_samples * num_channels apart
  const T* grad;
  const T* fraction;  // of SampleCells
  Groups groups;      // of samples, by cell
  T* grad_image;      // [N, C, H, W]

  // What a sample between the centres of first and first + 1 gives to `pixel`; beyond the border the border is meant.
  FACECORE_HD static T weight(int64_t first, int64_t pixel, int64_t size, T fraction) {
    const int64_t low = first < 0 ? 0 : first, high = first + 1 < size ? first + 1 : size - 1;
    return (low == pixel ? T(1) - fraction : T(0)) + (high == pixel ? fraction : T(0));
  }

  FACECORE_HD void operator()(int64_t image, int64_t item) const {
    const int64_t channel = item / (height * width), pixel = item % (height * width);
    const int64_t row = pixel / width, column = pixel % width;
    const T* source = grad + image * num_samples * num_channels + channel * channel_stride;
    T sum = T(0);
    for (int64_t y = row - 1; y <= row; ++y)
      for (int64_t x = column - 1; x <= column; ++x) {
        const int64_t group = (image * (height + 1) + y + 1) * (width + 1) + x + 1;
        for (int64_t i = groups.start[group]; i < groups.start[group + 1]; ++i) {
          const int64_t sample = groups.items[i];
          sum += weight(y, row, height, fraction[2 * sample + 1]) * weight(x, column, width, fraction[2 * sample]) *
                 source[(sample - image * num_samples) * sample_stride];
        }
      }
    grad_image[image * num_channels * height * width + item] = sum;
  }
};

}  // namespace facecore
