// The loops of smooth_rows.h: a point is a vector of four numbers, whose last belongs to the vertex after it.
#include "simd/smooth_rows.h"

#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wpsabi"  // vectors wider than the registers of a level: every function is inlined
#include "simd/lanes.h"
#else
#include "simd/vector.h"
#endif

namespace facecore {
namespace {

#if defined(__GNUC__)
template <class T> using Point = Vector<T, 4 * static_cast<int>(sizeof(T))>;
template <class T> FACECORE_INLINE typename Point<T>::type load_point(const T* p, bool whole) {
  if (whole) return Point<T>::load(p);
  return typename Point<T>::type{p[0], p[1], p[2], T(0)};  // the last vertex: nothing may be read after it
}
template <class T> FACECORE_INLINE void store_point(T* p, typename Point<T>::type value, bool whole) {
  if (whole) {
    Point<T>::store(p, value);
    return;
  }
  for (int i = 0; i < 3; ++i) p[i] = value[i];
}

// The signs of `images` points, and 0 for the images that a group lacks.
template <class T, int images>
FACECORE_INLINE void store_signs(int8_t* signs, const typename Point<T>::type (&points)[images]) {
  typedef int32_t Ints __attribute__((vector_size(16)));
  Ints sign[kSmoothImages] = {};
  FACECORE_UNROLL
  for (int n = 0; n < images; ++n)  // a comparison is 0 or -1
    sign[n] = __builtin_convertvector((points[n] < T(0)) - (points[n] > T(0)), Ints);
#if defined(__SSE2__)
  const auto lanes = [&](int n) { return reinterpret_cast<__m128i>(sign[n]); };
  const __m128i low = _mm_packs_epi32(lanes(0), lanes(1)), high = _mm_packs_epi32(lanes(2), lanes(3));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(signs), _mm_packs_epi16(low, high));
#else
  for (int i = 0; i < kSmoothSigns; ++i) signs[i] = static_cast<int8_t>(sign[i / 4][i % 4]);
#endif
}

template <class T, int images>
FACECORE_INLINE void sums_of_rows(const SmoothMatrix<T>& matrix, const T* x, const SmoothRange& range, int8_t* signs,
                                  double* sums) {
  using P = typename Point<T>::type;
  const SmoothMatrix<T> m = matrix;  // a private copy: the compiler need not think that a store changes it
  const int64_t stride = 3 * m.num_vertices, last = m.num_vertices - 1;
  P total[images] = {};
  for (int64_t r = range.begin; r < range.end; ++r) {
    const int32_t begin = m.crow_indices[r], end = m.crow_indices[r + 1];
    const bool whole = r < last && (begin == end || m.col_indices[end - 1] < last);
    P sum[images];
    FACECORE_UNROLL
    for (int n = 0; n < images; ++n) sum[n] = P{};
    if (whole) {
      for (int32_t j = begin; j < end; ++j) {
        const T value = m.values[j];
        const T* source = x + 3 * static_cast<int64_t>(m.col_indices[j]);
        FACECORE_UNROLL
        for (int n = 0; n < images; ++n) sum[n] += value * load_point<T>(source + n * stride, true);
      }
    } else {
      for (int32_t j = begin; j < end; ++j)
        for (int n = 0; n < images; ++n)
          sum[n] += m.values[j] * load_point<T>(x + n * stride + 3 * static_cast<int64_t>(m.col_indices[j]), false);
    }
    FACECORE_UNROLL
    for (int n = 0; n < images; ++n) {
      sum[n] *= m.factor;
      if (m.diagonal != T(0)) sum[n] += m.diagonal * load_point<T>(x + n * stride + 3 * r, whole);
      total[n] += sum[n] < T(0) ? -sum[n] : sum[n];
    }
    if (signs) store_signs<T, images>(signs + r * kSmoothSigns, sum);
  }
  for (int n = 0; n < images; ++n)
    for (int i = 0; i < 3; ++i) sums[n] += total[n][i];
}

template <class T>
FACECORE_INLINE void sums_of_group(const SmoothMatrix<T>& matrix, const T* x, const SmoothRange& range, int8_t* signs,
                                   double* sums) {
  if (range.images == 4) return sums_of_rows<T, 4>(matrix, x, range, signs, sums);
  if (range.images == 3) return sums_of_rows<T, 3>(matrix, x, range, signs, sums);
  if (range.images == 2) return sums_of_rows<T, 2>(matrix, x, range, signs, sums);
  return sums_of_rows<T, 1>(matrix, x, range, signs, sums);
}

// As many signs as a vector has lanes, as numbers. GCC by itself takes one byte after the other to floats.
template <class T> using Full = Vector<T, kVectorBytes>;
template <class T> FACECORE_INLINE typename Full<T>::type signs_of(const int8_t* signs) {
  typename Full<T>::type result;
  FACECORE_UNROLL
  for (int i = 0; i < Full<T>::lanes; ++i) result[i] = signs[i];
  return result;
}
#if defined(__AVX512F__)
template <> FACECORE_INLINE typename Full<float>::type signs_of<float>(const int8_t* signs) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(signs));
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}
#elif defined(__AVX2__)
template <> FACECORE_INLINE typename Full<float>::type signs_of<float>(const int8_t* signs) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(signs));
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
}
#elif defined(__SSE2__)
template <> FACECORE_INLINE typename Full<float>::type signs_of<float>(const int8_t* signs) {
  const __m128i bytes = _mm_cvtsi32_si128(Vector<int32_t, 4>::load(reinterpret_cast<const int32_t*>(signs))[0]);
  const __m128i words = _mm_unpacklo_epi8(bytes, bytes);
  return _mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpacklo_epi16(words, words), 24));
}
#endif

