// The loops of skin_pixels.h, with an exponential function of their own.
#include "simd/skin_pixels.h"

#include "simd/vector.h"

namespace facecore {
namespace {

template <class V> using Lane = typename V::type;

// exp(x) = 2^n e^r for x <= 0: n = round(x / ln 2), r = x - n ln 2 in two parts, |r| <= ln(2) / 2; e^r by its series.
// Relative error below 2 units in the last place for x >= `lowest`, and 0 below (4e-18, 1e-152): the product of two
// such numbers and of any that occur beside them is normal, and arithmetic with denormal numbers is a hundred times
// slower.
template <class T> struct Exponential;
template <> struct Exponential<float> {
  using Integer = int32_t;
  static constexpr int terms = 8, mantissa = 23, bias = 127;
  static constexpr float lowest = -40.0f, round = 12582912.0f, high = 0.693359375f, low = -2.12194440e-4f;
};
template <> struct Exponential<double> {
  using Integer = int64_t;
  static constexpr int terms = 14, mantissa = 52, bias = 1023;
  static constexpr double lowest = -350.0, round = 6755399441055744.0, high = 0x1.62e42fee00000p-1,
                          low = 0x1.a39ef35793c76p-33;
};

template <class T, class V, class W> FACECORE_INLINE Lane<V> exponential(Lane<V> x) {
  using E = Exponential<T>;
  constexpr T log2_e = T(1.44269504088896340736);
  const auto vanishes = x < E::lowest;
  x = vanishes ? Lane<V>{} + E::lowest : x;
  const Lane<V> shifted = x * log2_e + E::round, n = shifted - E::round;  // rounds: the sum has no bits after the point
  const Lane<V> r = (x - n * E::high) - n * E::low;
  Lane<V> sum = Lane<V>{} + 1;
  FACECORE_UNROLL
  for (int k = E::terms - 1; k > 0; --k) sum = 1 + sum * r * (T(1) / T(k));
  union {
    Lane<V> number;
    Lane<W> bits;
  } power, offset;
  power.number = shifted;
  offset.number = Lane<V>{} + E::round;
  power.bits = ((power.bits - offset.bits) + E::bias) << E::mantissa;  // 2^n
  return vanishes ? Lane<V>{} : sum * power.number;
}

// The terms of the mixtures at some pixels, divided by the largest of them: one may underflow, not all.
template <class T, class V, class W> struct Mixture {
  Lane<V> z[kSkinGaussians][3], term[kSkinGaussians], skin{}, other{};

  FACECORE_INLINE Mixture(const SkinPixels<T>& a, int64_t i) {
    const Lane<V> red = V::load(a.color[0] + i), green = V::load(a.color[1] + i), blue = V::load(a.color[2] + i);
    Lane<V> largest{};
    FACECORE_UNROLL
    for (int k = 0; k < kSkinGaussians; ++k) {
      const T* g = a.gaussians + k * kSkinNumbers;
      FACECORE_UNROLL
      for (int j = 0; j < 3; ++j) z[k][j] = g[9 + j] + g[3 * j] * red + g[3 * j + 1] * green + g[3 * j + 2] * blue;
      term[k] = g[12] - T(0.5) * (z[k][0] * z[k][0] + z[k][1] * z[k][1] + z[k][2] * z[k][2]);
      largest = k == 0 || term[k] > largest ? term[k] : largest;
    }
    FACECORE_UNROLL
    for (int k = 0; k < kSkinGaussians; ++k) {
      term[k] = exponential<T, V, W>(term[k] - largest);
      if (k < kSkinGaussians / 2) skin += term[k];
      else other += term[k];
    }
  }
};

template <class T, class V, class W>
FACECORE_INLINE int64_t probabilities(const SkinPixels<T>& a, int64_t i, T* out) {
  for (; i + V::lanes <= a.count; i += V::lanes) {
    const Mixture<T, V, W> mixture(a, i);
    V::store(out + i, mixture.skin / (mixture.skin + mixture.other));
  }
  return i;
}

// dP = (other dS - skin dO) / (skin + other)^2, and the derivative of a term is -term A^T z.
template <class T, class V, class W>
FACECORE_INLINE int64_t gradients(const SkinPixels<T>& a, int64_t i, const T* grad_out, T* const* grad) {
  for (; i + V::lanes <= a.count; i += V::lanes) {
    const Mixture<T, V, W> mixture(a, i);
    const Lane<V> all = mixture.skin + mixture.other, scale = -V::load(grad_out + i) / (all * all);
    const Lane<V> of_skin = scale * mixture.other, of_other = -scale * mixture.skin;
    Lane<V> sum[3] = {};
    FACECORE_UNROLL
    for (int k = 0; k < kSkinGaussians; ++k) {
      const T* g = a.gaussians + k * kSkinNumbers;
      const Lane<V> factor = mixture.term[k] * (k < kSkinGaussians / 2 ? of_skin : of_other);
      FACECORE_UNROLL
      for (int c = 0; c < 3; ++c)
        sum[c] += factor * (g[c] * mixture.z[k][0] + g[3 + c] * mixture.z[k][1] + g[6 + c] * mixture.z[k][2]);
    }
    for (int c = 0; c < 3; ++c) V::store(grad[c] + i, sum[c]);
  }
  return i;
}

template <class T> struct Kinds {
  using Integer = typename Exponential<T>::Integer;
  using V = Vector<T, kVectorBytes>;
  using W = Vector<Integer, kVectorBytes>;
  using OneV = Scalar<T>;
  using OneW = Scalar<Integer>;
};
template <class T> FACECORE_INLINE void all_probabilities(const SkinPixels<T>& pixels, T* out) {
  using K = Kinds<T>;
  const SkinPixels<T> a = pixels;
  probabilities<T, typename K::OneV, typename K::OneW>(a, probabilities<T, typename K::V, typename K::W>(a, 0, out),
                                                       out);
}
template <class T>
FACECORE_INLINE void all_gradients(const SkinPixels<T>& pixels, const T* grad_out, T* const* grad) {
  using K = Kinds<T>;
  const SkinPixels<T> a = pixels;
  const int64_t done = gradients<T, typename K::V, typename K::W>(a, 0, grad_out, grad);
  gradients<T, typename K::OneV, typename K::OneW>(a, done, grad_out, grad);
}

}  // namespace

namespace FACECORE_SIMD_NAMESPACE {
void skin_probability(const SkinPixels<float>& pixels, float* probability) { all_probabilities(pixels, probability); }
void skin_probability(const SkinPixels<double>& pixels, double* probability) { all_probabilities(pixels, probability); }
void skin_gradient(const SkinPixels<float>& pixels, const float* grad_out, float* const* grad) {
  all_gradients(pixels, grad_out, grad);
}
void skin_gradient(const SkinPixels<double>& pixels, const double* grad_out, double* const* grad) {
  all_gradients(pixels, grad_out, grad);
}
}  // namespace FACECORE_SIMD_NAMESPACE

}  // namespace facecore
