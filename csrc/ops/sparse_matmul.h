// out[n,r,f] = sum_j values[j] x[n, col_indices[j], f], j in row r of a CSR matrix: a batch of vertex features times a
// static matrix. Also the traversal that the recurrences of chebyshev_conv share with it.
#pragma once
#include "core/host_device.h"
#include "core/launch.h"
#include "simd/sparse_rows.h"

namespace facecore {

// One image, row and feature of a CSR product.
template <class T> FACECORE_HD T sparse_dot(const SparseProduct<T>& product, int64_t n, int64_t r, int64_t f) {
  const T* x = product.x + n * product.x_image + f;
  T sum = T(0);
  for (int32_t j = product.crow_indices[r]; j < product.crow_indices[r + 1]; ++j)
    sum += product.values[j] * x[product.col_indices[j] * product.x_stride];
  return sum;
}

template <class T> struct SparseRowsBody {  // the device's traversal: one thread per (row, feature) of an image
  SparseRows<T> rows;

  FACECORE_HD void operator()(int64_t n, int64_t item) const {
    const int64_t r = item / rows.stored, f = item % rows.stored;
    T sum = rows.alpha * sparse_dot(rows.product, n, r, f);
    if (rows.second.crow_indices) sum += sparse_dot(rows.second, n, r, f);
    for (int32_t k = 0; k < rows.num_addends; ++k) {
      const Addend<T>& addend = rows.addends[k];
      sum += addend.coefficient * addend.data[n * addend.image + r * addend.stride + f];
    }
    if (sum < T(0)) sum = rows.negative_slope == T(0) ? T(0) : sum * rows.negative_slope;
    rows.out[n * rows.out_image + r * rows.out_stride + f] = sum;
    if (rows.copy) rows.copy[n * rows.copy_image + r * rows.copy_stride + f] = sum;
  }
};

// On the host threads share (images, block of rows): every element has one writer and a fixed order of summation, so
// the result does not depend on the number of threads.
template <class T>
void launch_rows(const Device& device, int64_t num_images, int64_t num_rows, const SparseRows<T>& rows) {
  if (num_images <= 0 || num_rows <= 0 || rows.stored <= 0) return;
  if (!device.is_cpu()) {
    launch(device, num_images, num_rows * rows.stored, SparseRowsBody<T>{rows});
    return;
  }
  constexpr int64_t kRows = 256;                // of a block: some tens of microseconds of work
  constexpr int64_t kImages = 4;                // of a block: narrow rows share their indices (simd/sparse_rows.cpp)
  constexpr int64_t kSerialElements = 1 << 14;  // below, starting threads costs more than it saves
  const auto kernel = FACECORE_SIMD(SparseRowsKernel<T>*, sparse_rows);
  const int64_t blocks = (num_rows + kRows - 1) / kRows, groups = (num_images + kImages - 1) / kImages;
#pragma omp parallel for schedule(static) if (num_images * num_rows * rows.width > kSerialElements)
  for (int64_t i = 0; i < groups * blocks; ++i) {
    const int64_t image = i / blocks * kImages, row = i % blocks * kRows;
    kernel(rows, {image, std::min(image + kImages, num_images), row, std::min(row + kRows, num_rows)});
  }
}

}  // namespace facecore
