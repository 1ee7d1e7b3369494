// CUDA build of uv_unwrap: the bodies of uv_unwrap.h, nothing else.
#include "ops/uv_unwrap.h"

#include "core/launch.cuh"

namespace facecore {
template void launch_cuda(int64_t, int64_t, const DepthRanges<float>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const DepthRanges<double>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const UvUnwrap<float>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const UvUnwrap<double>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const UvUnwrapBackward<float>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const UvUnwrapBackward<double>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const UvUnwrapTexelGradient<float>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const UvUnwrapTexelGradient<double>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const UvUnwrapVertexGradient<float>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const UvUnwrapVertexGradient<double>&, std::uintptr_t);
}  // namespace facecore
