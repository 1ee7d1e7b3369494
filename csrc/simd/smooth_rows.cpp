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

// The signs of `images` points; 0 for the images that a group lacks.
template <class T, int images>
FACECORE_INLINE uint32_t signs_of(const typename Point<T>::type (&points)[images]) {
  typedef int32_t Ints __attribute__((vector_size(16)));
  Ints sign[kSmoothImages] = {};
  FACECORE_UNROLL
  for (int n = 0; n < images; ++n)  // a comparison is 0 or -1
    sign[n] = __builtin_convertvector((points[n] < T(0)) - (points[n] > T(0)), Ints);
#if defined(__SSE2__)
  const auto words = [&](int n) {
    const __m128i both = _mm_packs_epi32(reinterpret_cast<__m128i>(sign[n]), reinterpret_cast<__m128i>(sign[n + 1]));
    return _mm_madd_epi16(_mm_and_si128(both, _mm_set1_epi16(3)), _mm_set1_epi32(1 | 4 << 16));  // pairs: four bits
  };
  const __m128i quads = _mm_madd_epi16(_mm_packs_epi32(words(0), words(2)), _mm_set1_epi32(1 | 16 << 16));
  const __m128i bytes = _mm_packus_epi16(_mm_packs_epi32(quads, quads), quads);
  return static_cast<uint32_t>(_mm_cvtsi128_si32(bytes));
#else
  uint32_t word = 0;
  for (int l = 0; l < kSmoothSigns; ++l) word |= (static_cast<uint32_t>(sign[l / 4][l % 4]) & 3u) << 2 * l;
  return word;
#endif
}

template <class T, int images>
FACECORE_INLINE void sums_of_rows(const SmoothMatrix<T>& matrix, const T* x, const SmoothRange& range, uint32_t* signs,
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
    if (signs) signs[r] = signs_of<T, images>(sum);
  }
  for (int n = 0; n < images; ++n)
    for (int i = 0; i < 3; ++i) sums[n] += total[n][i];
}

template <class T>
FACECORE_INLINE void sums_of_group(const SmoothMatrix<T>& matrix, const T* x, const SmoothRange& range, uint32_t* signs,
                                   double* sums) {
  if (range.images == 4) return sums_of_rows<T, 4>(matrix, x, range, signs, sums);
  if (range.images == 3) return sums_of_rows<T, 3>(matrix, x, range, signs, sums);
  if (range.images == 2) return sums_of_rows<T, 2>(matrix, x, range, signs, sums);
  return sums_of_rows<T, 1>(matrix, x, range, signs, sums);
}

template <class T> using Full = Vector<T, kVectorBytes>;
template <class T> constexpr int kParts = kSmoothSigns / Full<T>::lanes;

// As many signs as a vector has lanes, as numbers: those of a part of a vertex's word.
template <class T> FACECORE_INLINE typename Full<T>::type numbers_of(uint32_t word, int part) {
  constexpr int lanes = Full<T>::lanes;
  typedef typename Vector<uint32_t, 4 * lanes>::type Words;
  typedef typename Vector<int32_t, 4 * lanes>::type Signs;
  Words shift;
  FACECORE_UNROLL
  for (int l = 0; l < lanes; ++l) shift[l] = 30 - 2 * (part * lanes + l);
  const Signs signs = reinterpret_cast<Signs>((Words{} + word) << shift) >> 30;
  return __builtin_convertvector(signs, typename Full<T>::type);
}
#if defined(__SSE2__) && !defined(__AVX2__)  // has no shift of each lane by its own number
struct SignTable {
  int32_t of_byte[256][4] = {};
  constexpr SignTable() {
    for (int m = 0; m < 256; ++m)
      for (int l = 0; l < 4; ++l) of_byte[m][l] = (m >> 2 * l & 1) - (m >> 2 * l & 2);
  }
};
constexpr SignTable kSigns;
template <> FACECORE_INLINE typename Full<float>::type numbers_of<float>(uint32_t word, int part) {
  return __builtin_convertvector(Ints::load(kSigns.of_byte[word >> 8 * part & 255]), FloatLanes);
}
#endif

// sum[part] += value * the signs of a vertex.
template <class T> FACECORE_INLINE void add_signs(uint32_t word, T value, typename Full<T>::type* sum) {
  FACECORE_UNROLL
  for (int i = 0; i < kParts<T>; ++i) sum[i] += value * numbers_of<T>(word, i);
}

