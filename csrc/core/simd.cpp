// The processor's instruction sets by cpuid, and the limit that FACECORE_ISA puts on them.
#include "core/simd.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string>

namespace facecore {
namespace {

int detected_level() {
#ifdef FACECORE_SIMD_X86
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
  return avx512 ? kSimdAvx512 : avx2 ? kSimdAvx2 : kSimdBase;
#else
  return kSimdBase;
#endif
}

int checked_level(int level, const std::string& where) {
  if (level < kSimdBase || level > kSimdAvx512)
    throw std::invalid_argument(where + " must be 0 (base), 1 (AVX2) or 2 (AVX-512), got " + std::to_string(level));
  return level;
}

int limit_from_environment() {
  const char* text = std::getenv("FACECORE_ISA");
  if (text == nullptr || *text == '\0') return kSimdAvx512;
  const bool one_digit = text[0] >= '0' && text[0] <= '9' && text[1] == '\0';
  if (!one_digit)
    throw std::invalid_argument("FACECORE_ISA must be 0 (base), 1 (AVX2) or 2 (AVX-512), got '" + std::string(text) +
                                "'");
  return checked_level(text[0] - '0', "FACECORE_ISA");
}

std::atomic<int>& limit() {
  static std::atomic<int> value{limit_from_environment()};
  return value;
}

}  // namespace

SimdLevel simd_level() {
  static const int detected = detected_level();
  const int allowed = limit().load(std::memory_order_relaxed);
  return static_cast<SimdLevel>(detected < allowed ? detected : allowed);
}

int limit_simd_level(int level) { return limit().exchange(checked_level(level, "level")); }

}  // namespace facecore
