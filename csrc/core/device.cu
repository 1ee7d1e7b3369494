// What the CUDA runtime says about this machine.
#include <cuda_runtime.h>

#include "core/device.h"

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

}  // namespace facecore