template <class T>
FACECORE_INLINE void gradient_of_rows(const SmoothMatrix<T>& matrix, const int8_t* signs, const SmoothRange& range,
                                      T scale, T* grad_x) {
  using V = Full<T>;
  constexpr int parts = kSmoothSigns / V::lanes;
  const SmoothMatrix<T> m = matrix;
  const int64_t stride = 3 * m.num_vertices;
  const T diagonal = m.diagonal * scale, factor = m.factor * scale;
  for (int64_t r = range.begin; r < range.end; ++r) {
    typename V::type sum[parts] = {};
    for (int32_t j = m.crow_indices[r], end = m.crow_indices[r + 1]; j < end; ++j) {
      const T value = m.values[j];
      const int8_t* source = signs + static_cast<int64_t>(m.col_indices[j]) * kSmoothSigns;
      FACECORE_UNROLL
      for (int i = 0; i < parts; ++i) sum[i] += value * signs_of<T>(source + i * V::lanes);
    }
    T numbers[kSmoothSigns];
    FACECORE_UNROLL
    for (int i = 0; i < parts; ++i) {
      sum[i] *= factor;
      if (diagonal != T(0)) sum[i] += diagonal * signs_of<T>(signs + r * kSmoothSigns + i * V::lanes);
      V::store(numbers + i * V::lanes, sum[i]);
    }
    for (int64_t n = 0; n < range.images; ++n) {
      // whole vectors spill into the next vertex, which is written after this one, but not over the end of the range
      store_point<T>(grad_x + n * stride + 3 * r, Point<T>::load(numbers + 4 * n), r + 1 < range.end);
    }
  }
}

#else  // any C++17 compiler: one number at a time
template <class T>
void sums_of_group(const SmoothMatrix<T>& m, const T* x, const SmoothRange& range, int8_t* signs, double* sums) {
  for (int64_t n = 0; n < range.images; ++n)
    for (int64_t r = range.begin; r < range.end; ++r)
      for (int i = 0; i < 3; ++i) {
        const T* image = x + n * 3 * m.num_vertices + i;
        T sum = T(0);
        for (int32_t j = m.crow_indices[r]; j < m.crow_indices[r + 1]; ++j)
          sum += m.values[j] * image[3 * static_cast<int64_t>(m.col_indices[j])];
        sum = m.factor * sum + m.diagonal * image[3 * r];
        sums[n] += sum < T(0) ? -sum : sum;
        if (signs) signs[r * kSmoothSigns + 4 * n + i] = static_cast<int8_t>((sum > T(0)) - (sum < T(0)));
      }
}

template <class T>
void gradient_of_rows(const SmoothMatrix<T>& m, const int8_t* signs, const SmoothRange& range, T scale, T* grad_x) {
  for (int64_t n = 0; n < range.images; ++n)
    for (int64_t r = range.begin; r < range.end; ++r)
      for (int i = 0; i < 3; ++i) {
        const int8_t* image = signs + 4 * n + i;
        T sum = T(0);
        for (int32_t j = m.crow_indices[r]; j < m.crow_indices[r + 1]; ++j)
          sum += m.values[j] * image[static_cast<int64_t>(m.col_indices[j]) * kSmoothSigns];
        sum = m.factor * sum + m.diagonal * image[r * kSmoothSigns];
        grad_x[(n * m.num_vertices + r) * 3 + i] = scale * sum;
      }
}
#endif

}  // namespace

namespace FACECORE_SIMD_NAMESPACE {
void smooth_sums(const SmoothMatrix<float>& matrix, const float* x, const SmoothRange& range, int8_t* signs,
                 double* sums) {
  sums_of_group(matrix, x, range, signs, sums);
}
void smooth_sums(const SmoothMatrix<double>& matrix, const double* x, const SmoothRange& range, int8_t* signs,
                 double* sums) {
  sums_of_group(matrix, x, range, signs, sums);
}
void smooth_gradient(const SmoothMatrix<float>& matrix, const int8_t* signs, const SmoothRange& range, float scale,
                     float* grad_x) {
  gradient_of_rows(matrix, signs, range, scale, grad_x);
}
void smooth_gradient(const SmoothMatrix<double>& matrix, const int8_t* signs, const SmoothRange& range, double scale,
                     double* grad_x) {
  gradient_of_rows(matrix, signs, range, scale, grad_x);
}
}  // namespace FACECORE_SIMD_NAMESPACE

}  // namespace facecore
