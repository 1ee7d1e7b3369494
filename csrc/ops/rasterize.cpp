// CPU build and Python binding of rasterize. Built with -ffp-contract=off (core/ieee.h).
#include "ops/rasterize.h"

#include "core/binding.h"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace facecore {
namespace {

int64_t thread_number() {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}

int64_t num_pixels(const RasterBatch<float>& b) { return static_cast<int64_t>(b.first.height) * b.first.width; }
int64_t num_pixels(const RasterBatch<double>& b) { return static_cast<int64_t>(b.first.height) * b.first.width; }

// Image n with the vertex workspace of one slot and the key workspace of another.
template <class T> RasterImage<T> with_workspace(const RasterBatch<T>& batch, int64_t n, int64_t vertices,
                                                 int64_t keys) {
  RasterImage<T> result = batch.image(n);
  result.snapped = batch.first.snapped + vertices * batch.first.num_vertices;
  result.keys = batch.first.keys + keys * num_pixels(batch);
  return result;
}

// A thread per image, each with its own workspace.
template <class T> void rasterize_images(const RasterBatch<T>& batch, int64_t num_images, int64_t threads) {
  const int64_t pixels = num_pixels(batch);
#pragma omp parallel for schedule(dynamic) num_threads(static_cast<int>(threads)) if (threads > 1)
  for (int64_t n = 0; n < num_images; ++n) {
    const RasterImage<T> image = with_workspace(batch, n, thread_number(), thread_number());
    for (int64_t v = 0; v < image.num_vertices; ++v) image.project(v);
    std::fill_n(image.keys, pixels, kUncovered);
    for (int64_t t = 0; t < image.num_triangles; ++t) image.draw_triangle(t);
    for (int32_t row = 0; row < image.height; ++row)
      for (int32_t column = 0; column < image.width; ++column)
        image.resolve(row, column, image.keys[static_cast<int64_t>(row) * image.width + column]);
  }
}

// All threads on one image after the other: each draws a slice of the triangles into its own keys, and a pixel's key is
// the smallest of all. The minimum does not depend on how many slices there are, so neither does the result.
template <class T> void rasterize_slices(const RasterBatch<T>& batch, int64_t num_images, int64_t threads) {
  const int64_t pixels = num_pixels(batch), vertices = batch.first.num_vertices, triangles = batch.first.num_triangles;
#pragma omp parallel num_threads(static_cast<int>(threads))
  for (int64_t n = 0; n < num_images; ++n) {
    const RasterImage<T> image = with_workspace(batch, n, 0, 0);
#pragma omp for schedule(static)
    for (int64_t v = 0; v < vertices; ++v) image.project(v);
#pragma omp for schedule(static)
    for (int64_t slice = 0; slice < threads; ++slice) {
      const RasterImage<T> mine = with_workspace(batch, n, 0, slice);
      std::fill_n(mine.keys, pixels, kUncovered);
      const int64_t end = triangles * (slice + 1) / threads;
      for (int64_t t = triangles * slice / threads; t < end; ++t) mine.draw_triangle(t);
    }
#pragma omp for schedule(static)
    for (int32_t row = 0; row < image.height; ++row)
      for (int32_t column = 0; column < image.width; ++column) {
        const uint64_t* keys = image.keys + static_cast<int64_t>(row) * image.width + column;
        uint64_t key = *keys;
        for (int64_t slice = 1; slice < threads; ++slice) key = std::min(key, keys[slice * pixels]);
        image.resolve(row, column, key);
      }
  }
}

template <class T>
void rasterize(const Device& device, const RasterBatch<T>& batch, int64_t num_images, int64_t threads) {
  const int64_t pixels = num_pixels(batch);
  if (num_images == 0 || pixels == 0) return;
  if (device.is_cpu()) {
    if (num_images >= threads) rasterize_images(batch, num_images, threads);
    else rasterize_slices(batch, num_images, threads);
    return;
  }
#ifdef FACECORE_WITH_CUDA
  launch(device, num_images, batch.first.num_vertices, ProjectVertices<T>{batch});
  if (batch.first.num_triangles > 0) draw_cuda(batch, num_images, device.stream);
  launch(device, num_images, pixels, ResolvePixels<T>{batch});
#else
  throw_no_cuda();
#endif
}

// A thread per image, pixels in order: bit-equal for any number of threads.
template <class T> void rasterize_backward(const Device& device, const RasterizeBackward<T>& body, int64_t num_images) {
  if (!device.is_cpu()) {
    launch(device, num_images, static_cast<int64_t>(body.height) * body.width, body);
    return;
  }
#pragma omp parallel for schedule(dynamic) if (num_images > 1 && num_images * body.height * body.width > kParallelGrain)
  for (int64_t n = 0; n < num_images; ++n)
    for (int32_t row = 0; row < body.height; ++row)
      for (int32_t column = 0; column < body.width; ++column) body.at(n, row, column);
}

template <class T> void bind(pybind11::module_& m, const std::string& dtype) {
  using Release = pybind11::call_guard<pybind11::gil_scoped_release>;
  m.def(("rasterize_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t v, int64_t t, int64_t h, int64_t w, bool cull_backfaces, int64_t threads,
           Address vertices_clip, Address triangles, Address snapped, Address keys, Address barycentric, Address z_ndc,
           Address triangle_id) {
          const RasterImage<T> first{v,
                                     t,
                                     static_cast<int32_t>(h),
                                     static_cast<int32_t>(w),
                                     cull_backfaces,
                                     vertices_clip,
                                     triangles,
                                     snapped,
                                     keys,
                                     triangle_id,
                                     barycentric,
                                     z_ndc};
          rasterize(device, RasterBatch<T>{first}, n, threads);
        },
        Release());
  m.def(("rasterize_backward_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t v, int64_t h, int64_t w, Address grad_barycentric, Address vertices_clip,
           Address triangles, Address triangle_id, Address grad_vertices_clip) {
          rasterize_backward(device,
                             RasterizeBackward<T>{v, static_cast<int32_t>(h), static_cast<int32_t>(w), grad_barycentric,
                                                  vertices_clip, triangles, triangle_id, grad_vertices_clip},
                             n);
        },
        Release());
}

}  // namespace

void bind_rasterize(pybind11::module_& m) {
  bind<float>(m, "float32");
  bind<double>(m, "float64");
}

}  // namespace facecore
