// Functions that compile for the host and, under nvcc, for the device: an op's arithmetic is written once with these.
#pragma once
#include <cstdint>

#ifdef __CUDACC__
#define FACECORE_HD __host__ __device__ __forceinline__
#elif defined(FACECORE_ISA) && defined(__GNUC__)  // csrc/simd: no copy may remain that the linker could give to others
#define FACECORE_HD inline __attribute__((always_inline))
#else
#define FACECORE_HD inline
#endif

namespace facecore {

// target += value. On the device many threads may share the target; on the host the traversal gives it one owner.
template <class T> FACECORE_HD void accumulate(T* target, T value) {
#ifdef __CUDA_ARCH__
  atomicAdd(target, value);
#else
  *target += value;
#endif
}

}  // namespace facecore
