// Runs body(image, item) for every image and item: an OpenMP loop on the host, a kernel on the device.
#pragma once
#include <algorithm>
#include <cstdint>
#include <stdexcept>

namespace facecore {

// Where an op runs: index -1 is the host; -2 is the host too, but by the bodies that a GPU runs and one item after the
// other, so that tests see them without one; otherwise a CUDA device and the raw handle of the current stream.
struct Device {
  int64_t index;
  std::uintptr_t stream;
  bool is_cpu() const { return index == -1; }
  bool is_emulated() const { return index == -2; }
};

constexpr int64_t kParallelGrain = 2048;  // items below which starting threads costs more than it saves

template <class Body> void launch_cpu(int64_t num_images, int64_t num_items, const Body& body, int64_t grain) {
#pragma omp parallel for collapse(2) schedule(static) if (num_images * num_items > grain)
  for (int64_t image = 0; image < num_images; ++image)
    for (int64_t item = 0; item < num_items; ++item) body(image, item);
}

// Defined in launch.cuh and instantiated by each op's .cu file.
template <class Body>
void launch_cuda(int64_t num_images, int64_t num_items, const Body& body, std::uintptr_t stream);

// Makes a device the calling thread's current one for the CUDA runtime that is linked in here, which is not torch's:
// launches go to that device.
void select_cuda_device(const Device& device);

[[noreturn]] inline void throw_no_cuda() {
  throw std::runtime_error(
      "facecore was built without CUDA kernels; rebuild it where nvcc is found (FACECORE_CUDA=ON)");
}

template <class Body>
void launch(const Device& device, int64_t num_images, int64_t num_items, const Body& body,
            int64_t grain = kParallelGrain) {
  if (num_images <= 0 || num_items <= 0) return;
  if (device.is_cpu()) {
    launch_cpu(num_images, num_items, body, grain);
    return;
  }
  if (device.is_emulated()) {
    for (int64_t image = 0; image < num_images; ++image)
      for (int64_t item = 0; item < num_items; ++item) body(image, item);
    return;
  }
#ifdef FACECORE_WITH_CUDA
  select_cuda_device(device);
  launch_cuda(num_images, num_items, body, device.stream);
#else
  throw_no_cuda();
#endif
}

}  // namespace facecore
