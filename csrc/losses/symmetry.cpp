// Traversal of the symmetry losses (CPU), and their Python binding.
#include "losses/symmetry.h"

#include <string>
#include <vector>

#include "core/binding.h"

namespace facecore {
namespace {

constexpr int64_t kSerialNumbers = 1 << 14;  // values below which starting threads costs more than it saves
constexpr int64_t kVertices = 512;           // of a block, whose sum goes to a double

template <class T> void check_opposite(const VertexMirror<T>& m) {
  for (int64_t v = 0; v < m.num_vertices; ++v)
    if (m.opposite[v] < 0 || m.opposite[v] >= m.num_vertices)
      throw pybind11::value_error("mirror_map must hold vertices in [0, " + std::to_string(m.num_vertices) + "), got " +
                                  std::to_string(m.opposite[v]) + " at " + std::to_string(v));
}

template <class T> T sign(T d) { return static_cast<T>((d > T(0)) - (d < T(0))); }

// channels: the number of channels where the compiler knows it, else 0
template <class T, int channels> double block_sum(const VertexMirror<T>& m, const T* values, int64_t begin) {
  const int64_t c_count = channels ? channels : m.num_channels, end = std::min(begin + kVertices, m.num_vertices);
  T sums[4] = {};
  for (int64_t v = begin; v < end; ++v)
    for (int64_t c = 0; c < c_count; ++c)
      sums[c & 3] += std::abs(values[v * c_count + c] - values[m.opposite[v] * c_count + c]);
  return double(sums[0]) + sums[1] + sums[2] + sums[3];
}

// Where the mirror of the mirror is the vertex itself, both terms with vertex v have the same slope.
template <class T, int channels>
void block_gradient(const VertexMirror<T>& m, const T* values, T scale, T* grad, int64_t begin) {
  const int64_t c_count = channels ? channels : m.num_channels, end = std::min(begin + kVertices, m.num_vertices);
  for (int64_t v = begin; v < end; ++v)
    for (int64_t c = 0; c < c_count; ++c)
      grad[v * c_count + c] = 2 * scale * sign(values[v * c_count + c] - values[m.opposite[v] * c_count + c]);
}

template <class T> void any_gradient(const VertexMirror<T>& m, const T* values, T scale, T* grad) {
  std::fill(grad, grad + m.num_vertices * m.num_channels, T(0));
  for (int64_t v = 0; v < m.num_vertices; ++v)
    for (int64_t c = 0; c < m.num_channels; ++c) {
      const int64_t there = m.opposite[v] * m.num_channels + c;
      const T slope = scale * sign(values[v * m.num_channels + c] - values[there]);
      grad[v * m.num_channels + c] += slope;
      grad[there] -= slope;
    }
}

template <class T> bool is_involution(const VertexMirror<T>& m) {
  for (int64_t v = 0; v < m.num_vertices; ++v)
    if (m.opposite[m.opposite[v]] != v) return false;
  return true;
}

template <class T> const uint8_t* valid_row(const TextureMirror<T>& m, int64_t image, int64_t row) {
  return m.valid ? m.valid + image * m.valid_image + row * m.width : nullptr;
}

}  // namespace

template <class T> void vertex_symmetry(const VertexMirror<T>& m, T* value) {
  check_opposite(m);
  const int64_t blocks = (m.num_vertices + kVertices - 1) / kVertices, image_size = m.num_vertices * m.num_channels;
  std::vector<double> sums(m.num_images * blocks);
#pragma omp parallel for schedule(static) if (m.num_images * image_size > kSerialNumbers)
  for (int64_t i = 0; i < m.num_images * blocks; ++i) {
    const T* values = m.values + i / blocks * image_size;
    const int64_t begin = i % blocks * kVertices;
    sums[i] = m.num_channels == 3 ? block_sum<T, 3>(m, values, begin) : block_sum<T, 0>(m, values, begin);
  }
  double total = 0;
  for (double sum : sums) total += sum;
  *value = static_cast<T>(m.scale * total);
}

template <class T> void vertex_symmetry_backward(const VertexMirror<T>& m, const T* grad_out, T* grad) {
  check_opposite(m);
  const T scale = static_cast<T>(m.scale * *grad_out);
  const bool involution = is_involution(m);
  const int64_t blocks = involution ? (m.num_vertices + kVertices - 1) / kVertices : 1;
  const int64_t image_size = m.num_vertices * m.num_channels;
#pragma omp parallel for schedule(static) if (m.num_images * image_size > kSerialNumbers)
  for (int64_t i = 0; i < m.num_images * blocks; ++i) {
    const int64_t first = i / blocks * image_size, begin = i % blocks * kVertices;
    const T* values = m.values + first;
    if (!involution) any_gradient(m, values, scale, grad + first);
    else if (m.num_channels == 3) block_gradient<T, 3>(m, values, scale, grad + first, begin);
    else block_gradient<T, 0>(m, values, scale, grad + first, begin);
  }
}

template <class T> void texture_symmetry(const TextureMirror<T>& m, T* value, T* scales) {
  const int64_t rows = m.num_images * m.height, plane = m.height * m.width;
  std::vector<double> sums(rows);
  std::vector<int64_t> counts(rows);
  const auto kernel = FACECORE_SIMD(double (*)(const MirrorRow<T>&), mirror_sum);
  const auto count = FACECORE_SIMD(int64_t (*)(int64_t, const uint8_t*), mirror_count);
#pragma omp parallel for schedule(static) if (rows * m.width * m.num_channels > kSerialNumbers)
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t image = i / m.height, row = i % m.height;
    const uint8_t* valid = valid_row(m, image, row);
    counts[i] = m.width;
    if (valid) counts[i] = 2 * count(m.width, valid) + (m.width % 2 && valid[m.width / 2]);
    for (int64_t c = 0; c < m.num_channels; ++c)
      sums[i] += kernel({m.width, m.texture + (image * m.num_channels + c) * plane + row * m.width, valid});
  }
  double total = 0;
  for (int64_t n = 0; n < m.num_images; ++n) {
    double sum = 0;
    int64_t texels = 0;
    for (int64_t row = 0; row < m.height; ++row) sum += sums[n * m.height + row], texels += counts[n * m.height + row];
    // each pair is there twice, from either side
    const double numbers = double(std::max<int64_t>(m.num_channels, 1)) * std::max<int64_t>(texels, 1);
    const double scale = 2.0 / (double(m.num_images) * numbers);
    scales[n] = static_cast<T>(scale);
    total += scale * sum;
  }
  *value = static_cast<T>(total);
}

