// The extension module facecore._C: one line per op.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <limits>
#include <memory>

#include "core/device.h"
#include "core/simd.h"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace facecore {
void bind_chebyshev_conv(pybind11::module_&);
void bind_flattening(pybind11::module_&);
void bind_interpolate(pybind11::module_&);
void bind_landmark(pybind11::module_&);
void bind_rasterize(pybind11::module_&);
void bind_reconstruction(pybind11::module_&);
void bind_sh_shading(pybind11::module_&);
void bind_shape(pybind11::module_&);
void bind_simplify(pybind11::module_&);
void bind_skin(pybind11::module_&);
void bind_smoothness(pybind11::module_&);
void bind_sparse_matmul(pybind11::module_&);
void bind_surface_shading(pybind11::module_&);
void bind_symmetry(pybind11::module_&);
void bind_uv_sample(pybind11::module_&);
void bind_uv_unwrap(pybind11::module_&);
void bind_vertex_normals(pybind11::module_&);

#ifdef FACECORE_SANITIZE
// A fault that the sanitizers are to report: python_tests/test_sanitizers.py sees so that they watch.
int plant_fault(const std::string& kind) {
  volatile int number = 4;
  if (kind == "address") {
    const std::unique_ptr<int[]> four(new int[4]{});
    return four[number];
  }
  number = std::numeric_limits<int>::max();
  return number + 1;
}
#endif

#ifndef FACECORE_WITH_CUDA
std::pair<int, std::string> cuda_device_count() { return {0, "built without CUDA kernels"}; }
#endif
}  // namespace facecore

PYBIND11_MODULE(_C, m) {
  using namespace facecore;
  m.doc() = "Compiled kernels of facecore. Called by facecore.ops only: arguments are not checked here.";
#ifdef FACECORE_WITH_CUDA
  m.attr("built_with_cuda") = true;
#else
  m.attr("built_with_cuda") = false;
#endif
  m.attr("compiler") = FACECORE_COMPILER;
  m.def("cuda_device_count", &cuda_device_count, "(number of CUDA devices, why there is none)");
  m.def("max_threads", [] {
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
  });
  m.def("simd_level", [] { return static_cast<int>(simd_level()); }, "the level in use: 0 base, 1 AVX2, 2 AVX-512");
  m.def("limit_simd_level", &limit_simd_level, "replaces the limit of FACECORE_ISA, returns the one before; for tests");
#ifdef FACECORE_SANITIZE
  m.def("plant_fault", &plant_fault);
#endif
  bind_chebyshev_conv(m);
  bind_flattening(m);
  bind_interpolate(m);
  bind_landmark(m);
  bind_rasterize(m);
  bind_reconstruction(m);
  bind_sh_shading(m);
  bind_shape(m);
  bind_simplify(m);
  bind_skin(m);
  bind_smoothness(m);
  bind_sparse_matmul(m);
  bind_surface_shading(m);
  bind_symmetry(m);
  bind_uv_sample(m);
  bind_uv_unwrap(m);
  bind_vertex_normals(m);
}
