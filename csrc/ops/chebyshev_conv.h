// The two recurrences of a Chebyshev convolution y = sum_k T_k(L) x W_k (METHODS 1.6) with their additions and an
// optional change of resolution fused: K-1 sparse products of the width of one term. They are adjoint to each other.
#pragma once
#include "ops/sparse_matmul.h"

namespace facecore {

// One step of a recurrence: alpha * product + second product + scaled addends (simd/sparse_rows.h), for all images.
template <class T> struct ChebyshevStep {
  SparseRows<T> rows;                              // the pointers of image 0
  int64_t product_image, second_image, out_image;  // elements from one image to the next
  int64_t addend_image[kMaxAddends];

  FACECORE_HD void operator()(int64_t image, int64_t item) const {  // the device's traversal: item = (row, feature)
    const int64_t r = item / rows.stored, f = item % rows.stored;
    T sum = rows.alpha * sparse_dot(rows.product, rows.product.x + image * product_image, r, f);
    if (rows.second.crow_indices) sum += sparse_dot(rows.second, rows.second.x + image * second_image, r, f);
    for (int32_t k = 0; k < rows.num_addends; ++k)
      sum +=
          rows.addends[k].coefficient * rows.addends[k].data[image * addend_image[k] + r * rows.addends[k].stride + f];
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

template <class T> struct CsrMatrix {
  const int32_t* crow_indices;  // [R+1]; null for an absent matrix
  const int32_t* col_indices;   // [nnz]
  const T* values;              // [nnz]
};

template <class T> struct ChebyshevGraph {
  int64_t num_images, num_vertices, num_terms, width;
  CsrMatrix<T> laplacian;  // L [V, V], scaled; symmetric or not
  CsrMatrix<T> resample;   // [S, V] after the terms, [V, S] before the sum; may be absent, then S = V
  int64_t num_samples;     // S
};

// terms[n,s,k,:] = (R T_k(L) x)[n,s,:] by T_1 = L T_0, T_k = 2 L T_{k-1} - T_{k-2}.
// Without R: x = terms[:,:,0,:], already there, and `work` is not used. With R: x [N, V, width], work [2, N, V, width].
template <class T>
void chebyshev_terms(const Device& device, const ChebyshevGraph<T>& graph, const T* x, T* work, T* terms);

// out[n,v,:stored] = sum_k (T_k(L) R h_k)[n,v,:stored] + bias with h_k = terms[n,s,k,:], by Clenshaw's recurrence
// b_k = R h_k + 2 L b_{k+1} - b_{k+2}, out = R h_0 + L b_1 - b_2. K >= 2. bias [width] or absent; work [2, N, V,
// width].
template <class T>
void chebyshev_sum(const Device& device, const ChebyshevGraph<T>& graph, const T* terms, const T* bias, T* work,
                   int64_t stored, T* out);

}  // namespace facecore
