// The two recurrences of a Chebyshev convolution y = sum_k T_k(L) x W_k (METHODS 1.6), each K-1 sparse products with
// their additions fused.
#pragma once
#include "ops/sparse_matmul.h"

namespace facecore {

template <class T> struct ChebyshevGraph {
  int64_t num_images, num_vertices, num_terms, width;
  const int32_t* crow_indices;  // [V+1]; the scaled Laplacian L, symmetric or not
  const int32_t* col_indices;   // [nnz]
  const T* values;              // [nnz]
};

// terms[n,v,k,:] = (T_k(L) x)[n,v,:] for k >= 1, from x = terms[n,v,0,:]:  T_1 = L T_0,  T_k = 2 L T_{k-1} - T_{k-2}.
template <class T> void chebyshev_terms(const Device& device, const ChebyshevGraph<T>& graph, T* terms);

// out[n,v,:] = sum_k (T_k(L) h_k)[n,v,:] + bias, h_k = terms[n,v,k,:], by Clenshaw's recurrence
// b_k = h_k + 2 L b_{k+1} - b_{k+2}, out = h_0 + L b_1 - b_2. K >= 2.
// bias [width] or absent; work [2, N, V, width] when K > 2.
template <class T>
void chebyshev_sum(const Device& device, const ChebyshevGraph<T>& graph, const T* terms, const T* bias, T* work, T* out);

}  // namespace facecore
