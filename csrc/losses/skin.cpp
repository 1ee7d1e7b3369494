// Traversal of the skin probability over blocks of pixels (CPU), and its Python binding.
#include "losses/skin.h"

#include <string>

#include "core/binding.h"

namespace facecore {
namespace {

constexpr int64_t kBlock = 1024;      // pixels of a task
constexpr int64_t kSerialBlocks = 4;  // below, starting threads costs more than it saves

template <class T> SkinPixels<T> pixels_of(const SkinPictures<T>& a, int64_t image, int64_t begin) {
  const T* first = a.image + image * 3 * a.num_pixels + begin;
  return {std::min(kBlock, a.num_pixels - begin), a.gaussians, {first, first + a.num_pixels, first + 2 * a.num_pixels}};
}

}  // namespace

template <class T> void skin_probability(const SkinPictures<T>& a, T* probability) {
  const int64_t blocks = (a.num_pixels + kBlock - 1) / kBlock;
  const auto kernel = FACECORE_SIMD(void (*)(const SkinPixels<T>&, T*), skin_probability);
#pragma omp parallel for schedule(static) if (a.num_images * blocks > kSerialBlocks)
  for (int64_t i = 0; i < a.num_images * blocks; ++i) {
    const int64_t image = i / blocks, begin = i % blocks * kBlock;
    kernel(pixels_of(a, image, begin), probability + image * a.num_pixels + begin);
  }
}

template <class T> void skin_gradient(const SkinPictures<T>& a, const T* grad_out, T* grad_image) {
  const int64_t blocks = (a.num_pixels + kBlock - 1) / kBlock;
  const auto kernel = FACECORE_SIMD(void (*)(const SkinPixels<T>&, const T*, T* const*), skin_gradient);
#pragma omp parallel for schedule(static) if (a.num_images * blocks > kSerialBlocks)
  for (int64_t i = 0; i < a.num_images * blocks; ++i) {
    const int64_t image = i / blocks, begin = i % blocks * kBlock;
    T* first = grad_image + image * 3 * a.num_pixels + begin;
    T* const grad[3] = {first, first + a.num_pixels, first + 2 * a.num_pixels};
    kernel(pixels_of(a, image, begin), grad_out + image * a.num_pixels + begin, grad);
  }
}

namespace {

template <class T> void bind(pybind11::module_& m, const std::string& dtype) {
  using Release = pybind11::call_guard<pybind11::gil_scoped_release>;
  m.def(("skin_probability_" + dtype).c_str(),
        [](Device, int64_t n, int64_t pixels, Address gaussians, Address image, Address probability) {
          skin_probability<T>({n, pixels, gaussians, image}, probability);
        },
        Release());
  m.def(("skin_probability_backward_" + dtype).c_str(),
        [](Device, int64_t n, int64_t pixels, Address grad_out, Address gaussians, Address image, Address grad_image) {
          skin_gradient<T>({n, pixels, gaussians, image}, grad_out, grad_image);
        },
        Release());
}

}  // namespace

void bind_skin(pybind11::module_& m) {
  bind<float>(m, "float32");
  bind<double>(m, "float64");
}

}  // namespace facecore
