// The recurrences of chebyshev_conv as sequences of sparse steps (any device), and their Python binding.
#include "ops/chebyshev_conv.h"

#include "core/binding.h"

namespace facecore {
namespace {

template <class T> struct Block {  // [N, V, width] inside a larger array
  T* data;
  int64_t row_stride, image_stride;
};

template <class T> struct Term {
  Block<const T> block;
  T coefficient;
};

// out = alpha * L x + sum of the terms
template <class T, size_t count>
void step(const Device& device, const ChebyshevGraph<T>& graph, T alpha, Block<const T> x, const Term<T> (&terms)[count],
          Block<T> out) {
  static_assert(count <= kMaxAddends);
  SparseStep<T> result{};
  result.rows = {graph.width, graph.crow_indices, graph.col_indices, graph.values, x.data, x.row_stride,
                 alpha,       0,                  {},                out.data,     out.row_stride};
  result.x_image = x.image_stride;
  result.out_image = out.image_stride;
  for (const Term<T>& term : terms) {
    if (term.block.data == nullptr) continue;
    const int32_t i = result.rows.num_addends++;
    result.rows.addends[i] = {term.block.data, term.block.row_stride, term.coefficient};
    result.addend_image[i] = term.block.image_stride;
  }
  run_sparse_step(device, graph.num_images, graph.num_vertices, result);
}

}  // namespace

template <class T> void chebyshev_terms(const Device& device, const ChebyshevGraph<T>& graph, T* terms) {
  const int64_t row = graph.num_terms * graph.width, image = graph.num_vertices * row;
  for (int64_t k = 1; k < graph.num_terms; ++k) {
    const Block<const T> last{terms + (k - 1) * graph.width, row, image};
    const Block<const T> before{k == 1 ? nullptr : terms + (k - 2) * graph.width, row, image};
    step(device, graph, T(k == 1 ? 1 : 2), last, {Term<T>{before, T(-1)}}, Block<T>{terms + k * graph.width, row, image});
  }
}

template <class T>
void chebyshev_sum(const Device& device, const ChebyshevGraph<T>& graph, const T* terms, const T* bias, T* work, T* out) {
  const int64_t row = graph.num_terms * graph.width, image = graph.num_vertices * row;
  const int64_t compact = graph.num_vertices * graph.width;
  const int64_t last = graph.num_terms - 1;
  const auto h = [&](int64_t k) { return Block<const T>{terms + k * graph.width, row, image}; };
  Block<const T> b1 = h(last), b2{nullptr, 0, 0};  // b_{k+1} and b_{k+2}; the latter starts as zero
  for (int64_t k = last - 1; k > 0; --k) {  // b_k may overwrite b_{k+2}: an element is read before it is written
    const Block<T> b{work + (k % 2) * graph.num_images * compact, graph.width, compact};
    step(device, graph, T(2), b1, {Term<T>{h(k), T(1)}, Term<T>{b2, T(-1)}}, b);
    b2 = b1;
    b1 = {b.data, b.row_stride, b.image_stride};
  }
  step(device, graph, T(1), b1, {Term<T>{h(0), T(1)}, Term<T>{b2, T(-1)}, Term<T>{{bias, 0, 0}, T(1)}},
       Block<T>{out, graph.width, compact});
}

namespace {

template <class T> void bind(pybind11::module_& m, const std::string& dtype) {
  using Release = pybind11::call_guard<pybind11::gil_scoped_release>;
  m.def(("chebyshev_terms_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t v, int64_t k, int64_t width, Address crow_indices, Address col_indices,
           Address values, Address terms) {
          chebyshev_terms<T>(device, {n, v, k, width, crow_indices, col_indices, values}, terms);
        }, Release());
  m.def(("chebyshev_sum_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t v, int64_t k, int64_t width, Address crow_indices, Address col_indices,
           Address values, Address terms, Address bias, Address work, Address out) {
          chebyshev_sum<T>(device, {n, v, k, width, crow_indices, col_indices, values}, terms, bias, work, out);
        }, Release());
}

}  // namespace

void bind_chebyshev_conv(pybind11::module_& m) {
  bind<float>(m, "float32");
  bind<double>(m, "float64");
}

}  // namespace facecore
