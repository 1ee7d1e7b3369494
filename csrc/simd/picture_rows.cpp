// The loops of picture_rows.h over the pixels of a row, vectorised: value and gradient of the picture losses.
#include "simd/picture_rows.h"

#include "simd/picture_line.h"
#include "simd/sign_bits.h"

namespace facecore {
namespace {

template <class V> FACECORE_INLINE Lane<V> where_positive(Lane<V> weight, Lane<V> x) {  // NaN behind a mask is dropped
  return weight > 0 ? x : Lane<V>{};
}
template <class T, class V> FACECORE_INLINE Lane<V> root_of(Lane<V> x) {
  T lanes[V::lanes];
  V::store(lanes, x);
  for (int l = 0; l < V::lanes; ++l) lanes[l] = root(lanes[l]);  // the compiler makes vectors of this loop
  return V::load(lanes);
}

// | |r_p - r_q| - |i_p - i_q| | is |difference| for pixel x of a line and its neighbour x + right of that line or the
// next; `rendered` and `image` are the two steps.
template <class T, class V> struct Steps {
  Lane<V> rendered, image, difference;
  FACECORE_INLINE Steps(const Line<T> line, const Line<T> to, int64_t c, int64_t x, int64_t right)
      : rendered(V::load(line.rendered_of(c) + x) - V::load(to.rendered_of(c) + x + right)),
        image(V::load(line.image_of(c) + x) - V::load(to.image_of(c) + x + right)),
        difference(absolute<T, V>(rendered) - absolute<T, V>(image)) {}
};
template <class T, class V>
FACECORE_INLINE Lane<V> pair_weight(const Line<T> line, const Line<T> to, int64_t x, int64_t right) {
  return V::load(line.weights + x) * V::load(to.weights + x + right);
}

template <class T, class V>
FACECORE_INLINE Lane<V> pixel_difference(const Line<T> line, int64_t c, int64_t x, Lane<V> weight) {
  return where_positive<V>(weight, V::load(line.rendered_of(c) + x) - V::load(line.image_of(c) + x));
}
template <class T, class V>
FACECORE_INLINE Lane<V> pixel_error(const PicturePair<T>& a, const Line<T> line, int64_t x, Lane<V> weight) {
  Lane<V> sum{};
  for (int64_t c = 0; c < a.channels; ++c) {
    const Lane<V> d = pixel_difference<T, V>(line, c, x, weight);
    sum += a.norm == kL1 ? absolute<T, V>(d) : d * d;
  }
  return sum;
}

template <class T> constexpr T kL2Epsilon = T(1e-6);  // facecore/reference_losses.py, L2_EPSILON

template <class T, class V> struct RowSums {
  Lane<V> error{}, error_weight{}, right{}, right_weight{}, down{}, down_weight{};

  FACECORE_INLINE void add_error(const PicturePair<T>& a, const Line<T> line, int64_t x) {
    const Lane<V> weight = V::load(line.weights + x);
    Lane<V> value = pixel_error<T, V>(a, line, x, weight);
    if (a.norm == kL2) value = root_of<T, V>(value + kL2Epsilon<T>);
    error += weight * value;
    error_weight += weight;
  }

  FACECORE_INLINE void add_steps(const PicturePair<T>& a, const Line<T> line, const Line<T> to, int64_t x, int64_t step,
                                 Lane<V>& sum, Lane<V>& weights) {
    const Lane<V> weight = pair_weight<T, V>(line, to, x, step);
    Lane<V> value{};
    for (int64_t c = 0; c < a.channels; ++c) value += absolute<T, V>(Steps<T, V>(line, to, c, x, step).difference);
    sum += weight * where_positive<V>(weight, value);
    weights += weight;
  }

  FACECORE_INLINE void store(PictureSums& sums) const {
    sums.error += sum_of_lanes<T, V>(error);
    sums.error_weight += sum_of_lanes<T, V>(error_weight);
    sums.right += sum_of_lanes<T, V>(right);
    sums.right_weight += sum_of_lanes<T, V>(right_weight);
    sums.down += sum_of_lanes<T, V>(down);
    sums.down_weight += sum_of_lanes<T, V>(down_weight);
  }
};

// Pixels [x, W) of a line, as far as whole vectors go; returns where they end.
template <class T, class V>
FACECORE_INLINE int64_t add_pixels(const PicturePair<T>& a, const Line<T> line, const Line<T>* below, int64_t x,
                                   PictureSums& sums) {
  RowSums<T, V> rows;
  for (; x + V::lanes <= a.width; x += V::lanes) {
    if (a.with_error) rows.add_error(a, line, x);
    if (!a.with_steps) continue;
    if (x + V::lanes < a.width) rows.add_steps(a, line, line, x, 1, rows.right, rows.right_weight);
    if (below) rows.add_steps(a, line, *below, x, 0, rows.down, rows.down_weight);
  }
  rows.store(sums);
  return x;
}

template <class T>
FACECORE_INLINE void sums_of_line(const PicturePair<T>& a, const Line<T> line, const Line<T>* below,
                                  PictureSums& sums) {
  sums = PictureSums{};
  using Full = Vector<T, kVectorBytes>;
  const int64_t done = add_pixels<T, Full>(a, line, below, 0, sums);
  add_pixels<T, Scalar<T>>(a, line, below, done, sums);
  if (!a.with_steps || done == 0 || done < a.width) return;
  // The last vector of a row that is a multiple of it: its steps to the right, but for the last pixel's.
  RowSums<T, Scalar<T>> last;
  for (int64_t x = done - Full::lanes; x + 1 < a.width; ++x)
    last.add_steps(a, line, line, x, 1, last.right, last.right_weight);
  last.store(sums);
}

template <class T>
FACECORE_INLINE void sums_of_rows(const PicturePair<T>& pair, int64_t begin, int64_t end, T* scratch,
                                  PictureSums* sums) {
  const PicturePair<T> a = pair;
  Line<T> lines[2] = {make_line(a, scratch), make_line(a, scratch + picture_line_numbers(a.channels, a.width))};
  read_line(a, begin, lines[begin & 1]);
  for (int64_t row = begin; row < end; ++row) {
    const Line<T> line = lines[row & 1];  // a copy: the compiler need not think that a store changes it
    Line<T>& below = lines[~row & 1];
    const bool has_below = a.with_steps && row + 1 < a.height;
    if (has_below || row + 1 < end) read_line(a, row + 1, below);
    sums_of_line(a, line, has_below ? &below : nullptr, sums[row - begin]);
  }
}

// The rows of scratch: the factor of a pixel's photometric derivative, and for each channel the derivatives by the
// steps to the right and down of this row, and down of the row before, for the rendered picture and for the image.
enum StepRow { kRight = 0, kDown = 1, kDownBefore = 2, kStepRows = 3 };

// Which derivatives are made: where the image shows through, its own needs the composited picture's.
template <class T> struct Scratch {
  T* numbers;
  int64_t stride;
  bool wanted[2];
  FACECORE_INLINE Scratch(const PicturePair<T>& a, const PictureGradient<T>& g)
      : numbers(g.scratch + 2 * picture_line_numbers(a.channels, a.width) + kPicturePadding),
        stride(picture_scratch_row(a.width)),
        wanted{g.grad_rendered || is_there(a.coverage), g.grad_image != nullptr} {}
  FACECORE_INLINE T* factor() const { return numbers; }
  FACECORE_INLINE T* steps(int64_t channel, int picture, int64_t which) const {
    return numbers + (1 + (channel * 2 + picture) * kStepRows + which) * stride;
  }
};

// Derivatives by the steps from the pixels [x, end) of a line, to the next pixel or the line below.
template <class T, class V>
FACECORE_INLINE int64_t step_derivatives(const PicturePair<T>& a, const Scratch<T>& scratch, const Line<T> line,
                                         const Line<T>& to, int64_t x, int64_t end, T scale, StepRow which) {
  const int64_t right = which == kRight;
  for (; x + V::lanes <= end; x += V::lanes) {
    const Lane<V> weight = pair_weight<T, V>(line, to, x, right), scaled = weight * scale;
    for (int64_t c = 0; c < a.channels; ++c) {
      const Steps<T, V> steps(line, to, c, x, right);  // a NaN has a sign too: 0 where scaled is 0
      const Lane<V> outer = times_sign<T, V>(scaled, steps.difference);
      if (scratch.wanted[0]) V::store(scratch.steps(c, 0, which) + x, times_sign<T, V>(outer, steps.rendered));
      if (scratch.wanted[1]) V::store(scratch.steps(c, 1, which) + x, times_sign<T, V>(-outer, steps.image));
    }
  }
  return x;
}

// All of a row: 0 from its last pixel to the right, and down where there is no line below.
template <class T>
FACECORE_INLINE void all_step_derivatives(const PicturePair<T>& a, const Scratch<T>& scratch, const Line<T> line,
                                          const Line<T>* to, T scale, StepRow which) {
  const int64_t end = to == nullptr ? 0 : which == kRight ? a.width - 1 : a.width;
  if (to) {
    const int64_t x = step_derivatives<T, Vector<T, kVectorBytes>>(a, scratch, line, *to, 0, end, scale, which);
    step_derivatives<T, Scalar<T>>(a, scratch, line, *to, x, end, scale, which);
  }
  for (int64_t c = 0; c < a.channels; ++c)
    for (int picture = 0; picture < 2; ++picture)
      for (int64_t i = end < 0 ? 0 : end; i < a.width; ++i) scratch.steps(c, picture, which)[i] = T(0);
}

// The factor of a pixel: dE/dr_c = factor (r_c - i_c), or factor sign(r_c - i_c) for kL1.
template <class T, class V>
FACECORE_INLINE int64_t factors(const PicturePair<T>& a, const Scratch<T>& scratch, const Line<T> line, T scale,
                                int64_t x) {
  for (; x + V::lanes <= a.width; x += V::lanes) {
    const Lane<V> weight = V::load(line.weights + x);
    Lane<V> factor = weight * scale;
    if (a.norm == kL2Squared) factor *= T(2);
    if (a.norm == kL2) factor /= root_of<T, V>(pixel_error<T, V>(a, line, x, weight) + kL2Epsilon<T>);
    V::store(scratch.factor() + x, factor);
  }
  return x;
}

// The derivatives by a channel of the composited picture and of the image, passed on to the two pictures.
template <class T, class V>
FACECORE_INLINE int64_t pixel_derivatives(const PicturePair<T>& a, const PictureGradient<T>& g,
                                          const Scratch<T>& scratch, const Line<T> line, int64_t row, int64_t channel,
                                          int64_t x) {
  const int64_t at = (channel * a.height + row) * a.width;
  const bool covered = is_there(a.coverage);
  for (; x + V::lanes <= a.width; x += V::lanes) {
    Lane<V> direct{};
    if (a.with_error) {
      const Lane<V> factor = V::load(scratch.factor() + x);
      const Lane<V> d = pixel_difference<T, V>(line, channel, x, V::load(line.weights + x));
      direct = a.norm == kL1 ? times_sign<T, V>(factor, d) : factor * d;
    }
    Lane<V> sums[2] = {direct, -direct};
    for (int picture = 0; picture < 2; ++picture) {
      if (!a.with_steps || !scratch.wanted[picture]) continue;
      const T* right = scratch.steps(channel, picture, kRight) + x;
      sums[picture] += V::load(right) - V::load(right - 1);
      sums[picture] += V::load(scratch.steps(channel, picture, kDown) + x);
      sums[picture] -= V::load(scratch.steps(channel, picture, kDownBefore) + x);
    }
    if (covered) {
      const Lane<V> coverage = V::load(line.coverage + x);
      sums[1] += (1 - coverage) * sums[0];
      sums[0] *= coverage;
    }
    if (g.grad_rendered) V::store(g.grad_rendered + at + x, sums[0]);
    if (g.grad_image) V::store(g.grad_image + at + x, sums[1]);
  }
  return x;
}

template <class T> FACECORE_INLINE void keep_down_rows(const PicturePair<T>& a, const Scratch<T>& scratch) {
  for (int64_t c = 0; c < a.channels; ++c)
    for (int picture = 0; picture < 2; ++picture) {
      const T* down = scratch.steps(c, picture, kDown);
      T* before = scratch.steps(c, picture, kDownBefore);
      for (int64_t x = 0; x < a.width; ++x) before[x] = down[x];
    }
}

template <class T>
FACECORE_INLINE void gradient_of_rows(const PicturePair<T>& pair, const PictureGradient<T>& gradient, int64_t begin,
                                      int64_t end) {
  using Full = Vector<T, kVectorBytes>;
  const PicturePair<T> a = pair;
  const PictureGradient<T> g = gradient;
  const Scratch<T> scratch(a, g);
  Line<T> lines[2] = {make_line(a, g.scratch), make_line(a, g.scratch + picture_line_numbers(a.channels, a.width))};
  read_line(a, begin, lines[begin & 1]);
  if (a.with_steps && begin > 0) {
    Line<T>& above = lines[~begin & 1];
    read_line(a, begin - 1, above);
    all_step_derivatives(a, scratch, above, &lines[begin & 1], g.down, kDown);
  }
  for (int64_t row = begin; row < end; ++row) {
    const Line<T> line = lines[row & 1];  // a copy: the compiler need not think that a store changes it
    Line<T>& below = lines[~row & 1];
    const bool has_below = row + 1 < a.height;
    if (has_below) read_line(a, row + 1, below);
    if (a.with_steps) {
      keep_down_rows(a, scratch);
      all_step_derivatives(a, scratch, line, &line, g.right, kRight);
      all_step_derivatives(a, scratch, line, has_below ? &below : nullptr, g.down, kDown);
    }
    if (a.with_error) factors<T, Scalar<T>>(a, scratch, line, g.error, factors<T, Full>(a, scratch, line, g.error, 0));
    for (int64_t c = 0; c < a.channels; ++c) {
      const int64_t x = pixel_derivatives<T, Full>(a, g, scratch, line, row, c, 0);
      pixel_derivatives<T, Scalar<T>>(a, g, scratch, line, row, c, x);
    }
  }
}

}  // namespace

namespace FACECORE_SIMD_NAMESPACE {
void picture_sums(const PicturePair<float>& pair, int64_t begin, int64_t end, float* scratch, PictureSums* sums) {
  sums_of_rows(pair, begin, end, scratch, sums);
}
void picture_sums(const PicturePair<double>& pair, int64_t begin, int64_t end, double* scratch, PictureSums* sums) {
  sums_of_rows(pair, begin, end, scratch, sums);
}
void picture_gradient(const PicturePair<float>& pair, const PictureGradient<float>& gradient, int64_t begin,
                      int64_t end) {
  gradient_of_rows(pair, gradient, begin, end);
}
void picture_gradient(const PicturePair<double>& pair, const PictureGradient<double>& gradient, int64_t begin,
                      int64_t end) {
  gradient_of_rows(pair, gradient, begin, end);
}
}  // namespace FACECORE_SIMD_NAMESPACE

}  // namespace facecore
