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

template <class T> int64_t num_tiles(const UvUnwrap<T>& body) {
  return (body.num_texels + kTexelTile - 1) / kTexelTile;
}

template <class T> struct TexelKernels {
  TexelKernel<T>* project = FACECORE_SIMD(TexelKernel<T>*, project_texels);
  TexelSampler<T>* sample = FACECORE_SIMD(TexelSampler<T>*, sample_texels);
  TexelSamplerGradient<T>* gradient = FACECORE_SIMD(TexelSamplerGradient<T>*, sample_gradients);
};

// Which texels of a tile are seen: most need only the depth buffer.
template <class T>
void see_tile(const UvUnwrap<T>& body, int64_t image, const TexelRange<T>& range, const TexelTile<T>& tile,
              bool* seen) {
  if (!body.z_ndc) {
    for (int64_t i = 0; i < range.count; ++i) seen[i] = tile.inside[i] != T(0);
    return;
  }
  const int64_t plane = image * body.height * body.width;
  const T* z_ndc = body.z_ndc + plane;
  const T tolerance = T(kUnwrapTolerance) * body.depth_range[image];
  for (int64_t i = 0; i < range.count; ++i)
    seen[i] = (tile.inside[i] != T(0)) & (tile.depth[i] <= z_ndc[tile.pixel[i]] + tolerance);
  for (int64_t i = 0; i < range.count; ++i)
    if (!seen[i] && tile.inside[i] != T(0)) seen[i] = body.touches(range.begin + i, plane + tile.pixel[i]);
}

template <class T>
void unwrap_tile(const UvUnwrap<T>& body, const TexelKernels<T>& kernels, int64_t image, int64_t index) {
  TexelTile<T> tile;
  const TexelRange<T> range = tile_range(body, image, index, true);
  bool* valid = body.valid + image * body.num_texels + range.begin;
  T* texture = body.texture + image * body.num_channels * body.num_texels + range.begin;
  if (body.empty() || !kernels.project(range, tile)) {
    std::fill(valid, valid + range.count, false);
    for (int64_t c = 0; c < body.num_channels; ++c, texture += body.num_texels)
      std::fill(texture, texture + range.count, T(0));
    return;
  }
  see_tile(body, image, range, tile, valid);
  const T* plane = body.image + image * body.num_channels * body.height * body.width;
  alignas(64) T value[kTexelTile];
  for (int64_t c = 0; c < body.num_channels; ++c, plane += body.height * body.width, texture += body.num_texels) {
    kernels.sample(tile, plane, value);
    for (int64_t i = 0; i < range.count; ++i) texture[i] = valid[i] ? value[i] : T(0);
  }
}

template <class T> void unwrap(const Device& device, int64_t num_images, const UvUnwrap<T>& body) {
  if (!device.is_cpu()) {
    launch(device, num_images, body.num_texels, body);
    return;
  }
  const TexelKernels<T> kernels;
  const auto tile = [&](int64_t image, int64_t index) { unwrap_tile(body, kernels, image, index); };
  launch_cpu(num_images, num_tiles(body), tile, kParallelGrain / kTexelTile);
}

// --- Backward. Every sum is over ascending texels, whoever computes it, so the number of threads changes no bit. ----

// A tile with the gradients of its texels' clip points.
template <class T> struct TileGradient {
  TexelTile<T> tile;
  bool used[kTexelTile];
  alignas(64) T clip[kTexelTile][4];  // grad_q; set where used, and where the vertices want it

  // False when no texel has a gradient.
  bool compute(const UvUnwrapBackward<T>& body, const TexelKernels<T>& kernels, int64_t image,
               const TexelRange<T>& range) {
    const UvUnwrap<T>& forward = body.forward;
    const bool* valid = body.valid + image * forward.num_texels + range.begin;
    if (std::none_of(valid, valid + range.count, [](bool v) { return v; }) || !kernels.project(range, tile))
      return false;
    for (int64_t i = 0; i < kTexelTile; ++i) used[i] = i < range.count && valid[i] && tile.inside[i] != T(0);
    if (!body.grad_vertices_clip) return true;
    alignas(64) T grad[kTexelTile], grad_u[kTexelTile], grad_v[kTexelTile];
    std::fill(grad_u, grad_u + kTexelTile, T(0));
    std::fill(grad_v, grad_v + kTexelTile, T(0));
    std::fill(grad, grad + kTexelTile, T(0));
    for (int64_t c = image * forward.num_channels; c < (image + 1) * forward.num_channels; ++c) {
      const T* source = body.grad_texture + c * forward.num_texels + range.begin;
      for (int64_t i = 0; i < range.count; ++i) grad[i] = used[i] ? source[i] : T(0);
      kernels.gradient(tile, forward.image + c * forward.height * forward.width, grad, grad_u, grad_v);
    }
    const T height = static_cast<T>(forward.height), width = static_cast<T>(forward.width);
    for (int64_t i = 0; i < kTexelTile; ++i) {
      const ClipGradient<T> q(tile.x[i], tile.y[i], tile.inverse_w[i], grad_u[i], grad_v[i], height, width);
      clip[i][0] = q.x, clip[i][1] = q.y, clip[i][2] = T(0), clip[i][3] = q.w;
    }
    return true;
  }
};

