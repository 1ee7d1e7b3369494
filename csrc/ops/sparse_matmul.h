// out[n,r,f] = sum_j values[j] x[n, col_indices[j], f], the row r of a CSR matrix times a batch of vertex features; with
// scaled addends it is one step of the Chebyshev recurrences (METHODS 1.6).
#pragma once
#include "core/host_device.h"
#include "core/launch.h"
#include "simd/sparse_rows.h"

namespace facecore {

// One row and feature of a CSR product, x being that of one image.
template <class T> FACECORE_HD T sparse_dot(const SparseProduct<T>& product, const T* x, int64_t r, int64_t f) {
  T sum = T(0);
  for (int32_t j = product.crow_indices[r]; j < product.crow_indices[r + 1]; ++j)
    sum += product.values[j] * x[product.col_indices[j] * product.x_stride + f];
  return sum;
}

template <class T> struct SparseStep {
  SparseRows<T> rows;                            // the pointers of image 0
  int64_t product_image, second_image, out_image;  // elements from one image to the next
  int64_t addend_image[kMaxAddends];

  FACECORE_HD void operator()(int64_t image, int64_t item) const {  // the device's traversal: item = (row, feature)
    const int64_t r = item / rows.stored, f = item % rows.stored;
    T sum = rows.alpha * sparse_dot(rows.product, rows.product.x + image * product_image, r, f);
    if (rows.second.crow_indices) sum += sparse_dot(rows.second, rows.second.x + image * second_image, r, f);
    for (int32_t k = 0; k < rows.num_addends; ++k)
      sum += rows.addends[k].coefficient *
             rows.addends[k].data[image * addend_image[k] + r * rows.addends[k].stride + f];
    rows.out[image * out_image + r * rows.out_stride + f] = sum;
  }

  SparseRows<T> of_image(int64_t image) const {  // the host's traversal: SIMD over the features of a row
    SparseRows<T> result = rows;
    result.product.x += image * product_image;
    if (result.second.crow_indices) result.second.x += image * second_image;
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