template <class T>
FACECORE_INLINE void gradient_of_rows(const SmoothMatrix<T>& matrix, const uint32_t* signs, const SmoothRange& range,
                                      T scale, T* grad_x) {
  using V = Full<T>;
  const SmoothMatrix<T> m = matrix;
  const int64_t stride = 3 * m.num_vertices;
  const T diagonal = m.diagonal * scale, factor = m.factor * scale;
  for (int64_t r = range.begin; r < range.end; ++r) {
    typename V::type sum[kParts<T>] = {};
    for (int32_t j = m.crow_indices[r], end = m.crow_indices[r + 1]; j < end; ++j)
      add_signs(signs[m.col_indices[j]], m.values[j], sum);
    for (int i = 0; i < kParts<T>; ++i) sum[i] *= factor;
    if (diagonal != T(0)) add_signs(signs[r], diagonal, sum);
    T numbers[kSmoothSigns];
    for (int i = 0; i < kParts<T>; ++i) V::store(numbers + i * V::lanes, sum[i]);
    for (int64_t n = 0; n < range.images; ++n) {
      // whole vectors spill into the next vertex, which is written after this one, but not over the end of the range
      store_point<T>(grad_x + n * stride + 3 * r, Point<T>::load(numbers + 4 * n), r + 1 < range.end);
    }
  }
}

#else  // any C++17 compiler: one number at a time
template <class T>
void sums_of_group(const SmoothMatrix<T>& m, const T* x, const SmoothRange& range, uint32_t* signs, double* sums) {
  for (int64_t r = range.begin; signs && r < range.end; ++r) signs[r] = 0;
  for (int64_t n = 0; n < range.images; ++n)
    for (int64_t r = range.begin; r < range.end; ++r)
      for (int i = 0; i < 3; ++i) {
        const T* image = x + n * 3 * m.num_vertices + i;
        T sum = T(0);
        for (int32_t j = m.crow_indices[r]; j < m.crow_indices[r + 1]; ++j)
          sum += m.values[j] * image[3 * static_cast<int64_t>(m.col_indices[j])];
        sum = m.factor * sum + m.diagonal * image[3 * r];
        sums[n] += sum < T(0) ? -sum : sum;
        if (signs) signs[r] |= (sum > T(0) ? 1u : sum < T(0) ? 3u : 0u) << 2 * (4 * n + i);
      }
}

template <class T>
void gradient_of_rows(const SmoothMatrix<T>& m, const uint32_t* signs, const SmoothRange& range, T scale, T* grad_x) {
  for (int64_t n = 0; n < range.images; ++n)
    for (int64_t r = range.begin; r < range.end; ++r)
      for (int i = 0; i < 3; ++i) {
        const auto sign = [&](int64_t v) {
          const uint32_t bits = signs[v] >> 2 * (4 * n + i);
          return T(bits & 1) - T(bits & 2);
        };
        T sum = T(0);
        for (int32_t j = m.crow_indices[r]; j < m.crow_indices[r + 1]; ++j) sum += m.values[j] * sign(m.col_indices[j]);
        sum = m.factor * sum + m.diagonal * sign(r);
        grad_x[(n * m.num_vertices + r) * 3 + i] = scale * sum;
      }
}
#endif

}  // namespace

namespace FACECORE_SIMD_NAMESPACE {
void smooth_sums(const SmoothMatrix<float>& matrix, const float* x, const SmoothRange& range, uint32_t* signs,
                 double* sums) {
  sums_of_group(matrix, x, range, signs, sums);
}
void smooth_sums(const SmoothMatrix<double>& matrix, const double* x, const SmoothRange& range, uint32_t* signs,
                 double* sums) {
  sums_of_group(matrix, x, range, signs, sums);
}
void smooth_gradient(const SmoothMatrix<float>& matrix, const uint32_t* signs, const SmoothRange& range, float scale,
                     float* grad_x) {
  gradient_of_rows(matrix, signs, range, scale, grad_x);
}
void smooth_gradient(const SmoothMatrix<double>& matrix, const uint32_t* signs, const SmoothRange& range, double scale,
                     double* grad_x) {
  gradient_of_rows(matrix, signs, range, scale, grad_x);
}
}  // namespace FACECORE_SIMD_NAMESPACE

}  // namespace facecore
