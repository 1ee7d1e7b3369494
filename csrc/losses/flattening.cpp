// Traversal of the flattening loss (CPU), and its Python binding.
#include "losses/flattening.h"

#include <string>
#include <vector>

#include "core/binding.h"

namespace facecore {
namespace {

constexpr int64_t kSerialNumbers = 1 << 14;  // values below which starting threads costs more than it saves
constexpr int64_t kBlock = 512;              // vertices of a task, in all images: they share the weights

template <class T> double weight_sum(const Flattening<T>& loss) {
  return FACECORE_SIMD(SpreadWeightsKernel<T>*, spread_weights)(loss.region, loss.num_vertices, 1, nullptr);
}

template <class T> struct Blocks {
  const Flattening<T>& loss;
  int64_t channels = loss.num_channels;
  int64_t count = channels == 0 ? 0 : (loss.num_vertices + kBlock - 1) / kBlock;
  bool parallel = loss.num_images * loss.num_vertices * channels > kSerialNumbers;

  // The weight of each value of a block, not negative.
  std::vector<T> weights(int64_t block) const {
    const int64_t begin = block * kBlock, size = std::min(kBlock, loss.num_vertices - begin);
    std::vector<T> result(size * channels);
    FACECORE_SIMD(SpreadWeightsKernel<T>*, spread_weights)(loss.region + begin, size, channels, result.data());
    return result;
  }
  int64_t offset(int64_t image, int64_t block) const { return (image * loss.num_vertices + block * kBlock) * channels; }
  WeightedRow<T> row(int64_t image, int64_t block, const std::vector<T>& weights, const T* pivots) const {
    return {static_cast<int64_t>(weights.size()), channels, loss.albedo + offset(image, block), weights.data(), pivots};
  }
};

// The albedo [N, C] of the first vertex that counts, 0 if none does.
template <class T> std::vector<T> first_albedo(const Flattening<T>& loss) {
  std::vector<T> result(loss.num_images * loss.num_channels);
  int64_t v = 0;
  while (v < loss.num_vertices && !(loss.region[v] > 0)) ++v;
  if (v < loss.num_vertices)
    for (int64_t i = 0; i < loss.num_images; ++i)
      for (int64_t c = 0; c < loss.num_channels; ++c)
        result[i * loss.num_channels + c] = loss.albedo[(i * loss.num_vertices + v) * loss.num_channels + c];
  return result;
}

}  // namespace

// Each pivot is an albedo of its image (first_albedo): with b = a - pivot the loss is sum w (b - m)^2 / D, m the mean
// of b less what the pivot itself adds to it where D exceeds the sum of weights.
template <class T> void flattening(const Flattening<T>& loss, T* value, T* centers) {
  const int64_t n = loss.num_images, channels = loss.num_channels;
  const Blocks<T> blocks{loss};
  const std::vector<T> pivots = first_albedo(loss);
  std::vector<double> sums(blocks.count * n * channels * 2);  // of w b and w b^2
  const auto kernel = FACECORE_SIMD(WeightedMomentsKernel<T>*, weighted_moments);
#pragma omp parallel for schedule(static) if (blocks.parallel)
  for (int64_t b = 0; b < blocks.count; ++b) {
    const std::vector<T> weights = blocks.weights(b);
    std::vector<double> scratch(3 * channels * kWeightedLanes);
    for (int64_t i = 0; i < n; ++i)
      kernel(blocks.row(i, b, weights, pivots.data() + i * channels), scratch.data(),
             sums.data() + (b * n + i) * channels * 2);
  }
  const double weight = weight_sum(loss), divisor = std::max(weight, 1.0);
  double total = 0;
  for (int64_t i = 0; i < n * channels; ++i) {
    double first = 0, second = 0;
    for (int64_t b = 0; b < blocks.count; ++b) {
      first += sums[(b * n * channels + i) * 2];
      second += sums[(b * n * channels + i) * 2 + 1];
    }
    const double mean = (first - pivots[i] * (divisor - weight)) / divisor;
    const double rest = first - mean * weight;  // 0 but for sums of weights below 1
    total += std::max((second - mean * (first + rest)) / divisor, 0.0);
    centers[i] = static_cast<T>(pivots[i] + mean + rest / divisor);
  }
  *value = static_cast<T>(n ? total / n : 0.0);
}

template <class T>
void flattening_backward(const Flattening<T>& loss, const T* grad_out, const T* centers, T* grad_albedo) {
  const int64_t n = loss.num_images, channels = loss.num_channels;
  const T scale = static_cast<T>(2.0 * *grad_out / (std::max(weight_sum(loss), 1.0) * std::max<int64_t>(n, 1)));
  const Blocks<T> blocks{loss};
  const auto kernel = FACECORE_SIMD(WeightedGradientKernel<T>*, weighted_gradient);
#pragma omp parallel for schedule(static) if (blocks.parallel)
  for (int64_t b = 0; b < blocks.count; ++b) {
    const std::vector<T> weights = blocks.weights(b);
    std::vector<T> scratch(channels * kWeightedLanes);
    for (int64_t i = 0; i < n; ++i)
      kernel(blocks.row(i, b, weights, nullptr), centers + i * channels, scale, scratch.data(),
             grad_albedo + blocks.offset(i, b));
  }
}

namespace {

template <class T> void bind(pybind11::module_& m, const std::string& dtype) {
  using Release = pybind11::call_guard<pybind11::gil_scoped_release>;
  m.def(("flattening_" + dtype).c_str(),
        [](Device, int64_t n, int64_t v, int64_t c, Address albedo, Address region, Address value, Address centers) {
          flattening<T>({n, v, c, albedo, region}, value, centers);
        },
        Release());
  m.def(("flattening_backward_" + dtype).c_str(),
        [](Device, int64_t n, int64_t v, int64_t c, Address grad_out, Address albedo, Address region, Address centers,
           Address grad_albedo) { flattening_backward<T>({n, v, c, albedo, region}, grad_out, centers, grad_albedo); },
        Release());
}

}  // namespace

void bind_flattening(pybind11::module_& m) {
  bind<float>(m, "float32");
  bind<double>(m, "float64");
}

}  // namespace facecore
