// out[n,r,f] = sum_j values[j] x[n, col_indices[j], f], the row r of a CSR matrix times a batch of vertex features; with
// scaled addends it is one step of the Chebyshev recurrences (METHODS 1.6).
#pragma once
#include "core/host_device.h"
#include "core/launch.h"
#include "simd/sparse_rows.h"

namespace facecore {

template <class T> struct SparseStep {
  SparseRows<T> rows;                  // the pointers of image 0
  int64_t x_image, out_image;          // elements from one image to the next
  int64_t addend_image[kMaxAddends];

  FACECORE_HD void operator()(int64_t image, int64_t item) const {  // the device's traversal: item = (row, feature)
    const int64_t r = item / rows.width, f = item % rows.width;
    const T* x = rows.x + image * x_image + f;
    T sum = T(0);
    for (int32_t j = rows.crow_indices[r]; j < rows.crow_indices[r + 1]; ++j)
      sum += rows.values[j] * x[rows.col_indices[j] * rows.x_stride];
    sum *= rows.alpha;
    for (int32_t k = 0; k < rows.num_addends; ++k)
      sum += rows.addends[k].coefficient *
             rows.addends[k].data[image * addend_image[k] + r * rows.addends[k].stride + f];
    rows.out[image * out_image + r * rows.out_stride + f] = sum;
  }

  SparseRows<T> of_image(int64_t image) const {  // the host's traversal: SIMD over the features of a row
    SparseRows<T> result = rows;
    result.x += image * x_image;
    result.out += image * out_image;
    for (int32_t k = 0; k < rows.num_addends; ++k) result.addends[k].data += image * addend_image[k];
    return result;
  }
};

// One step over all images: threads share (image, block of rows); every element has one writer and a fixed order of
// summation, so the result does not depend on their number.
template <class T>
void run_sparse_step(const Device& device, int64_t num_images, int64_t num_rows, const SparseStep<T>& step);

}  // namespace facecore
