// CUDA build of interpolate: the bodies of interpolate.h, nothing else.
#include "ops/interpolate.h"

#include "core/launch.cuh"

namespace facecore {
template void launch_cuda(int64_t, int64_t, const Interpolate<float>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const Interpolate<double>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const InterpolateBackward<float>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const InterpolateBackward<double>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const InterpolateVertexGradient<float>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const InterpolateVertexGradient<double>&, std::uintptr_t);
}  // namespace facecore
