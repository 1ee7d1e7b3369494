// CPU build and Python binding of rasterize. Built with -ffp-contract=off (core/ieee.h).
#include "ops/rasterize.h"

#include "core/binding.h"
#include "simd/raster_pixels.h"
#include "simd/raster_slices.h"
#include "simd/raster_triangles.h"

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

// Whether the SIMD kernels can index so many items: their numbers times four, in 32 bits.
bool fits_gathers(int64_t num_vertices, int64_t num_triangles) {
  constexpr int64_t kLargest = int64_t{1} << 28;
  return kHasRasterPixels && num_vertices <= kLargest && num_triangles <= kLargest;
}

// Vertices [begin, end) to the grid: many at once, what that leaves one by one.
void project_vertices(const RasterImage<float>& image, int64_t begin, int64_t end) {
  const auto kernel = FACECORE_SIMD(RasterProjectKernel*, raster_project);
  SnappedVertex* snapped = image.snapped + begin;
  if (!kernel({end - begin, image.height, image.width, image.vertices_clip + 4 * begin, snapped})) return;
  for (int64_t v = begin; v < end; ++v)
    if (image.snapped[v].outside == kLeftToScalar) image.project(v);
}
void project_vertices(const RasterImage<double>& image, int64_t begin, int64_t end) {
  for (int64_t v = begin; v < end; ++v) image.project(v);
}

// Triangles [begin, end): small ones many at once, the others one by one.
template <class T> void draw_triangles(const RasterImage<T>& image, int64_t begin, int64_t end) {
  constexpr int64_t kBlock = 4096;
  int32_t rest[kBlock];
  if (!fits_gathers(image.num_vertices, 0)) {
    for (int64_t t = begin; t < end; ++t) image.draw_triangle(t);
    return;
  }
  const auto kernel = FACECORE_SIMD(RasterDrawKernel*, raster_draw);
  for (; begin < end; begin += kBlock) {
    const int64_t num_rest =
        kernel({image.num_vertices, begin, std::min(begin + kBlock, end), image.height, image.width,
                image.cull_backfaces, image.triangles, image.snapped, image.keys, rest});
    for (int64_t i = 0; i < num_rest; ++i) image.draw_triangle(rest[i]);
  }
}

// Rows [first, last) of the result; a pixel's key is the smallest of the slices', which lie a picture apart.
template <class T> void resolve_one_by_one(const RasterImage<T>& image, int32_t first, int32_t last, int64_t slices) {
  const int64_t pixels = static_cast<int64_t>(image.height) * image.width;
  for (int32_t row = first; row < last; ++row)
    for (int32_t column = 0; column < image.width; ++column) {
      const uint64_t* keys = image.keys + static_cast<int64_t>(row) * image.width + column;
      uint64_t key = *keys;
      for (int64_t slice = 1; slice < slices; ++slice) key = std::min(key, keys[slice * pixels]);
      image.resolve(row, column, key);
    }
}
void resolve_rows(const RasterImage<double>& image, int32_t first, int32_t last, int64_t slices) {
  resolve_one_by_one(image, first, last, slices);
}
void resolve_rows(const RasterImage<float>& image, int32_t first, int32_t last, int64_t slices) {
  if (!fits_gathers(image.num_vertices, image.num_triangles)) return resolve_one_by_one(image, first, last, slices);
  const auto kernel = FACECORE_SIMD(RasterResolveKernel*, raster_resolve);
  const int64_t pixels = static_cast<int64_t>(image.height) * image.width;
  for (int32_t row = first; row < last; ++row)
    if (kernel({{image.height, image.width, row, row + 1, image.num_vertices, image.num_triangles, image.vertices_clip,
                 image.triangles},
                slices,
                pixels,
                image.keys,
                image.triangle_id,
                image.barycentric,
                image.z_ndc}))
      resolve_one_by_one(image, row, row + 1, slices);
}

// A thread per image, each with its own workspace.
template <class T> void rasterize_images(const RasterBatch<T>& batch, int64_t num_images, int64_t threads) {
  const int64_t pixels = num_pixels(batch);
#pragma omp parallel for schedule(dynamic) num_threads(static_cast<int>(threads)) if (threads > 1)
  for (int64_t n = 0; n < num_images; ++n) {
    const RasterImage<T> image = with_workspace(batch, n, thread_number(), thread_number());
    project_vertices(image, 0, image.num_vertices);
    std::fill_n(image.keys, pixels, kUncovered);
    draw_triangles(image, 0, image.num_triangles);
    resolve_rows(image, 0, image.height, 1);
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
    for (int64_t slice = 0; slice < threads; ++slice)
      project_vertices(image, vertices * slice / threads, vertices * (slice + 1) / threads);
#pragma omp for schedule(static)
    for (int64_t slice = 0; slice < threads; ++slice) {
      const RasterImage<T> mine = with_workspace(batch, n, 0, slice);
      std::fill_n(mine.keys, pixels, kUncovered);
      draw_triangles(mine, triangles * slice / threads, triangles * (slice + 1) / threads);
    }
#pragma omp for schedule(static)
    for (int32_t row = 0; row < image.height; ++row) resolve_rows(image, row, row + 1, threads);
  }
}

