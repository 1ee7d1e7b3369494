// The recurrences of chebyshev_conv as sequences of sparse steps (any device), and their Python binding.
#include "ops/chebyshev_conv.h"

#include <string>

#include "core/binding.h"

namespace facecore {
namespace {

template <class T> struct Block {  // [N, rows, width] inside a larger array
  T* data;
  int64_t row_stride, image_stride;
  operator Block<const T>() const { return {data, row_stride, image_stride}; }
};

// One sparse step put together: out = alpha * first + second + what is added (simd/sparse_rows.h), for all images.
template <class T> class Step {
 public:
  Step(const ChebyshevGraph<T>& graph, T alpha, const CsrMatrix<T>& matrix, Block<const T> x) {
    rows_.width = rows_.stored = graph.width;
    rows_.alpha = alpha;
    rows_.product = product(matrix, x);
    rows_.negative_slope = T(1);
  }
  Step& also(const CsrMatrix<T>& matrix, Block<const T> x) {
    rows_.second = product(matrix, x);
    return *this;
  }
  Step& add(T coefficient, Block<const T> x) {
    if (x.data != nullptr) rows_.addends[rows_.num_addends++] = {x.data, x.row_stride, x.image_stride, coefficient};
    return *this;
  }
  Step& store(int64_t stored) {
    rows_.stored = stored;
    return *this;
  }
  Step& copy(Block<T> block) {
    rows_.copy = block.data;
    rows_.copy_stride = block.row_stride;
    rows_.copy_image = block.image_stride;
    return *this;
  }
  Step& rectify(T negative_slope) {
    rows_.negative_slope = negative_slope;
    return *this;
  }
  void run(const Device& device, int64_t num_images, int64_t num_rows, Block<T> out) {
    rows_.out = out.data;
    rows_.out_stride = out.row_stride;
    rows_.out_image = out.image_stride;
    launch_rows(device, num_images, num_rows, rows_);
  }

 private:
  static SparseProduct<T> product(const CsrMatrix<T>& matrix, Block<const T> x) {
    return {matrix.crow_indices, matrix.col_indices, matrix.values, x.data, x.row_stride, x.image_stride};
  }
  SparseRows<T> rows_{};
};

template <class T> Block<T> term(const ChebyshevGraph<T>& graph, T* terms, int64_t k) {
  const int64_t row = graph.num_terms * graph.width;
  return {terms + k * graph.width, row, graph.num_samples * row};
}

template <class T> Block<T> buffer(const ChebyshevGraph<T>& graph, T* work, int64_t k) {
  const int64_t image = graph.num_vertices * graph.width;
  return {work + (k % 2) * graph.num_images * image, graph.width, image};
}

}  // namespace

template <class T>
void chebyshev_terms(const Device& device, const ChebyshevGraph<T>& graph, const T* x, T* work, T* terms) {
  const bool resampled = graph.resample.crow_indices != nullptr;
  const int64_t n = graph.num_images;
  Block<const T> last{x, graph.width, graph.num_vertices * graph.width}, before{nullptr, 0, 0};
  for (int64_t k = 0; k < graph.num_terms; ++k) {
    if (k > 0) {  // T_k overwrites T_{k-2}: an element is read before it is written
      // A sparse product reads rows of the buffer, which lie close together, and not of the terms, which lie K apart.
      const bool to_terms = !resampled && k == graph.num_terms - 1;
      const Block<T> next = to_terms ? term(graph, terms, k) : buffer(graph, work, k);
      Step<T> step(graph, T(k == 1 ? 1 : 2), graph.laplacian, last);
      if (!resampled && !to_terms) step.copy(term(graph, terms, k));
      step.add(T(-1), before).run(device, n, graph.num_vertices, next);
      before = last;
      last = next;
    }
    if (resampled) Step<T>(graph, T(1), graph.resample, last).run(device, n, graph.num_samples, term(graph, terms, k));
  }
}

template <class T>
void chebyshev_sum(const Device& device, const ChebyshevGraph<T>& graph, const T* terms, const T* bias, T* work,
                   int64_t stored, T negative_slope, T* out) {
  const bool resampled = graph.resample.crow_indices != nullptr;
  const int64_t n = graph.num_images, last = graph.num_terms - 1;
  Block<const T> b1 = term(graph, const_cast<T*>(terms), last), b2{nullptr, 0, 0};  // b_{k+1}, b_{k+2}
  if (resampled) {
    const Block<T> b = buffer(graph, work, last);
    Step<T>(graph, T(1), graph.resample, b1).run(device, n, graph.num_vertices, b);
    b1 = b;
  }
  for (int64_t k = last - 1; k >= 0; --k) {
    Step<T> step(graph, T(k == 0 ? 1 : 2), graph.laplacian, b1);
    const Block<const T> h = term(graph, const_cast<T*>(terms), k);
    if (resampled) step.also(graph.resample, h);
    else step.add(T(1), h);
    step.add(T(-1), b2);
    if (k == 0) step.add(T(1), {bias, 0, 0}).store(stored).rectify(negative_slope);
    const Block<T> b = k == 0 ? Block<T>{out, stored, graph.num_vertices * stored} : buffer(graph, work, k);
    step.run(device, n, graph.num_vertices, b);  // b_k may overwrite b_{k+2}: an element is read before it is written
    b2 = b1;
    b1 = b;
  }
}

namespace {

template <class T> void bind(pybind11::module_& m, const std::string& dtype) {
  using Release = pybind11::call_guard<pybind11::gil_scoped_release>;
  m.def(("chebyshev_terms_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t v, int64_t s, int64_t k, int64_t width, Address crow_indices,
           Address col_indices, Address values, Address resample_crow_indices, Address resample_col_indices,
           Address resample_values, Address x, Address work, Address terms) {
          const CsrMatrix<T> resample{resample_crow_indices, resample_col_indices, resample_values};
          const ChebyshevGraph<T> graph{n, v, k, width, {crow_indices, col_indices, values}, resample, s};
          chebyshev_terms<T>(device, graph, x, work, terms);
        },
        Release());
  m.def(("chebyshev_sum_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t v, int64_t s, int64_t k, int64_t width, int64_t stored,
           double negative_slope, Address crow_indices, Address col_indices, Address values,
           Address resample_crow_indices, Address resample_col_indices, Address resample_values, Address terms,
           Address bias, Address work, Address out) {
          const CsrMatrix<T> resample{resample_crow_indices, resample_col_indices, resample_values};
          const ChebyshevGraph<T> graph{n, v, k, width, {crow_indices, col_indices, values}, resample, s};
          chebyshev_sum<T>(device, graph, terms, bias, work, stored, static_cast<T>(negative_slope), out);
        },
        Release());
}

}  // namespace

void bind_chebyshev_conv(pybind11::module_& m) {
  bind<float>(m, "float32");
  bind<double>(m, "float64");
}

}  // namespace facecore
