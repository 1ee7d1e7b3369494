// One row of two pictures as the picture losses see it: weights of its pixels, `rendered` laid over the image.
// Included by csrc/simd/picture_rows.cpp only.
#pragma once
#include "simd/picture_rows.h"
#include "simd/vector.h"

namespace facecore {
namespace {

template <class T> struct Line {
  const T *rendered, *image;  // of channel 0; where there is a coverage, `rendered` is the composited picture
  int64_t rendered_channel, image_channel;  // from a channel to the next
  T *weights, *coverage;                    // [W], not negative; coverage is meaningless where the pair has none
  T* composited;                            // [C, W] with gaps of picture_scratch_row

  FACECORE_INLINE const T* rendered_of(int64_t channel) const { return rendered + channel * rendered_channel; }
  FACECORE_INLINE const T* image_of(int64_t channel) const { return image + channel * image_channel; }
};

template <class T> FACECORE_INLINE bool is_there(const PicturePlane<T>& plane) { return plane.numbers || plane.bools; }

// factor *= the plane's row, which is the pixels from `first` on.
template <class T>
FACECORE_INLINE void multiply_by(const PicturePlane<T>& plane, int64_t first, int64_t width, T* factor) {
  using Full = Vector<T, kVectorBytes>;
  if (plane.bools) {
    const uint8_t* bools = plane.bools + first;
    for (int64_t x = 0; x < width; ++x) factor[x] = bools[x] ? factor[x] : T(0);
    return;
  }
  if (plane.numbers == nullptr) return;
  const T* numbers = plane.numbers + first;
  const typename Full::type none{};
  int64_t x = 0;
  for (; x + Full::lanes <= width; x += Full::lanes) {
    const typename Full::type number = Full::load(numbers + x);
    Full::store(factor + x, number > 0 ? number * Full::load(factor + x) : none);  // a NaN counts as 0 too
  }
  for (; x < width; ++x) factor[x] = numbers[x] > 0 ? numbers[x] * factor[x] : T(0);
}

// image + coverage (rendered - image), as torch.lerp: exact where the two are equal and where coverage is 0 or 1.
template <class T, class V>
FACECORE_INLINE int64_t composite(const T* rendered, const T* image, const T* coverage, int64_t x, int64_t width,
                                  T* out) {
  for (; x + V::lanes <= width; x += V::lanes) {
    const typename V::type r = V::load(rendered + x), i = V::load(image + x), c = V::load(coverage + x);
    const typename V::type mixed = c < T(0.5) ? i + c * (r - i) : r - (1 - c) * (r - i);
    V::store(out + x, c > 0 ? mixed : i);  // NaN behind the coverage is dropped
  }
  return x;
}

// A line that lies in `scratch`, zeros, picture_line_numbers of them.
template <class T> FACECORE_INLINE Line<T> make_line(const PicturePair<T>& a, T* scratch) {
  const int64_t row = picture_scratch_row(a.width), plane = a.height * a.width;
  const bool covered = is_there(a.coverage);
  T* weights = scratch + kPicturePadding;
  for (int64_t x = 0; x < a.width; ++x) weights[x] = T(1);
  return {nullptr, nullptr, covered ? row : plane, plane, weights, weights + row, weights + 2 * row};
}

template <class T> FACECORE_INLINE void read_line(const PicturePair<T>& a, int64_t row, Line<T>& line) {
  const int64_t first = row * a.width;
  line.image = a.image + first;
  line.rendered = a.rendered + first;
  if (is_there(a.mask) || is_there(a.attention)) {
    for (int64_t x = 0; x < a.width; ++x) line.weights[x] = T(1);
    multiply_by(a.mask, first, a.width, line.weights);
    multiply_by(a.attention, first, a.width, line.weights);
  }
  if (!is_there(a.coverage)) return;
  for (int64_t x = 0; x < a.width; ++x) line.coverage[x] = T(1);
  multiply_by(a.coverage, first, a.width, line.coverage);
  for (int64_t c = 0; c < a.channels; ++c) {
    const T* rendered = line.rendered + c * line.image_channel;
    T* out = line.composited + c * line.rendered_channel;
    const int64_t x = composite<T, Vector<T, kVectorBytes>>(rendered, line.image_of(c), line.coverage, 0, a.width, out);
    composite<T, Scalar<T>>(rendered, line.image_of(c), line.coverage, x, a.width, out);
  }
  line.rendered = line.composited;
}

}  // namespace
}  // namespace facecore
