// Single IEEE operations, rounded to nearest, that no compiler may fuse: for results that must be bit-equal everywhere.
// On the host a translation unit that includes this is built with -ffp-contract=off (CMakeLists.txt).
#pragma once
#include <cmath>

#include "core/host_device.h"

namespace facecore {

#ifdef __CUDA_ARCH__
FACECORE_HD double add_rn(double a, double b) { return __dadd_rn(a, b); }
FACECORE_HD double sub_rn(double a, double b) { return __dsub_rn(a, b); }
FACECORE_HD double mul_rn(double a, double b) { return __dmul_rn(a, b); }
FACECORE_HD double div_rn(double a, double b) { return __ddiv_rn(a, b); }
#else
FACECORE_HD double add_rn(double a, double b) { return a + b; }
FACECORE_HD double sub_rn(double a, double b) { return a - b; }
FACECORE_HD double mul_rn(double a, double b) { return a * b; }
FACECORE_HD double div_rn(double a, double b) { return a / b; }
#endif

// Nearest integer, ties to even, for |value| < 2^31: adding 1.5 * 2^52 leaves no fraction bits.
FACECORE_HD int32_t round_to_int(double value) {
  constexpr double kShift = 6755399441055744.0;
  return static_cast<int32_t>(sub_rn(add_rn(value, kShift), kShift));
}

}  // namespace facecore
