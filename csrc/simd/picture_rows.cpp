// The loops of picture_rows.h over the pixels of a row, vectorised: value and gradient of the picture losses.
#include "simd/picture_rows.h"

#include <cstring>

#include "simd/vector.h"

namespace facecore {
namespace {

template <class V> using Lane = typename V::type;

// The numbers of a vector as integers, to work on their signs.
template <class T> struct IntegerOf;
template <> struct IntegerOf<float> {
  typedef int32_t type;
};
template <> struct IntegerOf<double> {
  typedef int64_t type;
};
template <class T, class V> struct BitsOf {
  typedef typename Vector<typename IntegerOf<T>::type, sizeof(Lane<V>)>::type type;
};
template <class T> struct BitsOf<T, Scalar<T>> {
  typedef typename IntegerOf<T>::type type;
};
template <class To, class From> FACECORE_INLINE To bits_as(From from) {
  To to;
  static_assert(sizeof(to) == sizeof(from), "the same bits");
  std::memcpy(&to, &from, sizeof(to));
  return to;
}
template <class T, class V> FACECORE_INLINE typename BitsOf<T, V>::type sign_bits(Lane<V> x) {
  typedef typename BitsOf<T, V>::type Bits;
  const Lane<V> minus_zero = -Lane<V>{};
  return bits_as<Bits>(x) & bits_as<Bits>(minus_zero);
}

template <class T, class V> FACECORE_INLINE Lane<V> absolute(Lane<V> x) {
  typedef typename BitsOf<T, V>::type Bits;
  const Lane<V> minus_zero = -Lane<V>{};
  return bits_as<Lane<V>>(bits_as<Bits>(x) & ~bits_as<Bits>(minus_zero));
}
template <class V> FACECORE_INLINE Lane<V> where_positive(Lane<V> weight, Lane<V> x) {  // NaN behind a mask is dropped
  return weight > 0 ? x : Lane<V>{};
}
template <class T, class V> FACECORE_INLINE Lane<V> times_sign(Lane<V> a, Lane<V> b) {  // a sign(b), 0 at a kink
  typedef typename BitsOf<T, V>::type Bits;
  const Lane<V> turned = bits_as<Lane<V>>(bits_as<Bits>(a) ^ sign_bits<T, V>(b));
  return b != 0 ? turned : Lane<V>{};
}

template <class T, class V> FACECORE_INLINE Lane<V> root_of(Lane<V> x) {
  T lanes[V::lanes];
  V::store(lanes, x);
  for (int l = 0; l < V::lanes; ++l) lanes[l] = root(lanes[l]);  // the compiler makes vectors of this loop
  return V::load(lanes);
}

template <class T, class V> FACECORE_INLINE Lane<V> pixel_weight(const T* weights, int64_t p) {
  const Lane<V> none{};
  if (weights == nullptr) return none + 1;
  const Lane<V> weight = V::load(weights + p);
  return weight > 0 ? weight : none;  // a NaN counts as 0 too
}
template <class T, class V> FACECORE_INLINE Lane<V> pair_weight(const T* weights, int64_t p, int64_t step) {
  return pixel_weight<T, V>(weights, p) * pixel_weight<T, V>(weights, p + step);
}

// | |r_p - r_(p+step)| - |i_p - i_(p+step)| | is |difference|; `rendered` and `image` are the two steps.
template <class T, class V> struct Steps {
  Lane<V> rendered, image, difference;
  FACECORE_INLINE Steps(const T* r, const T* i, int64_t p, int64_t step)
      : rendered(V::load(r + p) - V::load(r + p + step)),
        image(V::load(i + p) - V::load(i + p + step)),
        difference(absolute<T, V>(rendered) - absolute<T, V>(image)) {}
};

template <class T, class V> FACECORE_INLINE Lane<V> pixel_error(const PicturePair<T>& a, int64_t p, Lane<V> weight) {
  Lane<V> sum{};
  for (int64_t c = 0; c < a.channels; ++c) {
    const int64_t at = c * a.height * a.width + p;
    const Lane<V> d = where_positive<V>(weight, V::load(a.rendered + at) - V::load(a.image + at));
    sum += a.norm == kL1 ? absolute<T, V>(d) : d * d;
  }
  return sum;
}

template <class T> constexpr T kL2Epsilon = T(1e-6);  // losses/photometric.py, L2_EPSILON

template <class T, class V> struct RowSums {
  Lane<V> error{}, error_weight{}, right{}, right_weight{}, down{}, down_weight{};

  FACECORE_INLINE void add_error(const PicturePair<T>& a, int64_t p) {
    const Lane<V> weight = pixel_weight<T, V>(a.weights, p);
    Lane<V> value = pixel_error<T, V>(a, p, weight);
    if (a.norm == kL2) value = root_of<T, V>(value + kL2Epsilon<T>);
    error += weight * value;
    error_weight += weight;
  }

  FACECORE_INLINE void add_steps(const PicturePair<T>& a, int64_t p, int64_t step, Lane<V>& sum, Lane<V>& weights) {
    const Lane<V> weight = pair_weight<T, V>(a.weights, p, step);
    Lane<V> value{};
    for (int64_t c = 0; c < a.channels; ++c) {
      const int64_t at = c * a.height * a.width;
      value += absolute<T, V>(Steps<T, V>(a.rendered + at, a.image + at, p, step).difference);
    }
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

// Pixels [begin, end) of a row, as far as whole vectors go; returns where they end.
template <class T, class V>
FACECORE_INLINE int64_t add_pixels(const PicturePair<T>& a, int64_t row, int64_t begin, PictureSums& sums) {
  RowSums<T, V> rows;
  int64_t x = begin;
  for (; x + V::lanes <= a.width; x += V::lanes) {
    const int64_t p = row * a.width + x;
    if (a.with_error) rows.add_error(a, p);
    if (!a.with_steps) continue;
    if (x + V::lanes < a.width) rows.add_steps(a, p, 1, rows.right, rows.right_weight);
    if (row + 1 < a.height) rows.add_steps(a, p, a.width, rows.down, rows.down_weight);
  }
  rows.store(sums);
  return x;
}

template <class T> FACECORE_INLINE void sums_of_row(const PicturePair<T>& pair, int64_t row, PictureSums& sums) {
  const PicturePair<T> a = pair;
  sums = PictureSums{};
  using Full = Vector<T, kVectorBytes>;
  const int64_t done = add_pixels<T, Full>(a, row, 0, sums);
  add_pixels<T, Scalar<T>>(a, row, done, sums);
  if (!a.with_steps || done == 0 || done < a.width) return;
  // The last vector of a row that is a multiple of it: its steps to the right, but for the last pixel's.
  RowSums<T, Scalar<T>> last;
  for (int64_t x = done - Full::lanes; x + 1 < a.width; ++x)
    last.add_steps(a, row * a.width + x, 1, last.right, last.right_weight);
  last.store(sums);
}

// The rows of scratch: the factor of a pixel's photometric derivative, and for each channel the derivatives by the
// steps to the right and down of this row, and down of the row before, for the rendered picture and for the image.
enum StepRow { kRight = 0, kDown = 1, kDownBefore = 2, kStepRows = 3 };

template <class T> struct Scratch {
  T* numbers;
  int64_t stride;
  FACECORE_INLINE Scratch(T* numbers, int64_t width)
      : numbers(numbers + kPicturePadding), stride(width + 2 * kPicturePadding) {}
  FACECORE_INLINE T* factor() const { return numbers; }
  FACECORE_INLINE T* steps(int64_t channel, int picture, int64_t which) const {
    return numbers + (1 + (channel * 2 + picture) * kStepRows + which) * stride;
  }
};

// Derivatives by the steps from the pixels [x, W) of a row, to the pixel `step` further on; 0 from those of `without`.
template <class T, class V>
FACECORE_INLINE int64_t step_derivatives(const PicturePair<T>& a, const PictureGradient<T>& g,
                                         const Scratch<T>& scratch, int64_t row, int64_t x, int64_t end, int64_t step,
                                         T scale, int64_t which) {
  for (; x + V::lanes <= end; x += V::lanes) {
    const int64_t p = row * a.width + x;
    const Lane<V> weight = pair_weight<T, V>(a.weights, p, step), scaled = weight * scale;
    for (int64_t c = 0; c < a.channels; ++c) {
      const int64_t at = c * a.height * a.width;
      const Steps<T, V> steps(a.rendered + at, a.image + at, p, step);  // a NaN has a sign too: 0 where scaled is 0
      const Lane<V> outer = times_sign<T, V>(scaled, steps.difference);
      if (g.grad_rendered) V::store(scratch.steps(c, 0, which) + x, times_sign<T, V>(outer, steps.rendered));
      if (g.grad_image) V::store(scratch.steps(c, 1, which) + x, times_sign<T, V>(-outer, steps.image));
    }
  }
  return x;
}

template <class T>
FACECORE_INLINE void all_step_derivatives(const PicturePair<T>& a, const PictureGradient<T>& g,
                                          const Scratch<T>& scratch, int64_t row, int64_t which) {
  const int64_t step = which == kRight ? 1 : a.width;
  const int64_t end = which == kRight ? a.width - 1 : row + 1 < a.height ? a.width : 0;
  const T scale = which == kRight ? g.right : g.down;
  const int64_t x = step_derivatives<T, Vector<T, kVectorBytes>>(a, g, scratch, row, 0, end, step, scale, which);
  step_derivatives<T, Scalar<T>>(a, g, scratch, row, x, end, step, scale, which);
  for (int64_t c = 0; c < a.channels; ++c)
    for (int picture = 0; picture < 2; ++picture)
      for (int64_t i = end < 0 ? 0 : end; i < a.width; ++i) scratch.steps(c, picture, which)[i] = T(0);
}

// The factor of a pixel: dE/dr_c = factor (r_c - i_c), or factor sign(r_c - i_c) for kL1.
template <class T, class V>
FACECORE_INLINE int64_t factors(const PicturePair<T>& a, const PictureGradient<T>& g, const Scratch<T>& scratch,
                                int64_t row, int64_t x) {
  for (; x + V::lanes <= a.width; x += V::lanes) {
    const int64_t p = row * a.width + x;
    const Lane<V> weight = pixel_weight<T, V>(a.weights, p);
    Lane<V> factor = weight * g.error;
    if (a.norm == kL2Squared) factor *= T(2);
    if (a.norm == kL2) factor /= root_of<T, V>(pixel_error<T, V>(a, p, weight) + kL2Epsilon<T>);
    V::store(scratch.factor() + x, factor);
  }
  return x;
}

template <class T, class V>
FACECORE_INLINE int64_t pixel_derivatives(const PicturePair<T>& a, const PictureGradient<T>& g,
                                          const Scratch<T>& scratch, int64_t row, int64_t channel, int64_t x) {
  const int64_t at = channel * a.height * a.width + row * a.width;
  for (; x + V::lanes <= a.width; x += V::lanes) {
    Lane<V> direct{};
    if (a.with_error) {
      const Lane<V> factor = V::load(scratch.factor() + x);
      const Lane<V> weight = pixel_weight<T, V>(a.weights, row * a.width + x);
      const Lane<V> d = where_positive<V>(weight, V::load(a.rendered + at + x) - V::load(a.image + at + x));
      direct = a.norm == kL1 ? times_sign<T, V>(factor, d) : factor * d;
    }
    for (int picture = 0; picture < 2; ++picture) {
      T* out = picture == 0 ? g.grad_rendered : g.grad_image;
      if (out == nullptr) continue;
      Lane<V> sum = picture == 0 ? direct : -direct;
      if (a.with_steps) {
        const T* right = scratch.steps(channel, picture, kRight) + x;
        sum += V::load(right) - V::load(right - 1);
        sum += V::load(scratch.steps(channel, picture, kDown) + x);
        sum -= V::load(scratch.steps(channel, picture, kDownBefore) + x);
      }
      V::store(out + at + x, sum);
    }
  }
  return x;
}

template <class T> FACECORE_INLINE void swap_down_rows(const PicturePair<T>& a, const Scratch<T>& scratch) {
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
  const Scratch<T> scratch(g.scratch, a.width);
  if (a.with_steps && begin > 0) all_step_derivatives(a, g, scratch, begin - 1, kDown);
  for (int64_t row = begin; row < end; ++row) {
    if (a.with_steps) {
      swap_down_rows(a, scratch);
      all_step_derivatives(a, g, scratch, row, kRight);
      all_step_derivatives(a, g, scratch, row, kDown);
    }
    if (a.with_error) factors<T, Scalar<T>>(a, g, scratch, row, factors<T, Full>(a, g, scratch, row, 0));
    for (int64_t c = 0; c < a.channels; ++c) {
      const int64_t x = pixel_derivatives<T, Full>(a, g, scratch, row, c, 0);
      pixel_derivatives<T, Scalar<T>>(a, g, scratch, row, c, x);
    }
  }
}

}  // namespace

namespace FACECORE_SIMD_NAMESPACE {
void picture_sums(const PicturePair<float>& pair, int64_t row, PictureSums& sums) { sums_of_row(pair, row, sums); }
void picture_sums(const PicturePair<double>& pair, int64_t row, PictureSums& sums) { sums_of_row(pair, row, sums); }
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