template <class T> void add_scaled(T* target, T weight, const T* clip) {
  T sum[4];
  for (int c = 0; c < 4; ++c) sum[c] = target[c] + weight * clip[c];
  for (int c = 0; c < 4; ++c) target[c] = sum[c];
}

// One thread per image: adds as it goes.
template <class T> struct ImageScatter {
  UvUnwrapBackward<T> body;
  TexelKernels<T> kernels;

  void operator()(int64_t image, int64_t index) const {
    const UvUnwrap<T>& forward = body.forward;
    const TexelRange<T> range = tile_range(forward, image, index, false);
    TileGradient<T> gradient;
    if (!gradient.compute(body, kernels, image, range)) return;
    if (body.grad_image) add_to_image(image, range, gradient);
    if (!body.grad_vertices_clip) return;
    T* target = body.grad_vertices_clip + 4 * image * forward.num_vertices;
    for (int64_t i = 0; i < range.count; ++i) {
      if (!gradient.used[i]) continue;
      for (int k = 0; k < 3; ++k) {
        const int64_t entry = k * forward.num_texels + range.begin + i;
        add_scaled(target + 4 * static_cast<int64_t>(forward.corners[entry]), forward.barycentric[entry],
                   gradient.clip[i]);
      }
    }
  }

  // Texel by texel, all channels of one: its neighbour adds to the same pixels, and the channels hide that wait.
  void add_to_image(int64_t image, const TexelRange<T>& range, const TileGradient<T>& gradient) const {
    const UvUnwrap<T>& forward = body.forward;
    const TexelTile<T>& tile = gradient.tile;
    const int64_t channels = forward.num_channels, texels = forward.num_texels;
    const int64_t pixels = forward.height * forward.width;
    const T* grads = body.grad_texture + image * channels * texels + range.begin;
    T* planes = body.grad_image + image * channels * pixels;
    for (int64_t i = 0; i < range.count; ++i) {
      if (!gradient.used[i]) continue;
      const int32_t pixel[4] = {tile.sampled[0][i], tile.sampled[1][i], tile.sampled[2][i], tile.sampled[3][i]};
      const T x = tile.fraction_x[i], y = tile.fraction_y[i];
      for (int64_t c = 0; c < channels; ++c) add_sample(planes + c * pixels, grads[c * texels + i], x, y, pixel);
    }
  }
};

// Many threads for one image: texels first, with what is to be added kept in a workspace; then each vertex collects
// from its texels, and each channel of the picture is scattered by one thread.
template <class T> struct TexelRecord {
  T clip[4];
  T fraction_x, fraction_y;
  T used;
  T unused;
  int32_t pixel[4];
};

