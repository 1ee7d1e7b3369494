// Traversal of the landmark structure loss over images (CPU), and its Python binding.
#include "losses/landmark.h"

#include <string>
#include <vector>

#include "core/binding.h"

namespace facecore {
namespace {

constexpr int64_t kSerialImages =
    8;  // up to here starting threads costs more than it saves: an image takes microseconds

template <class T> std::vector<T> padded_pairs(const LandmarkStructure<T>& loss, int64_t size) {
  std::vector<T> pair(size * size);
  for (int64_t a = 0; a < loss.num_points; ++a)
    for (int64_t b = 0; b < loss.num_points; ++b) pair[a * size + b] = loss.pair[a * loss.num_points + b];
  return pair;
}

// The image's mean error; `gradient` + side * (N P 2) are the derivatives of the mean over images.
template <class T>
double image_error(const LandmarkStructure<T>& loss, int64_t n, const std::vector<T>& pair, int64_t size, T* gradient) {
  const int64_t points = loss.num_points, side = loss.num_images * points * 2;
  std::vector<T> rows(5 * size);
  T* const row[5] = {rows.data(), rows.data() + size, rows.data() + 2 * size, rows.data() + 3 * size,
                     rows.data() + 4 * size};
  for (int64_t p = 0; p < points; ++p) {
    const T weight = loss.weight[n * points + p];
    if (!(weight > T(0))) continue;  // an unknown point may be NaN: it stays 0 and its pairs weigh 0
    row[4][p] = weight;
    for (int i = 0; i < 2; ++i) {
      row[i][p] = loss.predicted[(n * points + p) * 2 + i];
      row[2 + i][p] = loss.target[(n * points + p) * 2 + i];
    }
  }
  const LandmarkPairs<T> pairs{size, {row[0], row[2]}, {row[1], row[3]}, row[4], pair.data()};
  const auto kernel = FACECORE_SIMD(LandmarkSums (*)(const LandmarkPairs<T>&, int64_t, double*), landmark_pairs);
  std::vector<double> grads(4 * points);
  double error = 0, weight = 0;
  for (int64_t a = 0; a < points; ++a) {
    if (row[4][a] == T(0)) continue;
    const LandmarkSums sums = kernel(pairs, a, gradient ? grads.data() + 4 * a : nullptr);
    error += sums.error / 2;  // every pair is met from both of its points
    weight += sums.weight / 2;
  }
  const double divisor = std::max(weight, 1.0);
  for (int64_t a = 0; gradient && a < points; ++a)
    for (int k = 0; k < 4; ++k)
      gradient[k / 2 * side + (n * points + a) * 2 + k % 2] =
          static_cast<T>(grads[4 * a + k] / (divisor * loss.num_images));
  return error / divisor;
}

}  // namespace

template <class T> void landmark_structure(const LandmarkStructure<T>& loss, T* value, T* gradient) {
  const int64_t size = (loss.num_points + kLandmarkPadding - 1) / kLandmarkPadding * kLandmarkPadding;
  const std::vector<T> pair = padded_pairs(loss, size);
  std::vector<double> errors(loss.num_images);
#pragma omp parallel for schedule(static) if (loss.num_images > kSerialImages)
  for (int64_t n = 0; n < loss.num_images; ++n) errors[n] = image_error(loss, n, pair, size, gradient);
  double total = 0;
  for (double error : errors) total += error;
  *value = static_cast<T>(loss.num_images ? total / loss.num_images : 0.0);
}

namespace {

template <class T> void bind(pybind11::module_& m, const std::string& dtype) {
  m.def(("landmark_structure_" + dtype).c_str(),
        [](Device, int64_t n, int64_t points, Address predicted, Address target, Address weight, Address pair,
           Address value,
           Address gradient) { landmark_structure<T>({n, points, predicted, target, weight, pair}, value, gradient); },
        pybind11::call_guard<pybind11::gil_scoped_release>());
}

}  // namespace

void bind_landmark(pybind11::module_& m) {
  bind<float>(m, "float32");
  bind<double>(m, "float64");
}

}  // namespace facecore
