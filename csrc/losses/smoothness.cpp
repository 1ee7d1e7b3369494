// Traversal of the smoothness loss over groups of images and blocks of rows (CPU), and its Python binding.
#include "losses/smoothness.h"

#include <string>
#include <vector>

#include "core/binding.h"

namespace facecore {
namespace {

constexpr int64_t kRows = 256;                // of a block: some tens of microseconds; their float sums go to a double
constexpr int64_t kSerialElements = 1 << 14;  // below, starting threads costs more than it saves

struct Blocks {  // image groups times blocks of rows
  int64_t num_images, num_rows, rows = (num_rows + kRows - 1) / kRows;
  int64_t groups = (num_images + kSmoothImages - 1) / kSmoothImages;
  bool parallel = num_images * num_rows * 3 > kSerialElements;

  int64_t count() const { return groups * rows; }
  int64_t first_image(int64_t i) const { return i / rows * kSmoothImages; }
  int64_t first_sign(int64_t i) const { return i / rows * num_rows; }
  SmoothRange range(int64_t i) const {
    const int64_t begin = i % rows * kRows;
    return {std::min<int64_t>(kSmoothImages, num_images - first_image(i)), begin, std::min(begin + kRows, num_rows)};
  }
};

}  // namespace

template <class T> void smoothness(const Smoothness<T>& loss, const T* x, T* value, uint32_t* signs) {
  const Blocks blocks{loss.num_images, loss.matrix.num_vertices};
  std::vector<double> sums(blocks.count());
  const auto kernel = FACECORE_SIMD(SmoothSumsKernel<T>*, smooth_sums);
#pragma omp parallel for schedule(static) if (blocks.parallel)
  for (int64_t i = 0; i < blocks.count(); ++i) {
    double images[kSmoothImages] = {};
    kernel(loss.matrix, x + blocks.first_image(i) * loss.matrix.num_vertices * 3, blocks.range(i),
           signs ? signs + blocks.first_sign(i) : nullptr, images);
    for (double image : images) sums[i] += image;
  }
  double total = 0;
  for (double sum : sums) total += sum;
  *value = static_cast<T>(loss.scale * total);
}

template <class T>
void smoothness_backward(const Smoothness<T>& loss, const T* grad_out, const uint32_t* signs, T* grad_x) {
  const Blocks blocks{loss.num_images, loss.matrix.num_vertices};
  const T scale = static_cast<T>(loss.scale * *grad_out);
  const auto kernel = FACECORE_SIMD(SmoothGradientKernel<T>*, smooth_gradient);
#pragma omp parallel for schedule(static) if (blocks.parallel)
  for (int64_t i = 0; i < blocks.count(); ++i)
    kernel(loss.matrix, signs + blocks.first_sign(i), blocks.range(i), scale,
           grad_x + blocks.first_image(i) * loss.matrix.num_vertices * 3);
}

namespace {

template <class T> void bind(pybind11::module_& m, const std::string& dtype) {
  using Release = pybind11::call_guard<pybind11::gil_scoped_release>;
  m.def(("smoothness_" + dtype).c_str(),
        [](Device, int64_t n, int64_t v, double diagonal, double factor, double scale, Address x, Address crow,
           Address col, Address values, Address value, Address signs) {
          smoothness<T>({n, {v, crow, col, values, T(diagonal), T(factor)}, scale}, x, value, signs);
        },
        Release());
  m.def(("smoothness_backward_" + dtype).c_str(),
        [](Device, int64_t n, int64_t v, double diagonal, double factor, double scale, Address grad_out, Address signs,
           Address crow, Address col, Address values, Address grad_x) {
          smoothness_backward<T>({n, {v, crow, col, values, T(diagonal), T(factor)}, scale}, grad_out, signs, grad_x);
        },
        Release());
}

}  // namespace

void bind_smoothness(pybind11::module_& m) {
  bind<float>(m, "float32");
  bind<double>(m, "float64");
}

}  // namespace facecore
