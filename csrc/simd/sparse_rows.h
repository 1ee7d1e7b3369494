// Rows of a sparse product with what a recurrence adds to it, as a plain struct: the argument of the SIMD kernel.
#pragma once
#include <cstdint>

#include "core/simd.h"

namespace facecore {

template <class T> struct SparseProduct {  // sum_j values[j] x[n, col_indices[j], f], j in row r of a CSR matrix
  const int32_t* crow_indices;             // [R+1]; null for a product that is absent
  const int32_t* col_indices;              // [nnz]
  const T* values;                         // [nnz]
  const T* x;                              // [N, V, width], rows x_stride and images x_image apart
  int64_t x_stride, x_image;
};

template <class T> struct Addend {  // coefficient * data[n * image + r * stride + f]; zero strides repeat one row (a
                                    // bias)
  const T* data;
  int64_t stride, image;
  T coefficient;
};

constexpr int kMaxAddends = 3;

// out[n,r,f] = alpha * product + second product + sum of the addends, for the first `stored` of `width` features; where
// that is negative, times negative_slope (1: as it is; 0: ReLU).
// `out` may be the data of an addend: each element is read before it is written.
template <class T> struct SparseRows {
  int64_t width, stored;
  T alpha;
  SparseProduct<T> product, second;
  int32_t num_addends;
  Addend<T> addends[kMaxAddends];
  T* out;  // [N, R, stored], rows out_stride and images out_image apart
  int64_t out_stride, out_image;
  T negative_slope;
  T* copy;  // null, or where every row is stored a second time (whole), rows copy_stride and images copy_image apart
  int64_t copy_stride, copy_image;
};

struct RowRange {  // of images [first_image, last_image) the rows [begin, end)
  int64_t first_image, last_image, begin, end;
};

template <class T> using SparseRowsKernel = void(const SparseRows<T>& rows, const RowRange& range);

FACECORE_DECLARE_SIMD(void sparse_rows(const SparseRows<float>& rows, const RowRange& range))
FACECORE_DECLARE_SIMD(void sparse_rows(const SparseRows<double>& rows, const RowRange& range))

}  // namespace facecore
