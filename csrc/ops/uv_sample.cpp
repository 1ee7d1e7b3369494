// CPU build and Python binding of uv_sample: tiles of points, placed and sampled by simd/uv_texels.h.
#include "ops/uv_sample.h"

#include <string>

#include "core/binding.h"
#include "simd/uv_texels.h"

namespace facecore {
namespace {

template <class T> int64_t num_tiles(const UvPoints<T>& points) {
  return (points.num_points + kTexelTile - 1) / kTexelTile;
}

// Places a tile and returns how many points it has.
template <class T> int64_t place_tile(const UvPoints<T>& points, int64_t image, int64_t index, TexelTile<T>& tile) {
  const int64_t begin = index * kTexelTile, count = std::min(kTexelTile, points.num_points - begin);
  const T* uv = points.uv + 2 * ((points.shared ? 0 : image) * points.num_points + begin);
  FACECORE_SIMD(PointKernel<T>*, place_points)({count, points.height, points.width, uv}, tile);
  return count;
}

template <class T> void sample(const Device& device, int64_t num_images, const UvSample<T>& body) {
  const UvPoints<T>& points = body.points;
  if (!device.is_cpu()) {
    launch(device, num_images, points.num_points, body);
    return;
  }
  const auto sampler = FACECORE_SIMD(TexelSampler<T>*, sample_texels);
  const auto work = [&](int64_t image, int64_t index) {
    TexelTile<T> tile;
    alignas(64) T value[kTexelTile];
    const int64_t count = place_tile(points, image, index, tile), size = points.height * points.width;
    T* out = body.out + (image * points.num_points + index * kTexelTile) * body.num_channels;
    for (int64_t c = 0; c < body.num_channels; ++c) {
      sampler(tile, body.texture + (image * body.num_channels + c) * size, value);
      for (int64_t i = 0; i < count; ++i) out[i * body.num_channels + c] = tile.inside[i] != T(0) ? value[i] : T(0);
    }
  };
  launch_cpu(num_images, num_tiles(points), work, kParallelGrain / kTexelTile);
}

template <class T> void point_gradient(const Device& device, const UvSamplePointGradient<T>& body) {
  const UvPoints<T>& points = body.points;
  const int64_t num_sets = points.shared ? 1 : body.num_images;
  if (!device.is_cpu()) {
    launch(device, num_sets, points.num_points, body);
    return;
  }
  const auto gradient = FACECORE_SIMD(TexelSamplerGradient<T>*, sample_gradients);
  const auto work = [&](int64_t set, int64_t index) {
    TexelTile<T> tile;
    alignas(64) T grad[kTexelTile] = {}, grad_x[kTexelTile] = {}, grad_y[kTexelTile] = {};
    const int64_t count = place_tile(points, set, index, tile), size = points.height * points.width;
    const int64_t last = points.shared ? body.num_images : set + 1, channels = body.num_channels;
    for (int64_t image = points.shared ? 0 : set; image < last; ++image) {
      const T* source = body.grad_out + (image * points.num_points + index * kTexelTile) * channels;
      for (int64_t c = 0; c < channels; ++c) {
        for (int64_t i = 0; i < count; ++i) grad[i] = tile.inside[i] != T(0) ? source[i * channels + c] : T(0);
        gradient(tile, body.texture + (image * channels + c) * size, grad, grad_x, grad_y);
      }
    }
    T* result = body.grad_uv + 2 * (set * points.num_points + index * kTexelTile);
    for (int64_t i = 0; i < count; ++i) {  // no gradient of 0 makes up for a texel that is NaN
      const bool inside = tile.inside[i] != T(0);
      result[2 * i] = inside ? static_cast<T>(points.width) * grad_x[i] : T(0);
      result[2 * i + 1] = inside ? -static_cast<T>(points.height) * grad_y[i] : T(0);
    }
  };
  launch_cpu(num_sets, num_tiles(points), work, kParallelGrain / kTexelTile);
}

// One thread per image, or per channel of an image where there are more threads than images. A texel's sum is over
// ascending points both ways, so the number of threads changes no bit.
template <class T>
void texture_gradient(const Device& device, int64_t num_images, bool by_channel,
                      const UvSampleTextureGradient<T>& body) {
  const UvPoints<T>& points = body.points;
  if (!device.is_cpu()) {
    launch(device, num_images, points.num_points, body);
    return;
  }
  const int64_t channels = body.num_channels, parts = by_channel ? channels : 1, size = points.height * points.width;
  const auto work = [&](int64_t image, int64_t part) {
    const int64_t first = by_channel ? part : 0, last = by_channel ? part + 1 : channels;
    TexelTile<T> tile;
    for (int64_t index = 0; index < num_tiles(points); ++index) {
      const int64_t count = place_tile(points, image, index, tile);
      const T* grad = body.grad_out + (image * points.num_points + index * kTexelTile) * channels;
      for (int64_t i = 0; i < count; ++i) {
        if (tile.inside[i] == T(0)) continue;
        const int32_t pixel[4] = {tile.sampled[0][i], tile.sampled[1][i], tile.sampled[2][i], tile.sampled[3][i]};
        for (int64_t c = first; c < last; ++c)
          add_sample(body.grad_texture + (image * channels + c) * size, grad[i * channels + c], tile.fraction_x[i],
                     tile.fraction_y[i], pixel);
      }
    }
  };
  launch_cpu(num_images, parts, work, 1);
}

template <class T> void bind(pybind11::module_& m, const std::string& dtype) {
  using Release = pybind11::call_guard<pybind11::gil_scoped_release>;
  m.def(("uv_sample_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t p, int64_t c, int64_t height, int64_t width, int64_t shared,
           Address texture, Address uv,
           Address out) { sample(device, n, UvSample<T>{{p, height, width, shared != 0, uv}, c, texture, out}); },
        Release());
  m.def(("uv_sample_backward_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t p, int64_t c, int64_t height, int64_t width, int64_t shared,
           int64_t by_channel, Address grad_out, Address texture, Address uv, Address grad_texture, Address grad_uv) {
          const UvPoints<T> points{p, height, width, shared != 0, uv};
          if (grad_uv.value) point_gradient(device, UvSamplePointGradient<T>{points, n, c, grad_out, texture, grad_uv});
          if (grad_texture.value)
            texture_gradient(device, n, by_channel != 0, UvSampleTextureGradient<T>{points, c, grad_out, grad_texture});
        },
        Release());
  m.def(("uv_sample_cells_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t p, int64_t height, int64_t width, int64_t shared, Address uv, Address cell,
           Address fraction) {
          const UvPoints<T> points{p, height, width, shared != 0, uv};
          launch(device, n, p, UvSampleCells<T>{points, {height, width, cell, fraction}});
        },
        Release());
  m.def(("sample_sums_" + dtype).c_str(),  // uv_unwrap's too
        [](Device device, int64_t n, int64_t p, int64_t c, int64_t height, int64_t width, int64_t channel_stride,
           int64_t sample_stride, Address grad, Address fraction, Address sample_start, Address samples,
           Address grad_image) {
          launch(device, n, c * height * width,
                 SampleSums<T>{p,
                               c,
                               height,
                               width,
                               channel_stride,
                               sample_stride,
                               grad,
                               fraction,
                               {sample_start, samples},
                               grad_image});
        },
        Release());
}

}  // namespace

void bind_uv_sample(pybind11::module_& m) {
  bind<float>(m, "float32");
  bind<double>(m, "float64");
}

}  // namespace facecore
