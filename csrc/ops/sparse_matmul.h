// out[n,r,f] = sum_j values[j] x[n, col_indices[j], f], j in row r of a CSR matrix: a batch of vertex features times a
// static matrix. Also the traversal that the recurrences of chebyshev_conv share with it.
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

template <class T> struct SparseMatmul {
  SparseProduct<T> product;  // x of image 0, rows `width` apart
  int64_t num_rows, num_columns, width;
  T* out;  // [N, R, width]

  FACECORE_HD void operator()(int64_t image, int64_t item) const {  // the device's traversal: item = (row, feature)
    const T* x = product.x + image * num_columns * width;
    out[image * num_rows * width + item] = sparse_dot(product, x, item / width, item % width);
  }

  SparseRows<T> of_image(int64_t image) const {  // the host's traversal: SIMD over the features of a row
    SparseRows<T> rows{width, width, T(1), product, {}, 0, {}, out + image * num_rows * width, width};
    rows.product.x += image * num_columns * width;
    return rows;
  }
};

// Runs a body with both traversals over all images. On the host threads share (image, block of rows). Every element has
// one writer and a fixed order of summation, so the result does not depend on the number of threads.
template <class T, class Body>
void launch_rows(const Device& device, int64_t num_images, int64_t num_rows, int64_t width, const Body& body) {
  if (num_images <= 0 || num_rows <= 0 || width <= 0) return;
  if (!device.is_cpu()) {
    launch(device, num_images, num_rows * width, body);
    return;
  }
  constexpr int64_t kRows = 256;                // of a block: some tens of microseconds of work
  constexpr int64_t kSerialElements = 1 << 14;  // below, starting threads costs more than it saves
  const auto kernel = FACECORE_SIMD(SparseRowsKernel<T>*, sparse_rows);
  const int64_t blocks = (num_rows + kRows - 1) / kRows;
#pragma omp parallel for schedule(static) if (num_images * num_rows * width > kSerialElements)
  for (int64_t i = 0; i < num_images * blocks; ++i) {
    const int64_t begin = i % blocks * kRows;
    kernel(body.of_image(i / blocks), begin, std::min(begin + kRows, num_rows));
  }
}

}  // namespace facecore
