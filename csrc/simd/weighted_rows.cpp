// The loops of weighted_rows.h, vectorised. Lane l of vector k belongs to channel (k lanes + l) mod C, so that C
// vectors in turn meet the same channels again.
#include "simd/weighted_rows.h"

#if defined(__GNUC__)
#include "simd/lanes.h"
#else
#include "simd/vector.h"
#endif

namespace facecore {
namespace {

#if defined(__AVX512F__)  // GCC by itself converts the two halves and joins them
FACECORE_INLINE DoubleLanes load_doubles(const float* p) {
  return reinterpret_cast<DoubleLanes>(_mm512_cvtps_pd(_mm256_loadu_ps(p)));
}
#elif defined(__GNUC__)
FACECORE_INLINE DoubleLanes load_doubles(const float* p) {
  return __builtin_convertvector(HalfFloats::load(p), DoubleLanes);
}
#else
typedef Vector<double, kVectorBytes>::type DoubleLanes;
FACECORE_INLINE DoubleLanes load_doubles(const float* p) { return *p; }
#endif
using WholeDoubles = Vector<double, kVectorBytes>;
FACECORE_INLINE DoubleLanes load_doubles(const double* p) { return WholeDoubles::load(p); }

template <class T>
FACECORE_INLINE double spread(const T* region, int64_t count, int64_t channels, T* weights) {
  using Full = Vector<T, kVectorBytes>;
  const typename Full::type none{};
  DoubleLanes sums{};
  double sum = 0;
  int64_t v = 0;
  for (; v + Full::lanes <= count; v += Full::lanes) {  // blends: a branch on a mask is foreseen half of the time
    T lanes[Full::lanes];
    const typename Full::type weight = Full::load(region + v);
    Full::store(weights ? weights + v : lanes, weight > 0 ? weight : none);  // 0 for a NaN, too
    for (int l = 0; l < Full::lanes; l += WholeDoubles::lanes)
      sums += load_doubles((weights ? weights + v : lanes) + l);
  }
  for (; v < count; ++v) {
    const T weight = region[v] > 0 ? region[v] : T(0);
    if (weights) weights[v] = weight;
    sum += weight;
  }
  if (weights && channels == 3) {  // colours: a loop of known length
    for (v = count - 1; v >= 0; --v) weights[3 * v] = weights[3 * v + 1] = weights[3 * v + 2] = weights[v];
  } else if (weights && channels != 1) {
    for (v = count - 1; v >= 0; --v)
      for (int64_t c = channels - 1; c >= 0; --c) weights[v * channels + c] = weights[v];
  }
  return sum + sum_of_lanes<double, WholeDoubles>(sums);
}

template <class T>
FACECORE_INLINE DoubleLanes value_that_counts(const WeightedRow<T>& row, int64_t e, DoubleLanes pivot) {
  const DoubleLanes none{};
  return load_doubles(row.weights + e) > 0 ? load_doubles(row.values + e) - pivot : none;  // NaN outside is dropped
}

// Whole periods of colours with sums that stay in registers; returns where they end.
template <class T>
FACECORE_INLINE int64_t moments_of_colors(const WeightedRow<T>& row, const double* pivots, double* first_sums,
                                          double* second_sums) {
  constexpr int64_t lanes = WholeDoubles::lanes;
  DoubleLanes first[3] = {}, second[3] = {}, pivot[3];
  for (int64_t k = 0; k < 3; ++k) pivot[k] = WholeDoubles::load(pivots + k * lanes);
  int64_t e = 0;
  for (; e + 3 * lanes <= row.count; e += 3 * lanes) {
    FACECORE_UNROLL
    for (int64_t k = 0; k < 3; ++k) {
      const DoubleLanes value = value_that_counts(row, e + k * lanes, pivot[k]);
      const DoubleLanes weighted = load_doubles(row.weights + e + k * lanes) * value;
      first[k] += weighted;
      second[k] += weighted * value;
    }
  }
  for (int64_t k = 0; k < 3; ++k) {
    WholeDoubles::store(first_sums + k * lanes, first[k]);
    WholeDoubles::store(second_sums + k * lanes, second[k]);
  }
  return e;
}

template <class T> FACECORE_INLINE void moments_of(const WeightedRow<T>& row, double* scratch, double* sums) {
  constexpr int64_t lanes = WholeDoubles::lanes;
  const int64_t channels = row.channels, period = channels * lanes;
  double *first = scratch, *second = first + period, *pivots = second + period;
  for (int64_t i = 0; i < 2 * period; ++i) scratch[i] = 0;
  for (int64_t i = 0; i < period; ++i) pivots[i] = row.pivots[i % channels];
  int64_t e = channels == 3 ? moments_of_colors(row, pivots, first, second) : 0, place = 0;
  for (; e + lanes <= row.count; e += lanes) {
    const DoubleLanes value = value_that_counts(row, e, WholeDoubles::load(pivots + place));
    const DoubleLanes weighted = load_doubles(row.weights + e) * value;
    WholeDoubles::store(first + place, WholeDoubles::load(first + place) + weighted);
    WholeDoubles::store(second + place, WholeDoubles::load(second + place) + weighted * value);
    place = place + lanes == period ? 0 : place + lanes;
  }
  for (int64_t l = 0; l < lanes; ++l)  // a period is `lanes` times the channels in order
    for (int64_t c = 0; c < channels; ++c) {
      sums[2 * c] += first[l * channels + c];
      sums[2 * c + 1] += second[l * channels + c];
    }
  for (; e < row.count; ++e) {
    const double weight = row.weights[e], value = weight > 0 ? row.values[e] - pivots[e % channels] : 0;
    sums[2 * (e % channels)] += weight * value;
    sums[2 * (e % channels) + 1] += weight * value * value;
  }
}

template <class T>
FACECORE_INLINE void gradient_of(const WeightedRow<T>& row, const T* centers, T scale, T* scratch, T* grad) {
  using Full = Vector<T, kVectorBytes>;
  constexpr int64_t lanes = Full::lanes;
  const int64_t period = row.channels * lanes;
  for (int64_t l = 0; l < lanes; ++l)
    for (int64_t c = 0; c < row.channels; ++c) scratch[l * row.channels + c] = centers[c];
  int64_t e = 0, place = 0;
  for (; e + lanes <= row.count; e += lanes) {
    const typename Full::type weight = Full::load(row.weights + e), none{};
    const typename Full::type away = Full::load(row.values + e) - Full::load(scratch + place);
    Full::store(grad + e, weight > 0 ? scale * weight * away : none);
    place = place + lanes == period ? 0 : place + lanes;
  }
  for (; e < row.count; ++e)
    grad[e] = row.weights[e] > 0 ? scale * row.weights[e] * (row.values[e] - centers[e % row.channels]) : T(0);
}

}  // namespace

namespace FACECORE_SIMD_NAMESPACE {
double spread_weights(const float* region, int64_t count, int64_t channels, float* weights) {
  return spread(region, count, channels, weights);
}
double spread_weights(const double* region, int64_t count, int64_t channels, double* weights) {
  return spread(region, count, channels, weights);
}
void weighted_moments(const WeightedRow<float>& row, double* scratch, double* sums) { moments_of(row, scratch, sums); }
void weighted_moments(const WeightedRow<double>& row, double* scratch, double* sums) { moments_of(row, scratch, sums); }
void weighted_gradient(const WeightedRow<float>& row, const float* centers, float scale, float* scratch, float* grad) {
  gradient_of(row, centers, scale, scratch, grad);
}
void weighted_gradient(const WeightedRow<double>& row, const double* centers, double scale, double* scratch,
                       double* grad) {
  gradient_of(row, centers, scale, scratch, grad);
}
}  // namespace FACECORE_SIMD_NAMESPACE

}  // namespace facecore
