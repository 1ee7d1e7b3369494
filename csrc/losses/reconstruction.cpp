// Traversal of the picture losses over the rows of a batch (CPU), and their Python binding.
#include "losses/reconstruction.h"

#include <string>
#include <vector>

#include "core/binding.h"

namespace facecore {
namespace {

constexpr int64_t kSerialNumbers = 1 << 14;  // colours below which starting threads costs more than it saves
constexpr int64_t kBlock = 32;               // rows of one task; the gradient of its first row needs the one before

PictureSums total(const PictureSums* rows, int64_t count) {
  PictureSums sum{};
  for (int64_t i = 0; i < count; ++i) {
    sum.error += rows[i].error;
    sum.error_weight += rows[i].error_weight;
    sum.right += rows[i].right;
    sum.right_weight += rows[i].right_weight;
    sum.down += rows[i].down;
    sum.down_weight += rows[i].down_weight;
  }
  return sum;
}

}  // namespace

template <class T> void picture_loss(const PictureLoss<T>& loss, T* value, T* scales) {
  const int64_t n = loss.num_images, h = loss.pair.height, blocks = (h + kBlock - 1) / kBlock;
  std::vector<PictureSums> rows(n * h), images(n);
  const auto kernel = FACECORE_SIMD(PictureSumsKernel<T>*, picture_sums);
#pragma omp parallel for schedule(static) if (n * h * loss.pair.width * loss.pair.channels > kSerialNumbers)
  for (int64_t i = 0; i < n * blocks; ++i) {
    const int64_t image = i / blocks, begin = i % blocks * kBlock;
    std::vector<T> scratch(2 * picture_line_numbers(loss.pair.channels, loss.pair.width));
    kernel(loss.of_image(image), begin, std::min(begin + kBlock, h), scratch.data(), &rows[image * h + begin]);
  }

  double all_weights = 0;
  for (int64_t i = 0; i < n; ++i) {
    images[i] = total(rows.data() + i * h, h);
    all_weights += images[i].error_weight;
  }
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double divisor = loss.pooled ? std::max(all_weights, 1.0) : std::max(images[i].error_weight, 1.0) * n;
    const double steps = loss.steps_weight / (loss.pair.channels * n);
    const double scale[3] = {loss.error_weight / divisor, steps / std::max(images[i].right_weight, 1.0),
                             steps / std::max(images[i].down_weight, 1.0)};
    const double errors[3] = {images[i].error, images[i].right, images[i].down};
    for (int k = 0; k < 3; ++k) {
      if (scale[k] != 0) sum += scale[k] * errors[k];
      scales[3 * i + k] = static_cast<T>(scale[k]);
    }
  }
  *value = static_cast<T>(sum);
}

template <class T>
void picture_loss_backward(const PictureLoss<T>& loss, const T* scales, const T* grad_out, T* grad_rendered,
                           T* grad_image) {
  const PicturePair<T>& pair = loss.pair;
  const int64_t n = loss.num_images, blocks = (pair.height + kBlock - 1) / kBlock;
  const int64_t image_numbers = pair.channels * pair.height * pair.width;
  const auto kernel = FACECORE_SIMD(PictureGradientKernel<T>*, picture_gradient);
#pragma omp parallel for schedule(static) if (n * image_numbers > kSerialNumbers)
  for (int64_t i = 0; i < n * blocks; ++i) {
    const int64_t image = i / blocks, begin = i % blocks * kBlock;
    const T* scale = scales + 3 * image;
    std::vector<T> scratch(picture_scratch(pair.channels, pair.width));
    const PictureGradient<T> gradient{*grad_out * scale[0],
                                      *grad_out * scale[1],
                                      *grad_out * scale[2],
                                      grad_rendered ? grad_rendered + image * image_numbers : nullptr,
                                      grad_image ? grad_image + image * image_numbers : nullptr,
                                      scratch.data()};
    kernel(loss.of_image(image), gradient, begin, std::min(begin + kBlock, pair.height));
  }
}

namespace {

// A plane of numbers or, where it is said, of bools; 0 stands for an absent one.
struct Plane {
  Address address;
  bool bools;
  template <class T> operator PicturePlane<T>() const {
    return bools ? PicturePlane<T>{nullptr, address} : PicturePlane<T>{address, nullptr};
  }
};

template <class T>
PictureLoss<T> make_loss(int64_t n, int64_t c, int64_t h, int64_t w, int32_t norm, bool pooled, double error_weight,
                         double steps_weight, Address rendered, Address image, Plane mask, Plane attention,
                         Plane coverage) {
  const bool with_error = error_weight != 0, with_steps = steps_weight != 0;
  return {n,
          {c, h, w, rendered, image, mask, attention, coverage, norm, with_error, with_steps},
          pooled,
          error_weight,
          steps_weight};
}

template <class T> void bind(pybind11::module_& m, const std::string& dtype) {
  using Release = pybind11::call_guard<pybind11::gil_scoped_release>;
  m.def(("picture_loss_" + dtype).c_str(),
        [](Device, int64_t n, int64_t c, int64_t h, int64_t w, int32_t norm, bool pooled, double error_weight,
           double steps_weight, bool bool_mask, bool bool_attention, bool bool_coverage, Address rendered,
           Address image, Address mask, Address attention, Address coverage, Address value, Address scales) {
          const PictureLoss<T> loss =
              make_loss<T>(n, c, h, w, norm, pooled, error_weight, steps_weight, rendered, image, {mask, bool_mask},
                           {attention, bool_attention}, {coverage, bool_coverage});
          picture_loss<T>(loss, value, scales);
        },
        Release());
  m.def(("picture_loss_backward_" + dtype).c_str(),
        [](Device, int64_t n, int64_t c, int64_t h, int64_t w, int32_t norm, bool pooled, double error_weight,
           double steps_weight, bool bool_mask, bool bool_attention, bool bool_coverage, Address grad_out,
           Address rendered, Address image, Address mask, Address attention, Address coverage, Address scales,
           Address grad_rendered, Address grad_image) {
          const PictureLoss<T> loss =
              make_loss<T>(n, c, h, w, norm, pooled, error_weight, steps_weight, rendered, image, {mask, bool_mask},
                           {attention, bool_attention}, {coverage, bool_coverage});
          picture_loss_backward<T>(loss, scales, grad_out, grad_rendered, grad_image);
        },
        Release());
}

}  // namespace

void bind_reconstruction(pybind11::module_& m) {
  bind<float>(m, "float32");
  bind<double>(m, "float64");
}

}  // namespace facecore
