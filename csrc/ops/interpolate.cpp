// CPU build and Python binding of interpolate.
#include "ops/interpolate.h"

#include "core/binding.h"

namespace facecore {
namespace {

template <class T> void bind(pybind11::module_& m, const std::string& dtype) {
  using Release = pybind11::call_guard<pybind11::gil_scoped_release>;
  m.def(("interpolate_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t p, int64_t v, int64_t t, int64_t c, Address attributes, Address triangles,
           Address triangle_id, Address barycentric, Address out) {
          launch(device, n, p, Interpolate<T>{p, v, t, c, attributes, triangles, triangle_id, barycentric, out});
        },
        Release());
  m.def(("interpolate_backward_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t p, int64_t v, int64_t t, int64_t c, Address grad_out, Address attributes,
           Address triangles, Address triangle_id, Address barycentric, Address grad_attributes,
           Address grad_barycentric) {
          const Interpolate<T> forward{p, v, t, c, attributes, triangles, triangle_id, barycentric, nullptr};
          launch(device, n, p, InterpolateBackward<T>{forward, grad_out, grad_attributes, grad_barycentric},
                 grad_attributes.value ? Sharing::kPerImage : Sharing::kNone);
        },
        Release());
}

}  // namespace

void bind_interpolate(pybind11::module_& m) {
  bind<float>(m, "float32");
  bind<double>(m, "float64");
}

}  // namespace facecore
