// CPU build and Python binding of sparse_matmul.
#include "ops/sparse_matmul.h"

#include <string>

#include "core/binding.h"

namespace facecore {
namespace {

template <class T> void bind(pybind11::module_& m, const std::string& dtype) {
  m.def(("sparse_matmul_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t num_rows, int64_t num_columns, int64_t width, Address x,
           Address crow_indices, Address col_indices, Address values, Address out) {
          const SparseProduct<T> product{crow_indices, col_indices, values, x, width, num_columns * width};
          const SparseRows<T> rows{width, width,   T(1), product, {}, 0, {}, out, width, num_rows * width,
                                   T(1),  nullptr, 0,    0};
          launch_rows(device, n, num_rows, rows);
        },
        pybind11::call_guard<pybind11::gil_scoped_release>());
}

}  // namespace

void bind_sparse_matmul(pybind11::module_& m) {
  bind<float>(m, "float32");
  bind<double>(m, "float64");
}

}  // namespace facecore
