// The two recurrences of a Chebyshev convolution y = sum_k T_k(L) x W_k (METHODS 1.6) with their additions and an
// optional change of resolution fused: K-1 sparse products of the width of one term. They are adjoint to each other.
#pragma once
#include "ops/sparse_matmul.h"

namespace facecore {

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
// x [N, V, width], work [2, N, V, width]. Without R the caller has put x into terms[:,:,0,:] as well.
template <class T>
void chebyshev_terms(const Device& device, const ChebyshevGraph<T>& graph, const T* x, T* work, T* terms);

// out[n,v,:stored] = sum_k (T_k(L) R h_k)[n,v,:stored] + bias with h_k = terms[n,s,k,:], by Clenshaw's recurrence
// b_k = R h_k + 2 L b_{k+1} - b_{k+2}, out = R h_0 + L b_1 - b_2, and where that
// is negative, times negative_slope. K >= 2. bias [width] or absent; work [2, N, V,
// width].
template <class T>
void chebyshev_sum(const Device& device, const ChebyshevGraph<T>& graph, const T* terms, const T* bias, T* work,
                   int64_t stored, T negative_slope, T* out);

}  // namespace facecore
