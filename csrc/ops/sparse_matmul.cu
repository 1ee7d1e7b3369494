// CUDA build of sparse_matmul: the body of sparse_matmul.h, nothing else.
#include "ops/sparse_matmul.h"

#include "core/launch.cuh"

namespace facecore {
template void launch_cuda(int64_t, int64_t, const SparseRowsBody<float>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const SparseRowsBody<double>&, std::uintptr_t);
}  // namespace facecore
