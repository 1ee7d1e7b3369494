// Which build of a SIMD kernel runs here: csrc/simd/*.cpp are compiled once per instruction set, each level into its
// own namespace, and chosen by cpuid at the call.
#pragma once

namespace facecore {

enum SimdLevel : int { kSimdBase = 0, kSimdAvx2 = 1, kSimdAvx512 = 2 };

// The best level that was built, that this processor has and that the limit allows. The limit is the environment
// variable FACECORE_ISA (0, 1 or 2, read once; anything else throws) until limit_simd_level replaces it.
SimdLevel simd_level();

// Replaces the limit and returns the one before; for tests and benchmarks, not while kernels run.
int limit_simd_level(int level);

template <class Function> Function pick_simd(Function base, Function avx2, Function avx512) {
  const SimdLevel level = simd_level();
  return level == kSimdAvx512 ? avx512 : level == kSimdAvx2 ? avx2 : base;
}

// FACECORE_SIMD(type, f): the address of facecore::simd_<level>::f, of that function type, for the level of this
// machine.
#ifdef FACECORE_SIMD_X86
#define FACECORE_SIMD(type, function)                                                             \
  ::facecore::pick_simd<type>(&::facecore::simd_base::function, &::facecore::simd_avx2::function, \
                              &::facecore::simd_avx512::function)
#else
#define FACECORE_SIMD(type, function) (static_cast<type>(&::facecore::simd_base::function))
#endif

// Declares a kernel in the namespace of every level; used inside namespace facecore.
#define FACECORE_DECLARE_SIMD(declaration) \
  namespace simd_base {                    \
  declaration;                             \
  }                                        \
  namespace simd_avx2 {                    \
  declaration;                             \
  }                                        \
  namespace simd_avx512 {                  \
  declaration;                             \
  }

}  // namespace facecore
