// CPU build and Python binding of sparse_matmul.
#include "ops/sparse_matmul.h"

#include "core/binding.h"

namespace facecore {

template <class T>
void run_sparse_step(const Device& device, int64_t num_images, int64_t num_rows, const SparseStep<T>& step) {
  if (num_images <= 0 || num_rows <= 0 || step.rows.stored <= 0) return;
  if (!device.is_cpu()) {
    launch(device, num_images, num_rows * step.rows.stored, step);
    return;
  }
  constexpr int64_t kRows = 256;                 // of a block: some tens of microseconds of work
  constexpr int64_t kSerialElements = 1 << 14;   // below, starting threads costs more than it saves
  const auto kernel = FACECORE_SIMD(SparseRowsKernel<T>*, sparse_rows);
  const int64_t blocks = (num_rows + kRows - 1) / kRows;
#pragma omp parallel for schedule(static) if (num_images * num_rows * step.rows.width > kSerialElements)
  for (int64_t i = 0; i < num_images * blocks; ++i) {
    const int64_t begin = i % blocks * kRows;
    kernel(step.of_image(i / blocks), begin, std::min(begin + kRows, num_rows));
  }
}
template void run_sparse_step(const Device&, int64_t, int64_t, const SparseStep<float>&);
template void run_sparse_step(const Device&, int64_t, int64_t, const SparseStep<double>&);

namespace {

template <class T> void bind(pybind11::module_& m, const std::string& dtype) {
  m.def(("sparse_matmul_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t num_rows, int64_t num_columns, int64_t width, Address x,
           Address crow_indices, Address col_indices, Address values, Address out) {
          const SparseProduct<T> product{crow_indices, col_indices, values, x, width};
          const SparseRows<T> rows{width, width, T(1), product, {}, 0, {}, out, width};
          run_sparse_step(device, n, num_rows, SparseStep<T>{rows, num_columns * width, 0, num_rows * width, {}});
        }, pybind11::call_guard<pybind11::gil_scoped_release>());
}

}  // namespace

void bind_sparse_matmul(pybind11::module_& m) {
  bind<float>(m, "float32");
  bind<double>(m, "float64");
}

}  // namespace facecore
