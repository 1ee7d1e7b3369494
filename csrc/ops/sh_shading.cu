// CUDA build of sh_shading: the bodies of sh_shading.h, nothing else.
#include "ops/sh_shading.h"

#include "core/launch.cuh"

namespace facecore {
template void launch_cuda(int64_t, int64_t, const ShShading<float>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const ShShading<double>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const ShShadingBackward<float>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const ShShadingBackward<double>&, std::uintptr_t);
}  // namespace facecore
