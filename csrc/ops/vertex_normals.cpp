// CPU build and Python binding of vertex_normals.
#include "ops/vertex_normals.h"

#include <string>

#include "core/binding.h"

namespace facecore {
namespace {

// The corners of every vertex by counting sort; on CUDA torch sorts. Refuses indices that are not vertices: they would
// be written out of bounds here.
void vertex_corners(int64_t num_vertices, int64_t num_triangles, const int32_t* triangles, int32_t* start,
                    int32_t* corners) {
  const int64_t num_corners = 3 * num_triangles;
  std::fill(start, start + num_vertices + 1, 0);
  for (int64_t i = 0; i < num_corners; ++i) {
    if (triangles[i] < 0 || triangles[i] >= num_vertices)
      throw std::invalid_argument("triangles must hold vertex indices from 0 to " + std::to_string(num_vertices - 1) +
                                  ", got " + std::to_string(triangles[i]) + " in triangle " + std::to_string(i / 3));
    ++start[triangles[i] + 1];
  }
  for (int64_t v = 0; v < num_vertices; ++v) start[v + 1] += start[v];
  for (int64_t i = 0; i < num_corners; ++i) corners[start[triangles[i]]++] = static_cast<int32_t>(i);
  for (int64_t v = num_vertices; v > 0; --v) start[v] = start[v - 1];  // each start has moved to the next one's place
  start[0] = 0;
}

template <class T> void bind(pybind11::module_& m, const std::string& dtype) {
  using Release = pybind11::call_guard<pybind11::gil_scoped_release>;
  m.def(("vertex_normals_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t v, int64_t t, Address vertices, Address triangles, Address corner_start,
           Address corners, Address unit, Address out) {
          const NormalsMesh<T> mesh{v, t, vertices, triangles, corner_start, corners};
          launch(device, n, t, TriangleNormals<T>{mesh, unit});
          launch(device, n, v, VertexNormals<T>{mesh, unit, out});
        },
        Release());
  m.def(("vertex_normals_backward_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t v, int64_t t, Address grad_out, Address vertices, Address triangles,
           Address corner_start, Address corners, Address unit, Address grad_sum, Address grad_vertices) {
          const NormalsMesh<T> mesh{v, t, vertices, triangles, corner_start, corners};
          launch(device, n, t, TriangleNormals<T>{mesh, unit});
          launch(device, n, v, VertexNormalsSumGradient<T>{mesh, unit, grad_out, grad_sum});
          launch(device, n, t, VertexNormalsTriangleGradient<T>{mesh, grad_sum, unit});
          launch(device, n, v, VertexNormalsVertexGradient<T>{mesh, unit, grad_vertices});
        },
        Release());
}

}  // namespace

void bind_vertex_normals(pybind11::module_& m) {
  m.attr("normal_epsilon") = kNormalEpsilon;
  m.def(
      "vertex_corners_int32",
      [](Device, int64_t num_vertices, int64_t num_triangles, Address triangles, Address start, Address corners) {
        vertex_corners(num_vertices, num_triangles, triangles, start, corners);
      },
      pybind11::call_guard<pybind11::gil_scoped_release>());
  bind<float>(m, "float32");
  bind<double>(m, "float64");
}

}  // namespace facecore