template <class T>
void texture_symmetry_backward(const TextureMirror<T>& m, const T* grad_out, const T* scales, T* grad) {
  const int64_t rows = m.num_images * m.height, plane = m.height * m.width;
  const auto kernel = FACECORE_SIMD(void (*)(const MirrorRow<T>&, T, T*), mirror_gradient);
#pragma omp parallel for schedule(static) if (rows * m.width * m.num_channels > kSerialNumbers)
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t image = i / m.height, row = i % m.height;
    for (int64_t c = 0; c < m.num_channels; ++c) {
      const int64_t first = (image * m.num_channels + c) * plane + row * m.width;
      kernel({m.width, m.texture + first, valid_row(m, image, row)}, *grad_out * scales[image], grad + first);
    }
  }
}

namespace {

template <class T> void bind(pybind11::module_& m, const std::string& dtype) {
  using Release = pybind11::call_guard<pybind11::gil_scoped_release>;
  m.def(("vertex_symmetry_" + dtype).c_str(),
        [](Device, int64_t n, int64_t v, int64_t c, double scale, Address values, Address opposite, Address value) {
          vertex_symmetry<T>({n, v, c, values, opposite, scale}, value);
        },
        Release());
  m.def(("vertex_symmetry_backward_" + dtype).c_str(),
        [](Device, int64_t n, int64_t v, int64_t c, double scale, Address grad_out, Address values, Address opposite,
           Address grad) { vertex_symmetry_backward<T>({n, v, c, values, opposite, scale}, grad_out, grad); },
        Release());
  m.def(("texture_symmetry_" + dtype).c_str(),
        [](Device, int64_t n, int64_t c, int64_t h, int64_t w, int64_t valid_image, Address texture, Address valid,
           Address value,
           Address scales) { texture_symmetry<T>({n, c, h, w, texture, valid, valid_image}, value, scales); },
        Release());
  m.def(("texture_symmetry_backward_" + dtype).c_str(),
        [](Device, int64_t n, int64_t c, int64_t h, int64_t w, int64_t valid_image, Address grad_out, Address texture,
           Address valid, Address scales, Address grad) {
          texture_symmetry_backward<T>({n, c, h, w, texture, valid, valid_image}, grad_out, scales, grad);
        },
        Release());
}

}  // namespace

void bind_symmetry(pybind11::module_& m) {
  bind<float>(m, "float32");
  bind<double>(m, "float64");
}

}  // namespace facecore
