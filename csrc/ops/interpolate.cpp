// CPU build and Python binding of interpolate.
#include "ops/interpolate.h"

#include <string>
#include <vector>

#include "core/binding.h"
#include "core/owners.h"
#include "simd/pixel_values.h"

namespace facecore {
namespace {

constexpr int64_t kBlock = 2048;  // pixels of one piece of work where no sum has an order

template <class T> PixelValues<T> picture(const Interpolate<T>& a, int64_t image) {
  const int64_t p = image * a.num_pixels;
  return {
      a.num_vertices, a.num_triangles,   a.num_channels,        a.attributes + image * a.num_vertices * a.num_channels,
      a.triangles,    a.triangle_id + p, a.barycentric + 3 * p, a.out ? a.out + p * a.num_channels : nullptr};
}

template <class T> void interpolate(const Device& device, int64_t num_images, const Interpolate<T>& body) {
  if (!device.is_cpu()) {
    launch(device, num_images, body.num_pixels, body);
    return;
  }
  const auto kernel = FACECORE_SIMD(PixelKernel<T>*, pixel_values);
  const auto block = [&](int64_t image, int64_t index) {
    kernel(picture(body, image), index * kBlock, std::min(body.num_pixels, (index + 1) * kBlock));
  };
  launch_cpu(num_images, (body.num_pixels + kBlock - 1) / kBlock, block, 1);
}

template <class T> PixelGradients<T> picture(const InterpolateBackward<T>& a, int64_t image) {
  const int64_t p = image * a.forward.num_pixels, v = image * a.forward.num_vertices, c = a.forward.num_channels;
  return {picture(a.forward, image),
          a.grad_out + p * c,
          a.grad_attributes ? a.grad_attributes + v * c : nullptr,
          a.grad_barycentric ? a.grad_barycentric + 3 * p : nullptr,
          nullptr,
          0};
}

// Marks the vertices that pixels [begin, end) add to.
template <class T> void mark_vertices(const PixelValues<T>& a, int64_t begin, int64_t end, uint8_t* touched) {
  int32_t before = -1;
  for (int64_t p = begin; p < end; ++p) {
    const int32_t id = a.triangle_id[p];
    if (id == before || id < 0 || id >= a.num_triangles) continue;
    before = id;
    for (int k = 0; k < 3; ++k) {
      const int32_t vertex = a.triangles[3 * static_cast<int64_t>(id) + k];
      if (vertex >= 0 && vertex < a.num_vertices) touched[vertex] = 1;
    }
  }
}

// The gradient of one picture on several threads, which share the vertices (core/owners.h). Bands of pixels are covered
// unevenly, so there are more of them than threads.
template <class T> void gradients_in_bands(const PixelGradients<T>& all, int64_t num_pixels, int64_t threads) {
  const auto kernel = FACECORE_SIMD(PixelGradientKernel<T>*, pixel_gradients);
  const auto foreign_kernel = FACECORE_SIMD(PixelForeignKernel<T>*, pixel_gradients_foreign);
  const int64_t bands = std::min(4 * threads, Owners::kMaxBands);
  Owners owners(bands, all.forward.num_vertices);
  std::vector<int32_t> foreign(num_pixels);  // of each band where its pixels begin
  std::vector<int64_t> num_foreign(bands);
  const auto first = [&](int64_t band) { return num_pixels * band / bands; };
  const auto of_band = [&](int64_t band) {
    PixelGradients<T> mine = all;
    mine.owner = owners.owner.data();
    mine.own = static_cast<int>(band);
    return mine;
  };
#pragma omp parallel num_threads(static_cast<int>(threads))
  {
#pragma omp for schedule(dynamic)
    for (int64_t band = 0; band < bands; ++band)
      mark_vertices(all.forward, first(band), first(band + 1), owners.touched_by(band));
#pragma omp for schedule(static)
    for (int64_t part = 0; part < threads; ++part) owners.settle(part, threads);
#pragma omp for schedule(dynamic)
    for (int64_t band = 0; band < bands; ++band)
      num_foreign[band] = kernel(of_band(band), first(band), first(band + 1), foreign.data() + first(band));
#pragma omp for schedule(dynamic)
    for (int64_t band = 0; band < bands; ++band)
      for (int64_t later = band + 1; later < bands; ++later)
        foreign_kernel(of_band(band), foreign.data() + first(later), num_foreign[later]);
  }
}

template <class T>
void interpolate_backward(const Device& device, int64_t num_images, int64_t threads,
                          const InterpolateBackward<T>& body) {
  const int64_t pixels = body.forward.num_pixels;
  if (!device.is_cpu()) {
    launch(device, num_images, pixels, body);
    return;
  }
  const auto kernel = FACECORE_SIMD(PixelGradientKernel<T>*, pixel_gradients);
  if (!body.grad_attributes) {  // no two pixels write to the same place
    const auto block = [&](int64_t image, int64_t index) {
      kernel(picture(body, image), index * kBlock, std::min(pixels, (index + 1) * kBlock), nullptr);
    };
    launch_cpu(num_images, (pixels + kBlock - 1) / kBlock, block, 1);
    return;
  }
  if (threads > num_images && num_images * pixels > kParallelGrain) {
    for (int64_t image = 0; image < num_images; ++image) gradients_in_bands(picture(body, image), pixels, threads);
    return;
  }
#pragma omp parallel for schedule(dynamic) if (num_images > 1 && num_images * pixels > kParallelGrain)
  for (int64_t image = 0; image < num_images; ++image) kernel(picture(body, image), 0, pixels, nullptr);
}

template <class T> void bind(pybind11::module_& m, const std::string& dtype) {
  using Release = pybind11::call_guard<pybind11::gil_scoped_release>;
  m.def(("interpolate_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t p, int64_t v, int64_t t, int64_t c, Address attributes, Address triangles,
           Address triangle_id, Address barycentric, Address out) {
          interpolate(device, n, Interpolate<T>{p, v, t, c, attributes, triangles, triangle_id, barycentric, out});
        },
        Release());
  m.def(("interpolate_backward_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t p, int64_t v, int64_t t, int64_t c, int64_t threads, Address grad_out,
           Address attributes, Address triangles, Address triangle_id, Address barycentric, Address grad_attributes,
           Address grad_barycentric) {
          const Interpolate<T> forward{p, v, t, c, attributes, triangles, triangle_id, barycentric, nullptr};
          interpolate_backward(device, n, threads,
                               InterpolateBackward<T>{forward, grad_out, grad_attributes, grad_barycentric});
        },
        Release());
  m.def(("interpolate_vertex_gradient_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t p, int64_t v, int64_t t, int64_t c, Address grad_out, Address triangles,
           Address triangle_id, Address barycentric, Address corner_start, Address corners, Address pixel_start,
           Address pixels, Address grad_attributes) {
          const Interpolate<T> forward{p, v, t, c, nullptr, triangles, triangle_id, barycentric, nullptr};
          const InterpolateBackward<T> body{forward, grad_out, grad_attributes, nullptr};
          launch(device, n, v * c, InterpolateVertexGradient<T>{body, {corner_start, corners}, {pixel_start, pixels}});
        },
        Release());
}

}  // namespace

void bind_interpolate(pybind11::module_& m) {
  bind<float>(m, "float32");
  bind<double>(m, "float64");
}

}  // namespace facecore
