// Traversal of the flattening loss (CPU), and its Python binding.
#include "losses/flattening.h"

#include <string>
#include <vector>

#include "core/binding.h"

namespace facecore {
namespace {

constexpr int64_t kSerialNumbers = 1 << 14;  // values below which starting threads costs more than it saves
constexpr int64_t kBlock = 1024;             // vertices of a task

template <class T> double weight_sum(const Flattening<T>& loss) {
  double sum = 0;
  for (int64_t v = 0; v < loss.num_vertices; ++v)
    if (loss.region[v] > T(0)) sum += loss.region[v];
  return sum;
}

// Adds w a and w a^2 of a block to sums [C, 2], in doubles: the variance is their difference.
template <class T>
void block_sums(const Flattening<T>& loss, const T* albedo, int64_t begin, int64_t end, double* sums) {
  const int64_t channels = loss.num_channels;
  for (int64_t v = begin; v < end; ++v) {
    const double w = loss.region[v];
    if (!(w > 0)) continue;
    for (int64_t c = 0; c < channels; ++c) {
      const double a = albedo[v * channels + c];
      sums[2 * c] += w * a;
      sums[2 * c + 1] += w * a * a;
    }
  }
}

}  // namespace

template <class T> void flattening(const Flattening<T>& loss, T* value, T* centers) {
  const int64_t n = loss.num_images, channels = loss.num_channels;
  const int64_t blocks = (loss.num_vertices + kBlock - 1) / kBlock;
  std::vector<double> sums(n * blocks * channels * 2);
#pragma omp parallel for schedule(static) if (n * loss.num_vertices * channels > kSerialNumbers)
  for (int64_t i = 0; i < n * blocks; ++i) {
    const int64_t begin = i % blocks * kBlock;
    block_sums(loss, loss.albedo + i / blocks * loss.num_vertices * channels, begin,
               std::min(begin + kBlock, loss.num_vertices), sums.data() + i * channels * 2);
  }
  const double weight = weight_sum(loss), divisor = std::max(weight, 1.0);
  double total = 0;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t c = 0; c < channels; ++c) {
      double first = 0, second = 0;
      for (int64_t b = 0; b < blocks; ++b) {
        first += sums[((i * blocks + b) * channels + c) * 2];
        second += sums[((i * blocks + b) * channels + c) * 2 + 1];
      }
      const double mean = first / divisor, rest = first - mean * weight;  // 0 but for sums of weights below 1
      total += std::max((second - mean * (first + rest)) / divisor, 0.0);
      centers[i * channels + c] = static_cast<T>(mean + rest / divisor);
    }
  *value = static_cast<T>(n ? total / n : 0.0);
}

template <class T>
void flattening_backward(const Flattening<T>& loss, const T* grad_out, const T* centers, T* grad_albedo) {
  const int64_t n = loss.num_images, channels = loss.num_channels;
  const int64_t blocks = (loss.num_vertices + kBlock - 1) / kBlock;
  const T scale = static_cast<T>(2.0 * *grad_out / (std::max(weight_sum(loss), 1.0) * std::max<int64_t>(n, 1)));
#pragma omp parallel for schedule(static) if (n * loss.num_vertices * channels > kSerialNumbers)
  for (int64_t i = 0; i < n * blocks; ++i) {
    const int64_t image = i / blocks, begin = i % blocks * kBlock, end = std::min(begin + kBlock, loss.num_vertices);
    const T* albedo = loss.albedo + image * loss.num_vertices * channels;
    T* grad = grad_albedo + image * loss.num_vertices * channels;
    for (int64_t v = begin; v < end; ++v) {
      const T w = loss.region[v] > T(0) ? scale * loss.region[v] : T(0);
      for (int64_t c = 0; c < channels; ++c)
        grad[v * channels + c] = w != T(0) ? w * (albedo[v * channels + c] - centers[image * channels + c]) : T(0);
    }
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