template <class T> void draw_on_device(const Device& device, const RasterBatch<T>& batch, int64_t num_images) {
  if (device.is_emulated()) {
    for (int64_t n = 0; n < num_images; ++n)
      for (int64_t t = 0; t < batch.first.num_triangles; ++t) batch.image(n).draw_triangle(t);
    return;
  }
#ifdef FACECORE_WITH_CUDA
  select_cuda_device(device);
  draw_cuda(batch, num_images, device.stream);
#else
  throw_no_cuda();
#endif
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
  if (batch.first.num_triangles > 0) draw_on_device(device, batch, num_images);
  launch(device, num_images, pixels, ResolvePixels<T>{batch});
}

// The pixels of one image in order.
template <class T> void backward_one_by_one(const RasterizeBackward<T>& body, int64_t n) {
  for (int32_t row = 0; row < body.height; ++row)
    for (int32_t column = 0; column < body.width; ++column) body.at(n, row, column);
}

RasterPixelsBackward backward_of_image(const RasterizeBackward<float>& body, int64_t n) {
  const int64_t pixels = static_cast<int64_t>(body.height) * body.width, vertices = n * body.num_vertices * 4;
  return {{body.height, body.width, 0, body.height, body.num_vertices, body.num_triangles,
           body.vertices_clip + vertices, body.triangles},
          body.triangle_id + n * pixels,
          body.grad_barycentric + 3 * n * pixels,
          body.grad_vertices_clip + vertices,
          0.0f,
          0.0f,
          nullptr};
}

void backward_image(const RasterizeBackward<double>& body, int64_t n, int64_t) { backward_one_by_one(body, n); }
void backward_image(const RasterizeBackward<float>& body, int64_t n, int64_t threads) {
  if (!fits_gathers(body.num_vertices, body.num_triangles)) return backward_one_by_one(body, n);
  RasterBackwardSlices(backward_of_image(body, n)).run(threads);
}

// A thread per image, or all threads on one image after the other; bit-equal for any number of threads.
template <class T>
void rasterize_backward(const Device& device, const RasterizeBackward<T>& body, int64_t num_images, int64_t threads) {
  const int64_t pixels = static_cast<int64_t>(body.height) * body.width;
  if (!device.is_cpu()) {
    launch(device, num_images, pixels, body);
    return;
  }
  if (threads > num_images) {
    for (int64_t n = 0; n < num_images; ++n) backward_image(body, n, threads);
    return;
  }
#pragma omp parallel for schedule(dynamic) if (num_images > 1 && num_images * pixels > kParallelGrain)
  for (int64_t n = 0; n < num_images; ++n) backward_image(body, n, 1);
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
        [](Device device, int64_t n, int64_t v, int64_t t, int64_t h, int64_t w, int64_t threads,
           Address grad_barycentric, Address vertices_clip, Address triangles, Address triangle_id,
           Address grad_vertices_clip) {
          rasterize_backward(
              device,
              RasterizeBackward<T>{v, t, static_cast<int32_t>(h), static_cast<int32_t>(w), grad_barycentric,
                                   vertices_clip, triangles, triangle_id, grad_vertices_clip},
              n, threads);
        },
        Release());
  m.def(("rasterize_vertex_gradient_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t v, int64_t t, int64_t h, int64_t w, Address grad_barycentric,
           Address vertices_clip, Address triangles, Address triangle_id, Address corner_start, Address corners,
           Address pixel_start, Address pixels, Address grad_vertices_clip) {
          const RasterizeBackward<T> body{
              v,         t,           static_cast<int32_t>(h), static_cast<int32_t>(w), grad_barycentric, vertices_clip,
              triangles, triangle_id, grad_vertices_clip};
          launch(device, n, v, RasterizeVertexGradient<T>{body, {corner_start, corners}, {pixel_start, pixels}});
        },
        Release());
}

}  // namespace

void bind_rasterize(pybind11::module_& m) {
  bind<float>(m, "float32");
  bind<double>(m, "float64");
}

}  // namespace facecore
