// The loop of landmark_pairs.h.
#include "simd/landmark_pairs.h"

#include "simd/vector.h"

namespace facecore {
namespace {

template <class V> using Lane = typename V::type;

template <class T> FACECORE_INLINE LandmarkSums sums_of(const LandmarkPairs<T>& pairs, int64_t a, double* gradient) {
  using V = Vector<T, kVectorBytes>;
  Lane<V> error{}, weights{}, grad[4] = {};
  const T own = pairs.weight[a];
  for (int64_t b = 0; b < pairs.size; b += V::lanes) {
    const Lane<V> weight = V::load(pairs.pair + a * pairs.size + b) * own * V::load(pairs.weight + b);
    Lane<V> dx[2], dy[2], length[2];
    FACECORE_UNROLL
    for (int k = 0; k < 2; ++k) {
      dx[k] = pairs.x[k][a] - V::load(pairs.x[k] + b);
      dy[k] = pairs.y[k][a] - V::load(pairs.y[k] + b);
      T squared[V::lanes];
      V::store(squared, dx[k] * dx[k] + dy[k] * dy[k]);
      for (int l = 0; l < V::lanes; ++l) squared[l] = root(squared[l]);  // the compiler makes vectors of this loop
      length[k] = V::load(squared);
    }
    const Lane<V> difference = length[0] - length[1];
    error += weight * (difference < 0 ? -difference : difference);
    weights += weight;
    if (gradient == nullptr) continue;
    FACECORE_UNROLL
    for (int k = 0; k < 2; ++k) {
      const Lane<V> side = k == 0 ? difference : -difference;
      const Lane<V> slope = side > 0 ? weight : side < 0 ? -weight : Lane<V>{};
      const Lane<V> scale = length[k] > 0 ? slope / length[k] : Lane<V>{};  // 0 where two points coincide
      grad[2 * k] += scale * dx[k];
      grad[2 * k + 1] += scale * dy[k];
    }
  }
  if (gradient)
    for (int k = 0; k < 4; ++k) gradient[k] = sum_of_lanes<T, V>(grad[k]);
  return {sum_of_lanes<T, V>(error), sum_of_lanes<T, V>(weights)};
}

}  // namespace

namespace FACECORE_SIMD_NAMESPACE {
LandmarkSums landmark_pairs(const LandmarkPairs<float>& pairs, int64_t a, double* gradient) {
  return sums_of(pairs, a, gradient);
}
LandmarkSums landmark_pairs(const LandmarkPairs<double>& pairs, int64_t a, double* gradient) {
  return sums_of(pairs, a, gradient);
}
}  // namespace FACECORE_SIMD_NAMESPACE

}  // namespace facecore
