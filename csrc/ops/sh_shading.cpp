// CPU build and Python binding of sh_shading.
#include "ops/sh_shading.h"

#include <string>

#include "core/binding.h"

namespace facecore {
namespace {

template <class T> void bind(pybind11::module_& m, const std::string& dtype) {
  using Release = pybind11::call_guard<pybind11::gil_scoped_release>;
  m.def(("sh_shading_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t p, Address normals, Address sh_coefficients, Address out) {
          launch(device, n, p, ShShading<T>{p, normals, sh_coefficients, out});
        },
        Release());
  m.def(("sh_shading_backward_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t p, int64_t num_blocks, int64_t block_size, Address grad_out,
           Address normals, Address sh_coefficients, Address grad_normals, Address partial) {
          const ShShadingBackward<T> body{p,       num_blocks,      block_size,   grad_out,
                                          normals, sh_coefficients, grad_normals, partial};
          launch(device, n, num_blocks, body, Sharing::kNone, 1);
        },
        Release());
}

}  // namespace

void bind_sh_shading(pybind11::module_& m) {
  m.attr("sh_constants") = pybind11::make_tuple(kShBand0, kShBand1, kShBand2, kShH6, kShH8);
  bind<float>(m, "float32");
  bind<double>(m, "float64");
}

}  // namespace facecore
