// The loops of difference_rows.h.
#include "simd/difference_rows.h"

#include "simd/vector.h"

namespace facecore {
namespace {

template <class V> using Lane = typename V::type;
template <class T> using Full = Vector<T, kVectorBytes>;

template <class V> FACECORE_INLINE Lane<V> sign_times(Lane<V> d, Lane<V> scale) {  // 0 at the kink
  return d > 0 ? scale : d < 0 ? -scale : Lane<V>{};
}

template <class T, class V> FACECORE_INLINE Lane<V> difference(const Differences<T>& a, int64_t i) {
  const Lane<V> d = V::load(a.a + i) - V::load(a.b + i);
  return a.weight ? d * V::load(a.weight + i) : d;
}

template <class T, class V> FACECORE_INLINE double sum_from(const Differences<T>& a, int64_t& i) {
  Lane<V> total{};
  for (; i + V::lanes <= a.count; i += V::lanes) {
    const Lane<V> d = difference<T, V>(a, i);
    total += a.squared ? d * d : d < 0 ? -d : d;
  }
  return sum_of_lanes<T, V>(total);
}
template <class T> FACECORE_INLINE double sum_of(const Differences<T>& differences) {
  const Differences<T> a = differences;
  int64_t i = 0;
  const double whole = sum_from<T, Full<T>>(a, i);
  return whole + sum_from<T, Scalar<T>>(a, i);
}

template <class T, class V>
FACECORE_INLINE void gradient_from(const Differences<T>& a, T scale, T* grad_a, T* grad_b, int64_t& i) {
  for (; i + V::lanes <= a.count; i += V::lanes) {
    const Lane<V> d = difference<T, V>(a, i), factor = Lane<V>{} + scale;
    Lane<V> grad = a.squared ? d * (factor + factor) : sign_times<V>(d, factor);
    if (a.weight) grad *= V::load(a.weight + i);
    if (grad_a) V::store(grad_a + i, grad);
    if (grad_b) V::store(grad_b + i, -grad);
  }
}
template <class T>
FACECORE_INLINE void gradient_of(const Differences<T>& differences, T scale, T* grad_a, T* grad_b) {
  const Differences<T> a = differences;
  int64_t i = 0;
  gradient_from<T, Full<T>>(a, scale, grad_a, grad_b, i);
  gradient_from<T, Scalar<T>>(a, scale, grad_a, grad_b, i);
}

constexpr int kChunk = 64;  // elements of a row whose differences wait in a buffer: the compiler reverses lanes there

// Differences [begin, begin + count) of a row, count <= kChunk; 0 where they do not count.
template <class T>
FACECORE_INLINE void mirrored(const MirrorRow<T>& a, int64_t begin, int64_t count, T* difference) {
  const T* left = a.row + begin;
  const T* right = a.row + a.width - 1 - begin;
  for (int64_t i = 0; i < count; ++i) difference[i] = left[i] - right[-i];
  if (a.valid == nullptr) return;
  const uint8_t* left_valid = a.valid + begin;
  const uint8_t* right_valid = a.valid + a.width - 1 - begin;
  for (int64_t i = 0; i < count; ++i) difference[i] = left_valid[i] & right_valid[-i] ? difference[i] : T(0);
}

template <class T> FACECORE_INLINE double mirror_sum_of(const MirrorRow<T>& row) {
  const MirrorRow<T> a = row;
  T zeros[kChunk] = {}, buffer[kChunk];
  double sum = 0;
  for (int64_t begin = 0, half = a.width / 2; begin < half; begin += kChunk) {
    const int64_t count = half - begin < kChunk ? half - begin : kChunk;
    mirrored(a, begin, count, buffer);
    sum += sum_of(Differences<T>{count, buffer, zeros, nullptr, false});
  }
  return sum;
}

template <class T> FACECORE_INLINE void mirror_gradient_of(const MirrorRow<T>& row, T scale, T* grad) {
  const MirrorRow<T> a = row;
  T buffer[kChunk];
  const int64_t half = a.width / 2;
  if (a.width % 2) grad[half] = T(0);
  for (int64_t begin = 0; begin < half; begin += kChunk) {
    const int64_t count = half - begin < kChunk ? half - begin : kChunk;
    mirrored(a, begin, count, buffer);
    T* left = grad + begin;
    T* right = grad + a.width - 1 - begin;
    for (int64_t i = 0; i < count; ++i) {
      const T slope = buffer[i] > T(0) ? scale : buffer[i] < T(0) ? -scale : T(0);
      buffer[i] = slope;
      left[i] = slope;
    }
    for (int64_t i = 0; i < count; ++i) right[-i] = -buffer[i];
  }
}

}  // namespace

namespace FACECORE_SIMD_NAMESPACE {
double difference_sum(const Differences<float>& differences) { return sum_of(differences); }
double difference_sum(const Differences<double>& differences) { return sum_of(differences); }
void difference_gradient(const Differences<float>& differences, float scale, float* grad_a, float* grad_b) {
  gradient_of(differences, scale, grad_a, grad_b);
}
void difference_gradient(const Differences<double>& differences, double scale, double* grad_a, double* grad_b) {
  gradient_of(differences, scale, grad_a, grad_b);
}
int64_t mirror_count(int64_t width, const uint8_t* valid) {
  int64_t total = 0;
  for (int64_t begin = 0, half = width / 2; begin < half; begin += kChunk) {
    const int64_t count = half - begin < kChunk ? half - begin : kChunk;
    uint8_t few = 0;  // at most kChunk: bytes are enough
    for (int64_t i = begin; i < begin + count; ++i) few += valid[i] & valid[width - 1 - i];
    total += few;
  }
  return total;
}
double mirror_sum(const MirrorRow<float>& row) { return mirror_sum_of(row); }
double mirror_sum(const MirrorRow<double>& row) { return mirror_sum_of(row); }
void mirror_gradient(const MirrorRow<float>& row, float scale, float* grad) { mirror_gradient_of(row, scale, grad); }
void mirror_gradient(const MirrorRow<double>& row, double scale, double* grad) { mirror_gradient_of(row, scale, grad); }
}  // namespace FACECORE_SIMD_NAMESPACE

}  // namespace facecore
