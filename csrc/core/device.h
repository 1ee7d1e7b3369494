// What the CUDA runtime says about this machine: the number of devices, and the reason when there is none.
#pragma once
#include <string>
#include <utility>

namespace facecore {
std::pair<int, std::string> cuda_device_count();
}