template <class T> struct SplitBackward {
  UvUnwrapBackward<T> body;
  TexelKernels<T> kernels;
  const int32_t* vertex_start;   // [V+1]; vertex v's entries are vertex_texels[vertex_start[v] .. vertex_start[v+1])
  const int32_t* vertex_texels;  // [3M]; 3 * texel + corner, ascending for each vertex
  int64_t num_entries;           // 3M
  TexelRecord<T>* records;       // [P]
  int64_t image;

  void texels(int64_t index) const {
    const TexelRange<T> range = tile_range(body.forward, image, index, false);
    TileGradient<T> gradient;
    const bool any = gradient.compute(body, kernels, image, range);
    for (int64_t i = 0; i < range.count; ++i) {
      TexelRecord<T>& record = records[range.begin + i];
      record.used = any && gradient.used[i] ? T(1) : T(0);
      if (record.used == T(0)) continue;
      const TexelTile<T>& tile = gradient.tile;
      if (body.grad_vertices_clip) std::copy(gradient.clip[i], gradient.clip[i] + 4, record.clip);
      record.fraction_x = tile.fraction_x[i], record.fraction_y = tile.fraction_y[i];
      for (int k = 0; k < 4; ++k) record.pixel[k] = tile.sampled[k][i];
    }
  }
  void vertex(int64_t v) const {
    T* target = body.grad_vertices_clip + 4 * (image * body.forward.num_vertices + v);
    const int64_t end = std::min<int64_t>(vertex_start[v + 1], num_entries);
    for (int64_t entry = std::max(vertex_start[v], 0); entry < end; ++entry) {
      const int64_t texel = vertex_texels[entry] / 3, corner = vertex_texels[entry] % 3;
      if (vertex_texels[entry] < 0 || texel >= body.forward.num_texels || records[texel].used == T(0)) continue;
      add_scaled(target, body.forward.barycentric[corner * body.forward.num_texels + texel], records[texel].clip);
    }
  }
  void channel(int64_t c) const {
    const UvUnwrap<T>& forward = body.forward;
    const int64_t plane = image * forward.num_channels + c;
    T* grad_plane = body.grad_image + plane * forward.height * forward.width;
    for (int64_t p = 0; p < forward.num_texels; ++p) {
      const TexelRecord<T>& record = records[p];
      if (record.used == T(0)) continue;
      const T grad = body.grad_texture[plane * forward.num_texels + p];
      add_sample(grad_plane, grad, record.fraction_x, record.fraction_y, record.pixel);
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
                     const int32_t* vertex_start, const int32_t* vertex_texels, int64_t num_entries,
                     TexelRecord<T>* records) {
  if (!device.is_cpu()) {
    launch(device, num_images, body.forward.num_texels, body);
    return;
  }
  if (body.forward.empty()) return;
  const TexelKernels<T> kernels;
  if (!records) {
    const ImageScatter<T> scatter{body, kernels};
#pragma omp parallel for schedule(dynamic) if (num_images > 1)
    for (int64_t image = 0; image < num_images; ++image)
      for (int64_t tile = 0; tile < num_tiles(body.forward); ++tile) scatter(image, tile);
    return;
  }
  for (int64_t image = 0; image < num_images; ++image)
    SplitBackward<T>{body, kernels, vertex_start, vertex_texels, num_entries, records, image}();
}

template <class T> void bind(pybind11::module_& m, const std::string& dtype) {
  using Release = pybind11::call_guard<pybind11::gil_scoped_release>;
  m.def(("uv_unwrap_depth_ranges_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t v, int64_t num_blocks, int64_t block_size, Address vertices_clip,
           Address ranges) {
          launch(device, n, num_blocks, DepthRanges<T>{v, num_blocks, block_size, vertices_clip, ranges},
                 kParallelGrain / block_size);
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
  m.def(("uv_unwrap_backward_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t p, int64_t v, int64_t c, int64_t height, int64_t width,
           int64_t num_entries, Address grad_texture, Address image, Address vertices_clip, Address corners,
           Address barycentric, Address vertex_start, Address vertex_texels, Address valid, Address grad_image,
           Address grad_vertices_clip, Address records) {
          UvUnwrap<T> forward{};
          forward.num_texels = p, forward.num_vertices = v, forward.num_channels = c;
          forward.height = height, forward.width = width;
          forward.image = image, forward.vertices_clip = vertices_clip;
          forward.corners = corners, forward.barycentric = barycentric;
          unwrap_backward<T>(device, n,
                             UvUnwrapBackward<T>{forward, grad_texture, valid, grad_image, grad_vertices_clip},
                             vertex_start, vertex_texels, num_entries, records);
        },
        Release());
  m.def(("uv_unwrap_texel_gradient_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t p, int64_t v, int64_t c, int64_t height, int64_t width,
           Address grad_texture, Address image, Address vertices_clip, Address corners, Address barycentric,
           Address valid, Address clip, Address cell, Address fraction) {
          UvUnwrap<T> forward{};
          forward.num_texels = p, forward.num_vertices = v, forward.num_channels = c;
          forward.height = height, forward.width = width;
          forward.image = image, forward.vertices_clip = vertices_clip;
          forward.corners = corners, forward.barycentric = barycentric;
          const UvUnwrapBackward<T> texels{forward, grad_texture, valid, nullptr, nullptr};
          launch(device, n, p, UvUnwrapTexelGradient<T>{texels, clip, {height, width, cell, fraction}});
        },
        Release());
  m.def(("uv_unwrap_vertex_gradient_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t p, int64_t v, int64_t num_entries, Address barycentric,
           Address vertex_start, Address vertex_texels, Address clip, Address grad_vertices_clip) {
          launch(device, n, v,
                 UvUnwrapVertexGradient<T>{p, v, num_entries, barycentric, vertex_start, vertex_texels, clip,
                                           grad_vertices_clip});
        },
        Release());
}

}  // namespace

void bind_uv_unwrap(pybind11::module_& m) {
  m.attr("uv_unwrap_record_bytes") = pybind11::make_tuple(sizeof(TexelRecord<float>), sizeof(TexelRecord<double>));
  m.attr("uv_unwrap_tolerance") = kUnwrapTolerance;
  m.attr("uv_unwrap_slope") = kUnwrapSlope;
  bind<float>(m, "float32");
  bind<double>(m, "float64");
}

}  // namespace facecore
