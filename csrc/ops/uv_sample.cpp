// CPU build and Python binding of uv_sample.
#include "ops/uv_sample.h"

#include <string>

#include "core/binding.h"

namespace facecore {
namespace {

// One thread per image, or per channel of an image where there are more threads than images. A texel's sum is over
// ascending points both ways, so the number of threads changes no bit.
template <class T>
void texture_gradient(const Device& device, int64_t num_images, bool by_channel,
                      const UvSampleTextureGradient<T>& body) {
  if (!device.is_cpu() || !by_channel) {
    launch(device, num_images, body.points.num_points, body, Sharing::kPerImage);
    return;
  }
  const auto channel = [&](int64_t image, int64_t c) {
    for (int64_t point = 0; point < body.points.num_points; ++point) body.add(image, point, c, c + 1);
  };
  launch_cpu(num_images, body.num_channels, channel, 1);
}

template <class T> void bind(pybind11::module_& m, const std::string& dtype) {
  using Release = pybind11::call_guard<pybind11::gil_scoped_release>;
  m.def(("uv_sample_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t p, int64_t c, int64_t height, int64_t width, int64_t shared,
           Address texture, Address uv,
           Address out) { launch(device, n, p, UvSample<T>{{p, height, width, shared != 0, uv}, c, texture, out}); },
        Release());
  m.def(("uv_sample_backward_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t p, int64_t c, int64_t height, int64_t width, int64_t shared,
           int64_t by_channel, Address grad_out, Address texture, Address uv, Address grad_texture, Address grad_uv) {
          const UvPoints<T> points{p, height, width, shared != 0, uv};
          if (grad_uv.value)
            launch(device, shared ? 1 : n, p, UvSamplePointGradient<T>{points, n, c, grad_out, texture, grad_uv});
          if (grad_texture.value)
            texture_gradient(device, n, by_channel != 0, UvSampleTextureGradient<T>{points, c, grad_out, grad_texture});
        },
        Release());
}

}  // namespace

void bind_uv_sample(pybind11::module_& m) {
  bind<float>(m, "float32");
  bind<double>(m, "float64");
}

}  // namespace facecore
