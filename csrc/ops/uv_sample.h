// out[n,p,c] = bilinear texture[n,c] at uv[n,p], v upwards: x = U Wu, y = (1 - V) Hu, the border continued
// (METHODS 1.9)
#pragma once
#include "core/sample_sums.h"

namespace facecore {

// One set of points for all images, or one per image.
template <class T> struct UvPoints {
  int64_t num_points, height, width;
  bool shared;
  const T* uv;  // [1 or N, P, 2]

  // False for NaN, where the value is 0 and so are the gradients. Infinity is a far border.
  FACECORE_HD bool place(int64_t image, int64_t point, T* x, T* y) const {
    const T* p = uv + 2 * ((shared ? 0 : image) * num_points + point);
    const T w = static_cast<T>(width), h = static_cast<T>(height);
    *x = p[0] * w;
    *y = (T(1) - p[1]) * h;
    if (!(*x == *x) || !(*y == *y)) return false;
    *x = *x < T(0) ? T(0) : (*x > w ? w : *x);  // the value is constant from here to half a texel inside
    *y = *y < T(0) ? T(0) : (*y > h ? h : *y);
    return true;
  }
};

template <class T> struct UvSample {  // item = point
  UvPoints<T> points;
  int64_t num_channels;
  const T* texture;  // [N, C, Hu, Wu]
  T* out;            // [N, P, C]

  FACECORE_HD void operator()(int64_t image, int64_t point) const {
    T x, y;
    T* result = out + (image * points.num_points + point) * num_channels;
    if (!points.place(image, point, &x, &y)) {
      for (int64_t c = 0; c < num_channels; ++c) result[c] = T(0);
      return;
    }
    const Sample<T> sample(x, y, points.height, points.width);
    const T* plane = texture + image * num_channels * points.height * points.width;
    for (int64_t c = 0; c < num_channels; ++c, plane += points.height * points.width) result[c] = sample.value(plane);
  }
};

template <class T> struct UvSamplePointGradient {  // item = point of a set
  UvPoints<T> points;
  int64_t num_images, num_channels;
  const T* grad_out;  // [N, P, C]
  const T* texture;   // [N, C, Hu, Wu]
  T* grad_uv;         // [1 or N, P, 2]

  FACECORE_HD void operator()(int64_t set, int64_t point) const {
    T x, y, grad_x = T(0), grad_y = T(0);
    if (points.place(set, point, &x, &y)) {
      const Sample<T> sample(x, y, points.height, points.width);
      const int64_t first = points.shared ? 0 : set, last = points.shared ? num_images : set + 1;
      for (int64_t image = first; image < last; ++image) {
        const T* plane = texture + image * num_channels * points.height * points.width;
        const T* grad = grad_out + (image * points.num_points + point) * num_channels;
        for (int64_t c = 0; c < num_channels; ++c, plane += points.height * points.width)
          sample.position_gradient(plane, grad[c], &grad_x, &grad_y);
      }
    }
    T* result = grad_uv + 2 * (set * points.num_points + point);
    result[0] = static_cast<T>(points.width) * grad_x;
    result[1] = -static_cast<T>(points.height) * grad_y;
  }
};

template <class T> struct UvSampleTextureGradient {  // item = point
  UvPoints<T> points;
  int64_t num_channels;
  const T* grad_out;  // [N, P, C]
  T* grad_texture;    // [N, C, Hu, Wu], zero on entry

  FACECORE_HD void operator()(int64_t image, int64_t point) const {
    T x, y;
    if (!points.place(image, point, &x, &y)) return;
    const Sample<T> sample(x, y, points.height, points.width);
    const int64_t size = points.height * points.width;
    const T* grad = grad_out + (image * points.num_points + point) * num_channels;
    for (int64_t c = 0; c < num_channels; ++c)
      sample.add_to_plane(grad_texture + (image * num_channels + c) * size, grad[c]);
  }
};

template <class T> struct UvSampleCells {  // item = point; for the gradient of the texture without atomics
  UvPoints<T> points;
  SampleCells<T> cells;

  FACECORE_HD void operator()(int64_t image, int64_t point) const {
    T x, y;
    const int64_t item = image * points.num_points + point;
    if (points.place(image, point, &x, &y))
      cells.set(item, sample_axis<T>(x, static_cast<T>(points.width)),
                sample_axis<T>(y, static_cast<T>(points.height)));
    else cells.set_none(item);
  }
};

}  // namespace facecore
