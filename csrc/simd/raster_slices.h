// The gradient of rasterize's pixels by several threads: the rows of a picture in slices (simd/raster_pixels.h), whose
// number and cuts depend on the picture alone.
#pragma once
#include <algorithm>
#include <memory>
#include <vector>

#include "simd/raster_pixels.h"

namespace facecore {

// Adds the gradient of one picture, whose rows are all in `whole`, to its vertices.
class RasterBackwardSlices {
 public:
  explicit RasterBackwardSlices(const RasterPixelsBackward& whole)
      : whole_(whole),
        slices_(number_of_slices(whole.pixels)),
        first_row_(slices_ + 1),
        put_off_(slices_),
        num_put_off_(slices_) {
    const int64_t width = whole.pixels.width, height = whole.pixels.height;
    first_row_[slices_] = whole.pixels.height;
    if (slices_ == 1) return;
    std::vector<int64_t> covered(height / kRowStep + 1);  // above row kRowStep * i, judged by every kRowStep-th row
    for (size_t i = 0; i + 1 < covered.size(); ++i) {
      const int32_t* ids = whole_.triangle_id + static_cast<int64_t>(i) * kRowStep * width;
      int32_t here = 0;
      for (int64_t column = 0; column < width; ++column) here += ids[column] >= 0;
      covered[i + 1] = covered[i] + here;
    }
    for (int64_t s = 1; s < slices_; ++s) {
      const auto cut = std::lower_bound(covered.begin(), covered.end(), covered.back() * s / slices_);
      first_row_[s] = static_cast<int32_t>(kRowStep * (cut - covered.begin()));
    }
  }

  void run(int64_t threads) {
    const int team = static_cast<int>(std::min(threads, slices_));
#pragma omp parallel for schedule(static) num_threads(team) if (team > 1)
    for (int64_t slice = 0; slice < slices_; ++slice) add(slice);
    for (int64_t slice = 0; slice < slices_; ++slice)
      for (int64_t i = 0; i < num_put_off_[slice]; ++i) {
        const VertexTerm& term = put_off_[slice][i];
        float* target = whole_.grad_vertices_clip + term.place;
        for (int c = 0; c < 4; ++c) target[c] += term.value[c];
      }
  }

 private:
  // One where slices would not pay: a small picture, triangles of so many rows that most terms were put off, or a
  // picture so large that the terms put off (60 bytes a pixel) would fill the memory.
  static int64_t number_of_slices(const RasterPixels& picture) {
    constexpr int64_t kSlices = 8, kFewestPixels = 16384, kLargestTriangle = 64,  // pixels
        kMostPixels = 1 << 22;
    const int64_t pixels = static_cast<int64_t>(picture.height) * picture.width;
    return pixels < kFewestPixels || pixels > kMostPixels || picture.num_triangles * kLargestTriangle < pixels
               ? 1
               : kSlices;
  }

  // NDC of the upper edge of a row; beyond every vertex for that of the first and below the last.
  float edge_above(int32_t row) const {
    const int32_t height = whole_.pixels.height;
    if (row <= 0 || row >= height) return row <= 0 ? kBeyond : -kBeyond;
    return static_cast<float>(height - 2 * row) / static_cast<float>(height);
  }

  void add(int64_t slice) {
    RasterPixelsBackward work = whole_;
    work.pixels.first_row = first_row_[slice], work.pixels.last_row = first_row_[slice + 1];
    const int64_t num_rows = work.pixels.last_row - work.pixels.first_row;
    if (num_rows == 0) return;
    if (slices_ > 1) {
      put_off_[slice].reset(new VertexTerm[3 * num_rows * work.pixels.width]);
      work.put_off = put_off_[slice].get();
      work.top = edge_above(work.pixels.first_row), work.bottom = edge_above(work.pixels.last_row);
    }
    num_put_off_[slice] = FACECORE_SIMD(RasterPixelsBackwardKernel*, raster_pixels_backward)(work);
  }

  static constexpr float kBeyond = 1e30f;
  static constexpr int64_t kRowStep = 4;
  RasterPixelsBackward whole_;
  int64_t slices_;
  std::vector<int32_t> first_row_;
  std::vector<std::unique_ptr<VertexTerm[]>> put_off_;
  std::vector<int64_t> num_put_off_;
};

}  // namespace facecore
