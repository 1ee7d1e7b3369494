// CUDA build of surface_shading: the bodies of surface_shading.h, nothing else.
#include "ops/surface_shading.h"

#include "core/launch.cuh"

namespace facecore {
template void launch_cuda(int64_t, int64_t, const SurfaceShading<float>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const SurfaceShading<double>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const SurfaceShadingBackward<float>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const SurfaceShadingBackward<double>&, std::uintptr_t);
}  // namespace facecore
