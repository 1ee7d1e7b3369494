// Triples of numbers, one after the other in memory, as three rows. Included by csrc/simd/*.cpp only.
#pragma once
#include <cstdint>

#include "simd/vector.h"

namespace facecore {
namespace {

constexpr int64_t kTile = 64;  // points; several vectors, so that a row is loaded long after its numbers were stored

template <class T> struct PointTile {
  alignas(64) T row[3][kTile];

  FACECORE_INLINE void load(const T* triples, int64_t count) {
    for (int64_t i = 0; i < count; ++i)
      for (int c = 0; c < 3; ++c) row[c][i] = triples[3 * i + c];
    for (int64_t i = count; i < kTile; ++i)  // zeros add nothing to a sum
      for (int c = 0; c < 3; ++c) row[c][i] = T(0);
  }
  FACECORE_INLINE void store(T* triples, int64_t count) const {
    for (int64_t i = 0; i < count; ++i)
      for (int c = 0; c < 3; ++c) triples[3 * i + c] = row[c][i];
  }
};

}  // namespace
}  // namespace facecore
