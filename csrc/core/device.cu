// What the CUDA runtime says about this machine, and which device its launches go to.
#include "core/device.h"

#include "core/launch.cuh"

namespace facecore {

std::pair<int, std::string> cuda_device_count() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    cudaGetLastError();  // clears the error, so that it is not reported by the next launch
    return {0, cudaGetErrorString(status)};
  }
  return {count, ""};
}

void select_cuda_device(const Device& device) {
  check_cuda(cudaSetDevice(static_cast<int>(device.index)), "facecore: selecting the CUDA device");
}

}  // namespace facecore
