// CPU build and Python binding of vertex_normals.
#include "ops/vertex_normals.h"

#include <string>
#include <vector>

#include "core/binding.h"
#include "core/owners.h"
#include "simd/mesh_normals.h"

namespace facecore {
namespace {

// Refuses indices that are not vertices: they would be read and written out of bounds.
void check_triangles(int64_t num_vertices, int64_t num_triangles, const int32_t* triangles) {
  bool good = true;
  for (int64_t i = 0; i < 3 * num_triangles; ++i) good &= triangles[i] >= 0 && triangles[i] < num_vertices;
  for (int64_t i = 0; !good; ++i)
    if (triangles[i] < 0 || triangles[i] >= num_vertices)
      throw std::invalid_argument("triangles must hold vertex indices from 0 to " + std::to_string(num_vertices - 1) +
                                  ", got " + std::to_string(triangles[i]) + " in triangle " + std::to_string(i / 3));
}

// The bands of triangles that threads share (core/owners.h).
struct Bands {
  int64_t count;
  Owners owners;
  std::vector<std::vector<int32_t>> foreign;  // of each band, its triangles with a vertex of an earlier one, ascending

  Bands(int64_t threads, int64_t num_vertices, int64_t num_triangles, const int32_t* triangles)
      : count(num_triangles < kParallelGrain ? 1 : std::min(threads, Owners::kMaxBands)),
        owners(count > 1 ? count : 0, count > 1 ? num_vertices : 0),
        foreign(count) {
    if (count <= 1) return;
#pragma omp parallel num_threads(static_cast<int>(count))
    {
#pragma omp for schedule(static)
      for (int64_t band = 0; band < count; ++band) {
        uint8_t* touched = owners.touched_by(band);
        const int64_t end = 3 * (num_triangles * (band + 1) / count);
        for (int64_t i = 3 * (num_triangles * band / count); i < end; ++i) touched[triangles[i]] = 1;
      }
#pragma omp for schedule(static)
      for (int64_t part = 0; part < count; ++part) owners.settle(part, count);
#pragma omp for schedule(static)
      for (int64_t band = 1; band < count; ++band) {
        const uint8_t* owner = owners.owner.data();
        for (int64_t t = num_triangles * band / count; t < num_triangles * (band + 1) / count; ++t) {
          const int32_t* corner = triangles + 3 * t;
          if (owner[corner[0]] < band || owner[corner[1]] < band || owner[corner[2]] < band)
            foreign[band].push_back(static_cast<int32_t>(t));
        }
      }
    }
  }
};

template <class T> struct NormalsKernels {
  NormalsVertexKernel<T>* load;
  NormalsTriangleKernel<T>* add;
  NormalsVertexKernel<T>* store;
};

template <class T>
void run_group(const NormalsKernels<T>& kernels, const NormalsImages<T>& images, const NormalsMesh<T>& mesh,
               const Bands& bands) {
  const int64_t v = mesh.num_vertices, t = mesh.num_triangles, count = bands.count;
  const uint8_t* owner = count > 1 ? bands.owners.owner.data() : nullptr;
#pragma omp parallel num_threads(static_cast<int>(count)) if (count > 1)
  {
#pragma omp for schedule(static)
    for (int64_t band = 0; band < count; ++band) kernels.load(images, v * band / count, v * (band + 1) / count);
#pragma omp for schedule(static)
    for (int64_t band = 0; band < count; ++band) {
      const int own = static_cast<int>(band);
      kernels.add(images, {t * band / count, t * (band + 1) / count, nullptr, mesh.triangles, owner, own});
      for (int64_t later = band + 1; later < count; ++later) {
        const std::vector<int32_t>& list = bands.foreign[later];
        kernels.add(images, {0, static_cast<int64_t>(list.size()), list.data(), mesh.triangles, owner, own});
      }
    }
#pragma omp for schedule(static)
    for (int64_t band = 0; band < count; ++band) kernels.store(images, v * band / count, v * (band + 1) / count);
  }
}

// How many images lie side by side: a vector that holds them all, or the widest one.
template <class T> int64_t normals_lanes(int64_t num_images) {
  const int64_t widest = FACECORE_SIMD(int64_t (*)(), normals_vector_bytes)() / static_cast<int64_t>(sizeof(T));
  if (num_images <= 1 || widest <= 1) return 1;
  int64_t lanes = 16 / sizeof(T);
  while (lanes < num_images && lanes < widest) lanes *= 2;
  return lanes;
}

template <class T>
void run_images(const NormalsKernels<T>& kernels, int64_t num_images, int64_t threads, const NormalsMesh<T>& mesh,
                const NormalsImages<T>& first) {
  check_triangles(mesh.num_vertices, mesh.num_triangles, mesh.triangles);
  const Bands bands(threads, mesh.num_vertices, mesh.num_triangles, mesh.triangles);
  const int64_t lanes = normals_lanes<T>(num_images);
  for (int64_t image = 0; image < num_images; image += lanes) {
    NormalsImages<T> group = first;
    group.lanes = lanes;
    group.count = std::min(lanes, num_images - image);
    const int64_t i = image * mesh.num_vertices;
    group.vertices += 3 * i, group.normals += 3 * i, group.inverse += i;
    if (group.grad_out) group.grad_out += 3 * i, group.grad_vertices += 3 * i;
    run_group(kernels, group, mesh, bands);
  }
}

template <class T> void bind(pybind11::module_& m, const std::string& dtype) {
  using Release = pybind11::call_guard<pybind11::gil_scoped_release>;
  // On CUDA `work` is [N, T, 4] and `side` absent; on the CPU both are [V, 3, lanes] for as many lanes as there may be.
  m.def(("vertex_normals_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t v, int64_t t, int64_t threads, Address vertices, Address triangles,
           Address corner_start, Address corners, Address work, Address side, Address out, Address inverse) {
          const NormalsMesh<T> mesh{v, t, vertices, triangles, corner_start, corners};
          if (device.is_cpu()) {
            const NormalsKernels<T> kernels{FACECORE_SIMD(NormalsVertexKernel<T>*, normals_load),
                                            FACECORE_SIMD(NormalsTriangleKernel<T>*, normals_add),
                                            FACECORE_SIMD(NormalsVertexKernel<T>*, normals_store)};
            run_images(kernels, n, threads, mesh,
                       {1, 1, v, vertices, out, inverse, nullptr, nullptr, side, nullptr, work});
            return;
          }
          launch(device, n, t, TriangleNormals<T>{mesh, work});
          launch(device, n, v, VertexNormals<T>{mesh, work, out, inverse});
        },
        Release());
  m.def(("vertex_normals_backward_" + dtype).c_str(),
        [](Device device, int64_t n, int64_t v, int64_t t, int64_t threads, Address grad_out, Address vertices,
           Address triangles, Address corner_start, Address corners, Address normals, Address inverse, Address work,
           Address side, Address grad_sum, Address grad_vertices) {
          const NormalsMesh<T> mesh{v, t, vertices, triangles, corner_start, corners};
          if (device.is_cpu()) {
            const NormalsKernels<T> kernels{FACECORE_SIMD(NormalsVertexKernel<T>*, normals_grad_load),
                                            FACECORE_SIMD(NormalsTriangleKernel<T>*, normals_grad_add),
                                            FACECORE_SIMD(NormalsVertexKernel<T>*, normals_grad_store)};
            run_images(kernels, n, threads, mesh,
                       {1, 1, v, vertices, normals, inverse, grad_out, grad_vertices, side, grad_sum, work});
            return;
          }
          launch(device, n, t, TriangleNormals<T>{mesh, work});
          launch(device, n, v, VertexNormalsSumGradient<T>{mesh, normals, inverse, grad_out, grad_sum});
          launch(device, n, t, VertexNormalsTriangleGradient<T>{mesh, grad_sum, work});
          launch(device, n, v, VertexNormalsVertexGradient<T>{mesh, work, grad_vertices});
        },
        Release());
}

}  // namespace

void bind_vertex_normals(pybind11::module_& m) {
  m.attr("normal_epsilon") = kNormalEpsilon;
  bind<float>(m, "float32");
  bind<double>(m, "float64");
}

}  // namespace facecore
