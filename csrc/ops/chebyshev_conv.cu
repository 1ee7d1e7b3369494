// CUDA build of chebyshev_conv: the body of one step of its recurrences, nothing else.
#include "ops/chebyshev_conv.h"

#include "core/launch.cuh"

namespace facecore {
template void launch_cuda(int64_t, int64_t, const ChebyshevStep<float>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const ChebyshevStep<double>&, std::uintptr_t);
}  // namespace facecore
