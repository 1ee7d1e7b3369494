// Quadric edge collapse onto existing vertices: the coarse levels of a mesh hierarchy (METHODS 1.7). Host only.
#pragma once
#include <cstdint>
#include <vector>

namespace facecore {

struct SimplifiedMesh {
  std::vector<int32_t> kept;         // [K] vertices that remain, ascending indices of the input
  std::vector<int32_t> triangles;    // [S, 3] indices into `kept`, in the order of the input's triangles
  std::vector<int32_t> merged_into;  // [V] where each vertex went: index into `kept`, -1 if it had no triangle
};

// Collapses the cheapest edge until `target` vertices remain or no edge may collapse. Vertices without a triangle are
// dropped. Same input, same result, on every machine with IEEE doubles. Throws std::invalid_argument for an index out
// of range or a triangle that repeats a vertex.
SimplifiedMesh simplify(const float* vertices,     // [V, 3]
                        const int32_t* triangles,  // [T, 3]
                        int64_t num_vertices, int64_t num_triangles, int64_t target);

}  // namespace facecore
