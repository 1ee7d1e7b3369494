// CUDA build of vertex_normals: the bodies of vertex_normals.h, nothing else.
#include "ops/vertex_normals.h"

#include "core/launch.cuh"

namespace facecore {
template void launch_cuda(int64_t, int64_t, const TriangleNormals<float>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const TriangleNormals<double>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const VertexNormals<float>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const VertexNormals<double>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const VertexNormalsSumGradient<float>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const VertexNormalsSumGradient<double>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const VertexNormalsTriangleGradient<float>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const VertexNormalsTriangleGradient<double>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const VertexNormalsVertexGradient<float>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const VertexNormalsVertexGradient<double>&, std::uintptr_t);
}  // namespace facecore
