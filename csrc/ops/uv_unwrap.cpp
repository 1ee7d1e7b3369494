// CPU build and Python binding of uv_unwrap: tiles of texels, projected by SIMD, sampled and scattered one by one.
#include "ops/uv_unwrap.h"

#include <string>

#include "core/binding.h"
#include "simd/uv_texels.h"

namespace facecore {
namespace {

template <class T>
TexelRange<T> tile_range(const UvUnwrap<T>& body, int64_t image, int64_t tile, bool with_depth) {
  const int64_t begin = tile * kTexelTile;
  return {begin,
          std::min(kTexelTile, body.num_texels - begin),
          body.num_texels,
          body.num_vertices,
          body.height,
          body.width,
          body.vertices_clip + 4 * image * body.num_vertices,
          body.corners,
          body.barycentric,
          with_depth,
          body.depth_range ? body.depth_range[image] : T(0)};
}

template <class T> Sample<T> tile_sample(const UvUnwrap<T>& body, const TexelTile<T>& tile, int64_t i) {
  return {tile.first_column[i], tile.first_row[i], tile.fraction_x[i], tile.fraction_y[i], body.height, body.width};
}

template <class T> int64_t num_tiles(const UvUnwrap<T>& body) {
  return (body.num_texels + kTexelTile - 1) / kTexelTile;
}

template <class T> void unwrap_tile(const UvUnwrap<T>& body, TexelKernel<T>* project, int64_t image, int64_t index) {
  TexelTile<T> tile;
  const TexelRange<T> range = tile_range(body, image, index, true);
  bool* valid = body.valid + image * body.num_texels + range.begin;
  T* texture = body.texture + image * body.num_channels * body.num_texels + range.begin;
  if (body.empty() || !project(range, tile)) {
    std::fill(valid, valid + range.count, false);
    for (int64_t c = 0; c < body.num_channels; ++c)
      std::fill(texture + c * body.num_texels, texture + c * body.num_texels + range.count, T(0));
    return;
  }
  const T* planes = body.image + image * body.num_channels * body.height * body.width;
  for (int64_t i = 0; i < range.count; ++i) {
    valid[i] =
        tile.inside[i] != T(0) && body.is_seen(image, range.begin + i, tile.column[i], tile.row[i], tile.depth[i]);
    const Sample<T> sample = tile_sample(body, tile, i);  // of some pixel where the texel is not valid
    for (int64_t c = 0; c < body.num_channels; ++c) {
      const T value = sample.value(planes + c * body.height * body.width);
      texture[c * body.num_texels + i] = valid[i] ? value : T(0);
    }
  }
}

template <class T> void unwrap(const Device& device, int64_t num_images, const UvUnwrap<T>& body) {
  if (!device.is_cpu()) {
    launch(device, num_images, body.num_texels, body);
    return;
  }
  const auto project = FACECORE_SIMD(TexelKernel<T>*, project_texels);
  const auto tile = [&](int64_t image, int64_t index) { unwrap_tile(body, project, image, index); };
  launch_cpu(num_images, num_tiles(body), tile, kParallelGrain / kTexelTile);
}

// --- Backward. Every sum is over ascending texels, whoever computes it, so the number of threads changes no bit. ----

// One thread per image: adds as it goes.
template <class T> struct ImageScatter {
  UvUnwrapBackward<T> body;
  TexelKernel<T>* project;

  void operator()(int64_t image, int64_t index) const {
    const UvUnwrap<T>& forward = body.forward;
    const TexelRange<T> range = tile_range(forward, image, index, false);
    const bool* valid = body.valid + image * forward.num_texels + range.begin;
    TexelTile<T> tile;
    if (std::none_of(valid, valid + range.count, [](bool v) { return v; }) || !project(range, tile)) return;
    const T height = static_cast<T>(forward.height), width = static_cast<T>(forward.width);
    for (int64_t i = 0; i < range.count; ++i) {
      if (!valid[i] || tile.inside[i] == T(0)) continue;
      const int64_t texel = range.begin + i;
      T grad_u = T(0), grad_v = T(0);
      body.add_to_image(image, texel, tile_sample(forward, tile, i), &grad_u, &grad_v);
      if (!body.grad_vertices_clip) continue;
      const ClipGradient<T> grad(tile.x[i], tile.y[i], tile.inverse_w[i], grad_u, grad_v, height, width);
      add_to_corners(image, texel, grad);
    }
  }

  void add_to_corners(int64_t image, int64_t texel, const ClipGradient<T>& grad) const {
    const UvUnwrap<T>& forward = body.forward;
    for (int k = 0; k < 3; ++k) {
      const int64_t vertex = forward.corners[k * forward.num_texels + texel];
      const T weight = forward.barycentric[k * forward.num_texels + texel];
      T* target = body.grad_vertices_clip + 4 * (image * forward.num_vertices + vertex);
      target[0] += weight * grad.x;
      target[1] += weight * grad.y;
      target[3] += weight * grad.w;
    }
  }
};

// Many threads for one image: texels first, with the gradient of their clip point and their place in a workspace; then
// each vertex collects from its texels, and each channel of the picture is scattered by one thread.
template <class T> struct SplitBackward {
  UvUnwrapBackward<T> body;
  TexelKernel<T>* project;
  const int32_t* vertex_start;   // [V+1]; vertex v's entries are vertex_texels[vertex_start[v] .. vertex_start[v+1])
  const int32_t* vertex_texels;  // [3M]; 3 * texel + corner, ascending for each vertex
  T* workspace;                  // [P, 8]: grad_q x, y, w; first column and row; fractions; 1 where valid
  int64_t image;

  void texels(int64_t index) const {
    const UvUnwrap<T>& forward = body.forward;
    const TexelRange<T> range = tile_range(forward, image, index, false);
    const bool* valid = body.valid + image * forward.num_texels + range.begin;
    TexelTile<T> tile;
    const bool any = project(range, tile);
    const T height = static_cast<T>(forward.height), width = static_cast<T>(forward.width);
    UvUnwrapBackward<T> without_image = body;
    without_image.grad_image = nullptr;
    for (int64_t i = 0; i < range.count; ++i) {
      T* record = workspace + 8 * (range.begin + i);
      record[7] = any && valid[i] && tile.inside[i] != T(0) ? T(1) : T(0);
      if (record[7] == T(0)) continue;
      T grad_u = T(0), grad_v = T(0);
      without_image.add_to_image(image, range.begin + i, tile_sample(forward, tile, i), &grad_u, &grad_v);
      const ClipGradient<T> grad(tile.x[i], tile.y[i], tile.inverse_w[i], grad_u, grad_v, height, width);
      record[0] = grad.x, record[1] = grad.y, record[2] = grad.w;
      record[3] = tile.first_column[i], record[4] = tile.first_row[i];
      record[5] = tile.fraction_x[i], record[6] = tile.fraction_y[i];
    }
  }
  void vertex(int64_t v) const {
    const UvUnwrap<T>& forward = body.forward;
    T* target = body.grad_vertices_clip + 4 * (image * forward.num_vertices + v);
    for (int32_t entry = vertex_start[v]; entry < vertex_start[v + 1]; ++entry) {
      const int64_t texel = vertex_texels[entry] / 3, corner = vertex_texels[entry] % 3;
      const T* record = workspace + 8 * texel;
      if (record[7] == T(0)) continue;
      const T weight = forward.barycentric[corner * forward.num_texels + texel];
      target[0] += weight * record[0];
      target[1] += weight * record[1];
      target[3] += weight * record[2];
    }
  }
  void channel(int64_t c) const {
    const UvUnwrap<T>& forward = body.forward;
    const int64_t plane = image * forward.num_channels + c;
    for (int64_t p = 0; p < forward.num_texels; ++p) {
      const T* record = workspace + 8 * p;
      if (record[7] == T(0)) continue;
      const Sample<T> sample(record[3], record[4], record[5], record[6], forward.height, forward.width);
      sample.add_to_plane(body.grad_image + plane * forward.height * forward.width,
                          body.grad_texture[plane * forward.num_texels + p]);
    }
  }
  void operator()() const {
    const UvUnwrap<T>& forward = body.forward;
    launch_cpu(1, num_tiles(forward), [this](int64_t, int64_t index) { texels(index); }, kParallelGrain / kTexelTile);
    if (body.grad_vertices_clip)
      launch_cpu(1, forward.num_vertices, [this](int64_t, int64_t v) { vertex(v); }, kParallelGrain);
    if (body.grad_image) launch_cpu(1, forward.num_channels, [this](int64_t, int64_t c) { channel(c); }, 1);
  }
};

template <class T>
void unwrap_backward(const Device& device, int64_t num_images, const UvUnwrapBackward<T>& body,
                     const int32_t* vertex_start, const int32_t* vertex_texels, T* workspace) {
  if (!device.is_cpu()) {
    launch(device, num_images, body.forward.num_texels, body);
    return;
  }
  if (body.forward.empty()) return;
  const auto project = FACECORE_SIMD(TexelKernel<T>*, project_texels);
  if (!workspace) {
    const ImageScatter<T> scatter{body, project};
#pragma omp parallel for schedule(dynamic) if (num_images > 1)
    for (int64_t image = 0; image < num_images; ++image)
      for (int64_t tile = 0; tile < num_tiles(body.forward); ++tile) scatter(image, tile);
    return;
  }
  for (int64_t image = 0; image < num_images; ++image)
    SplitBackward<T>{body, project, vertex_start, vertex_texels, workspace, image}();
}

template <class T> void bind(pybind11::module_& m, const std::string& dtype) {
  using Release = pybind11::call_guard<pybind11::gil_scoped_release>;
  m.def(("uv_unwrap_depth_ranges_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t v, int64_t num_blocks, int64_t block_size, Address vertices_clip,
           Address ranges) {
          launch(device, n, num_blocks, DepthRanges<T>{v, num_blocks, block_size, vertices_clip, ranges},
                 Sharing::kNone, kParallelGrain / block_size);
        },
        Release());
  m.def(("uv_unwrap_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t p, int64_t v, int64_t t, int64_t c, int64_t height, int64_t width,
           Address image, Address vertices_clip, Address corners, Address barycentric, Address triangles, Address z_ndc,
           Address triangle_id, Address depth_range, Address texture, Address valid) {
          unwrap(device, n,
                 UvUnwrap<T>{p, v, t, c, height, width, image, vertices_clip, corners, barycentric, triangles, z_ndc,
                             triangle_id, depth_range, texture, valid});
        },
        Release());
  m.def(
      ("uv_unwrap_backward_" + dtype).c_str(),
      [](Device device, int64_t n, int64_t p, int64_t v, int64_t c, int64_t height, int64_t width, Address grad_texture,
         Address image, Address vertices_clip, Address corners, Address barycentric, Address vertex_start,
         Address vertex_texels, Address valid, Address grad_image, Address grad_vertices_clip, Address workspace) {
        UvUnwrap<T> forward{};
        forward.num_texels = p, forward.num_vertices = v, forward.num_channels = c;
        forward.height = height, forward.width = width;
        forward.image = image, forward.vertices_clip = vertices_clip;
        forward.corners = corners, forward.barycentric = barycentric;
        unwrap_backward<T>(device, n, UvUnwrapBackward<T>{forward, grad_texture, valid, grad_image, grad_vertices_clip},
                           vertex_start, vertex_texels, workspace);
      },
      Release());
}

}  // namespace

void bind_uv_unwrap(pybind11::module_& m) {
  m.attr("uv_unwrap_tolerance") = kUnwrapTolerance;
  m.attr("uv_unwrap_slope") = kUnwrapSlope;
  bind<float>(m, "float32");
  bind<double>(m, "float64");
}

}  // namespace facecore
