// The losses of two pictures row by row (METHODS 1.1, 1.11), as plain structs: arguments of the SIMD kernels.
#pragma once
#include <cstdint>

#include "core/simd.h"

namespace facecore {

enum PictureNorm : int32_t { kL2Squared = 0, kL2 = 1, kL1 = 2 };

// A factor of each pixel [H, W], as numbers or as bools; both null = 1 everywhere. What is not positive counts as 0.
template <class T> struct PicturePlane {
  const T* numbers;
  const uint8_t* bools;
};

template <class T> struct PicturePair {  // one image of a batch
  int64_t channels, height, width;
  const T* rendered;                // [C, H, W]
  const T* image;                   // [C, H, W]
  PicturePlane<T> mask, attention;  // a pixel weighs their product
  PicturePlane<T> coverage;         // where it is not 1, the image shows through `rendered`
  int32_t norm;                     // PictureNorm of the photometric error
  bool with_error, with_steps;
};

// What one row adds to the sums of an image: weighted errors of its pixels, and of the differences of the steps to the
// right and down from it (the gradient difference loss), each with the sum of its weights.
struct PictureSums {
  double error, error_weight, right, right_weight, down, down_weight;
};

template <class T> struct PictureGradient {
  T error, right, down;  // the derivative of the loss with respect to the three sums of errors
  T* grad_rendered;      // [C, H, W] or null
  T* grad_image;         // [C, H, W] or null
  T* scratch;            // zeros, picture_scratch numbers
};

constexpr int64_t kPicturePadding = 16;  // of a row of scratch at both ends: whole vectors are read at x - 1

// Of their own in each file that uses them: the linker may not take one that was built for another instruction set.
static inline int64_t picture_scratch_row(int64_t width) { return width + 2 * kPicturePadding; }
// Weights, coverage and composited channels of a row (Line of simd/picture_line.h).
static inline int64_t picture_line_numbers(int64_t channels, int64_t width) {
  return (2 + channels) * picture_scratch_row(width);
}
// Of picture_gradient: two lines, the factors of a row and the derivatives by its steps (Scratch of picture_rows.cpp).
static inline int64_t picture_scratch(int64_t channels, int64_t width) {
  return 2 * picture_line_numbers(channels, width) + (1 + 6 * channels) * picture_scratch_row(width);
}

// Writes the sums of the rows [begin, end) to sums[row - begin]; scratch: two times picture_line_numbers.
template <class T>
using PictureSumsKernel = void(const PicturePair<T>& pair, int64_t begin, int64_t end, T* scratch, PictureSums* sums);
template <class T>
using PictureGradientKernel = void(const PicturePair<T>& pair, const PictureGradient<T>& gradient, int64_t begin,
                                   int64_t end);

FACECORE_DECLARE_SIMD(void picture_sums(const PicturePair<float>& pair, int64_t begin, int64_t end, float* scratch,
                                        PictureSums* sums))
FACECORE_DECLARE_SIMD(void picture_sums(const PicturePair<double>& pair, int64_t begin, int64_t end, double* scratch,
                                        PictureSums* sums))
FACECORE_DECLARE_SIMD(void picture_gradient(const PicturePair<float>& pair, const PictureGradient<float>& gradient,
                                            int64_t begin, int64_t end))
FACECORE_DECLARE_SIMD(void picture_gradient(const PicturePair<double>& pair, const PictureGradient<double>& gradient,
                                            int64_t begin, int64_t end))

}  // namespace facecore
