// CUDA build of uv_sample: the bodies of uv_sample.h, nothing else.
#include "ops/uv_sample.h"

#include "core/launch.cuh"

namespace facecore {
template void launch_cuda(int64_t, int64_t, const UvSample<float>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const UvSample<double>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const UvSamplePointGradient<float>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const UvSamplePointGradient<double>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const UvSampleTextureGradient<float>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const UvSampleTextureGradient<double>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const UvSampleCells<float>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const UvSampleCells<double>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const SampleSums<float>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const SampleSums<double>&, std::uintptr_t);
}  // namespace facecore
