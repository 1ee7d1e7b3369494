// Traversal of the shape loss over blocks of elements (CPU), and its Python binding.
#include "losses/shape.h"

#include <string>
#include <vector>

#include "core/binding.h"

namespace facecore {
namespace {

constexpr int64_t kBlock = 4096;      // elements of a task, whose sum in the tensors' dtype goes to a double
constexpr int64_t kSerialBlocks = 8;  // below, starting threads costs more than it saves

template <class T> struct Blocks {
  const ShapeLoss<T>& loss;
  int64_t of_image = (loss.num_elements + kBlock - 1) / kBlock;

  int64_t count() const { return loss.num_images * of_image; }
  int64_t first(int64_t i) const { return i / of_image * loss.num_elements + i % of_image * kBlock; }
  Differences<T> differences(int64_t i) const {
    const int64_t begin = i % of_image * kBlock;
    return {std::min(kBlock, loss.num_elements - begin), loss.a + first(i), loss.b + first(i),
            loss.weight ? loss.weight + begin : nullptr, loss.squared};
  }
};

template <class T> using SumKernel = double(const Differences<T>&);
template <class T> using GradientKernel = void(const Differences<T>&, T, T*, T*);

}  // namespace

template <class T> void shape_loss(const ShapeLoss<T>& loss, T* value) {
  const Blocks<T> blocks{loss};
  std::vector<double> sums(blocks.count());
  const auto kernel = FACECORE_SIMD(SumKernel<T>*, difference_sum);
#pragma omp parallel for schedule(static) if (blocks.count() > kSerialBlocks)
  for (int64_t i = 0; i < blocks.count(); ++i) sums[i] = kernel(blocks.differences(i));
  double total = 0;
  for (double sum : sums) total += sum;
  *value = static_cast<T>(loss.scale * total);
}

template <class T> void shape_loss_backward(const ShapeLoss<T>& loss, const T* grad_out, T* grad_a, T* grad_b) {
  const Blocks<T> blocks{loss};
  const T scale = static_cast<T>(loss.scale * *grad_out);
  const auto kernel = FACECORE_SIMD(GradientKernel<T>*, difference_gradient);
#pragma omp parallel for schedule(static) if (blocks.count() > kSerialBlocks)
  for (int64_t i = 0; i < blocks.count(); ++i) {
    const int64_t first = blocks.first(i);
    kernel(blocks.differences(i), scale, grad_a ? grad_a + first : nullptr, grad_b ? grad_b + first : nullptr);
  }
}

namespace {

template <class T> void bind(pybind11::module_& m, const std::string& dtype) {
  using Release = pybind11::call_guard<pybind11::gil_scoped_release>;
  m.def(("shape_loss_" + dtype).c_str(),
        [](Device, int64_t n, int64_t elements, bool squared, double scale, Address a, Address b, Address weight,
           Address value) { shape_loss<T>({n, elements, a, b, weight, squared, scale}, value); },
        Release());
  m.def(("shape_loss_backward_" + dtype).c_str(),
        [](Device, int64_t n, int64_t elements, bool squared, double scale, Address grad_out, Address a, Address b,
           Address weight, Address grad_a, Address grad_b) {
          shape_loss_backward<T>({n, elements, a, b, weight, squared, scale}, grad_out, grad_a, grad_b);
        },
        Release());
}

}  // namespace

void bind_shape(pybind11::module_& m) {
  bind<float>(m, "float32");
  bind<double>(m, "float64");
}

}  // namespace facecore
