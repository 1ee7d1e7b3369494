// Rows of sum |M x| for a static sparse matrix and points of three coordinates, as a plain struct: the argument of the
// SIMD kernels. Four images share the reading of a row's indices and values.
#pragma once
#include <cstdint>

#include "core/simd.h"

namespace facecore {

constexpr int kSmoothImages = 4;  // of a group
constexpr int kSmoothSigns = 16;  // of a vertex in a group: four images of x, y, z and one that says nothing

template <class T> struct SmoothMatrix {  // M = diagonal I + factor (the CSR matrix), [V, V]
  int64_t num_vertices;
  const int32_t* crow_indices;  // [V+1]
  const int32_t* col_indices;   // [nnz], ascending in a row
  const T* values;              // [nnz]
  T diagonal, factor;
};

struct SmoothRange {  // the rows [begin, end) of `images` images, at most kSmoothImages
  int64_t images, begin, end;
};

// Returns the sum of |M x| over the range in sums[image]; x [images, V, 3]. signs [V]: two bits for each of the signs
// of M x, 1, 0 or -1 in two's complement, the first in the lowest; 0 for images that the group lacks; null: not stored.
template <class T>
using SmoothSumsKernel = void(const SmoothMatrix<T>& matrix, const T* x, const SmoothRange& range, uint32_t* signs,
                              double* sums);

// Writes scale * M signs; here `matrix` is the transpose and grad_x [images, V, 3].
template <class T>
using SmoothGradientKernel = void(const SmoothMatrix<T>& matrix, const uint32_t* signs, const SmoothRange& range,
                                  T scale, T* grad_x);

FACECORE_DECLARE_SIMD(void smooth_sums(const SmoothMatrix<float>& matrix, const float* x, const SmoothRange& range,
                                       uint32_t* signs, double* sums))
FACECORE_DECLARE_SIMD(void smooth_sums(const SmoothMatrix<double>& matrix, const double* x, const SmoothRange& range,
                                       uint32_t* signs, double* sums))
FACECORE_DECLARE_SIMD(void smooth_gradient(const SmoothMatrix<float>& matrix, const uint32_t* signs,
                                           const SmoothRange& range, float scale, float* grad_x))
FACECORE_DECLARE_SIMD(void smooth_gradient(const SmoothMatrix<double>& matrix, const uint32_t* signs,
                                           const SmoothRange& range, double scale, double* grad_x))

}  // namespace facecore
