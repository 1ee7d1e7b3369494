// The device side of launch.h: included by .cu files only.
#pragma once
#include <cuda_runtime.h>

#include <string>

#include "core/launch.h"

namespace facecore {

inline void check_cuda(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

template <class Body> __global__ void launch_kernel(int64_t num_items, int64_t total, const Body body) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; i < total; i += stride)
    body(i / num_items, i % num_items);
}

template <class Body>
void launch_cuda(int64_t num_images, int64_t num_items, const Body& body, std::uintptr_t stream) {
  constexpr int64_t kThreads = 256, kMaxBlocks = 1 << 20;
  const int64_t total = num_images * num_items;
  const int64_t blocks = std::min((total + kThreads - 1) / kThreads, kMaxBlocks);
  launch_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, reinterpret_cast<cudaStream_t>(stream)>>>(num_items,
                                                                                                        total, body);
  check_cuda(cudaGetLastError(), "facecore kernel launch");
}

}  // namespace facecore
