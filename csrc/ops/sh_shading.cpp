// CPU build and Python binding of sh_shading.
#include "ops/sh_shading.h"

#include <string>

#include "core/binding.h"
#include "simd/sh_points.h"

namespace facecore {
namespace {

constexpr int64_t kBlock = 1024;  // points of one piece of the forward's work

template <class T> void shade(const Device& device, int64_t num_images, const ShShading<T>& body) {
  if (!device.is_cpu()) {
    launch(device, num_images, body.num_points, body);
    return;
  }
  const auto kernel = FACECORE_SIMD(ShKernel<T>*, sh_points);
  const auto block = [&](int64_t image, int64_t index) {
    const int64_t begin = index * kBlock, point = 3 * (image * body.num_points + begin);
    kernel({std::min(kBlock, body.num_points - begin), body.normals + point,
            body.sh_coefficients + 3 * kShTerms * image, body.out + point});
  };
  launch_cpu(num_images, (body.num_points + kBlock - 1) / kBlock, block, 1);
}

template <class T> void shade_backward(const Device& device, int64_t num_images, const ShShadingBackward<T>& body) {
  if (!device.is_cpu()) {
    launch(device, num_images, body.num_blocks, body);
    return;
  }
  const auto kernel = FACECORE_SIMD(ShBackwardKernel<T>*, sh_points_backward);
  const auto block = [&](int64_t image, int64_t index) {
    const int64_t begin = index * body.block_size, point = 3 * (image * body.num_points + begin);
    kernel({std::min(body.block_size, body.num_points - begin), body.grad_out + point, body.normals + point,
            body.sh_coefficients + 3 * kShTerms * image, body.grad_normals + point,
            body.partial + 3 * kShTerms * (image * body.num_blocks + index)});
  };
  launch_cpu(num_images, body.num_blocks, block, 1);
}

template <class T> void bind(pybind11::module_& m, const std::string& dtype) {
  using Release = pybind11::call_guard<pybind11::gil_scoped_release>;
  m.def(("sh_shading_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t p, Address normals, Address sh_coefficients, Address out) {
          shade(device, n, ShShading<T>{p, normals, sh_coefficients, out});
        },
        Release());
  m.def(("sh_shading_backward_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t p, int64_t num_blocks, int64_t block_size, Address grad_out,
           Address normals, Address sh_coefficients, Address grad_normals, Address partial) {
          shade_backward(device, n,
                         ShShadingBackward<T>{p, num_blocks, block_size, grad_out, normals, sh_coefficients,
                                              grad_normals, partial});
        },
        Release());
}

}  // namespace

void bind_sh_shading(pybind11::module_& m) {
  m.attr("sh_constants") = pybind11::make_tuple(kShBand0, kShBand1, kShBand2, kShH6, kShH8);
  bind<float>(m, "float32");
  bind<double>(m, "float64");
}

}  // namespace facecore
