// CPU build and Python binding of surface_shading.
#include "ops/surface_shading.h"

#include <algorithm>
#include <string>

#include "core/binding.h"
#include "simd/surface_points.h"

namespace facecore {
namespace {

constexpr int64_t kBlock = 1024;  // points of one piece of the forward's work

template <class T> T* shifted(T* pointer, int64_t count) { return pointer ? pointer + count : nullptr; }

template <class T> void shade(const Device& device, int64_t num_images, const SurfaceShading<T>& body) {
  if (!device.is_cpu()) {
    launch(device, num_images, body.num_points, body);
    return;
  }
  const auto kernel = FACECORE_SIMD(SurfaceKernel<T>*, surface_points);
  const auto block = [&](int64_t image, int64_t index) {
    const int64_t begin = index * kBlock, i = 3 * (image * body.num_points + begin);
    kernel({std::min(kBlock, body.num_points - begin), body.normals + i, body.albedo + i,
            body.sh_coefficients + 3 * kShTerms * image, body.color + i, body.shading + i, body.unit_normals + i});
  };
  launch_cpu(num_images, (body.num_points + kBlock - 1) / kBlock, block, 1);
}

template <class T>
void shade_backward(const Device& device, int64_t num_images, const SurfaceShadingBackward<T>& body) {
  if (!device.is_cpu()) {
    launch(device, num_images, body.num_blocks, body);
    return;
  }
  const auto kernel = FACECORE_SIMD(SurfaceBackwardKernel<T>*, surface_points_backward);
  const auto block = [&](int64_t image, int64_t index) {
    const int64_t begin = index * body.block_size, i = 3 * (image * body.num_points + begin);
    kernel({std::min(body.block_size, body.num_points - begin), shifted(body.grad_color, i),
            shifted(body.grad_shading, i), shifted(body.grad_unit_normals, i), body.normals + i, body.albedo + i,
            body.sh_coefficients + 3 * kShTerms * image, body.grad_normals + i, body.grad_albedo + i,
            body.partial + 3 * kShTerms * (image * body.num_blocks + index)});
  };
  launch_cpu(num_images, body.num_blocks, block, 1);
}

template <class T> void bind(pybind11::module_& m, const std::string& dtype) {
  using Release = pybind11::call_guard<pybind11::gil_scoped_release>;
  m.def(("surface_shading_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t p, Address normals, Address albedo, Address sh_coefficients, Address color,
           Address shading, Address unit_normals) {
          shade(device, n, SurfaceShading<T>{p, normals, albedo, sh_coefficients, color, shading, unit_normals});
        },
        Release());
  m.def(("surface_shading_backward_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t p, int64_t num_blocks, int64_t block_size, Address grad_color,
           Address grad_shading, Address grad_unit_normals, Address normals, Address albedo, Address sh_coefficients,
           Address grad_normals, Address grad_albedo, Address partial) {
          shade_backward(
              device, n,
              SurfaceShadingBackward<T>{p, num_blocks, block_size, grad_color, grad_shading, grad_unit_normals, normals,
                                        albedo, sh_coefficients, grad_normals, grad_albedo, partial});
        },
        Release());
}

}  // namespace

void bind_surface_shading(pybind11::module_& m) {
  bind<float>(m, "float32");
  bind<double>(m, "float64");
}

}  // namespace facecore
