// What kernels with one item per lane need beyond vector.h: gathers, lane masks as bits, tiles of rows.
// Included by csrc/simd/*.cpp only, and only where the compiler has vectors (GCC and Clang).
#pragma once
#include "simd/vector.h"

#if defined(__SSE2__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"  // GCC 12's own header: registers left undefined on purpose
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

namespace facecore {
namespace {

using Ints = Vector<int32_t, kVectorBytes>;
using Floats = Vector<float, kVectorBytes>;
using Doubles = Vector<double, kVectorBytes>;
using HalfInts = Vector<int32_t, kVectorBytes / 2>;
using HalfFloats = Vector<float, kVectorBytes / 2>;
typedef Ints::type IntLanes;
typedef Floats::type FloatLanes;
typedef Doubles::type DoubleLanes;
constexpr int kLanes = Ints::lanes, kHalfLanes = Doubles::lanes;

FACECORE_INLINE IntLanes smaller(IntLanes a, IntLanes b) { return a < b ? a : b; }
FACECORE_INLINE IntLanes larger(IntLanes a, IntLanes b) { return a > b ? a : b; }

// The index itself where it is in [0, size), the last one elsewhere.
FACECORE_INLINE IntLanes bounded(IntLanes index, int64_t size) {
  typedef Vector<uint32_t, kVectorBytes>::type Unsigned;
  const Unsigned value = reinterpret_cast<Unsigned>(index), last = Unsigned{} + static_cast<uint32_t>(size - 1);
  return reinterpret_cast<IntLanes>(value < last ? value : last);
}

// base[index] of each lane.
FACECORE_INLINE IntLanes gather(const int32_t* base, IntLanes index) {
#if defined(__AVX512F__)
  return reinterpret_cast<IntLanes>(_mm512_i32gather_epi32(reinterpret_cast<__m512i>(index), base, 4));
#elif defined(__AVX2__)
  return reinterpret_cast<IntLanes>(_mm256_i32gather_epi32(base, reinterpret_cast<__m256i>(index), 4));
#else
  IntLanes result;
  for (int l = 0; l < kLanes; ++l) result[l] = base[index[l]];
  return result;
#endif
}
FACECORE_INLINE FloatLanes gather(const float* base, IntLanes index) {
#if defined(__AVX512F__)
  return reinterpret_cast<FloatLanes>(_mm512_i32gather_ps(reinterpret_cast<__m512i>(index), base, 4));
#elif defined(__AVX2__)
  return reinterpret_cast<FloatLanes>(_mm256_i32gather_ps(base, reinterpret_cast<__m256i>(index), 4));
#else
  FloatLanes result;
  for (int l = 0; l < kLanes; ++l) result[l] = base[index[l]];
  return result;
#endif
}

// Rows of four numbers, one row per lane, between memory and four vectors of columns. In memory order a row is a
// quarter of a vector: that of lane l begins at place row_place(l) of the four vectors.
FACECORE_INLINE constexpr int row_place(int lane) { return lane % 4 * kLanes + lane / 4 * 4; }

// Rows to columns and, being its own inverse, columns to rows.
FACECORE_INLINE void transpose_rows(FloatLanes* v) {
#if defined(__AVX512F__)
  const __m512 a = reinterpret_cast<__m512>(v[0]), b = reinterpret_cast<__m512>(v[1]);
  const __m512 c = reinterpret_cast<__m512>(v[2]), d = reinterpret_cast<__m512>(v[3]);
  const __m512 low_ab = _mm512_unpacklo_ps(a, b), high_ab = _mm512_unpackhi_ps(a, b);
  const __m512 low_cd = _mm512_unpacklo_ps(c, d), high_cd = _mm512_unpackhi_ps(c, d);
  v[0] = reinterpret_cast<FloatLanes>(_mm512_shuffle_ps(low_ab, low_cd, 0x44));
  v[1] = reinterpret_cast<FloatLanes>(_mm512_shuffle_ps(low_ab, low_cd, 0xEE));
  v[2] = reinterpret_cast<FloatLanes>(_mm512_shuffle_ps(high_ab, high_cd, 0x44));
  v[3] = reinterpret_cast<FloatLanes>(_mm512_shuffle_ps(high_ab, high_cd, 0xEE));
#elif defined(__AVX2__)
  const __m256 a = reinterpret_cast<__m256>(v[0]), b = reinterpret_cast<__m256>(v[1]);
  const __m256 c = reinterpret_cast<__m256>(v[2]), d = reinterpret_cast<__m256>(v[3]);
  const __m256 low_ab = _mm256_unpacklo_ps(a, b), high_ab = _mm256_unpackhi_ps(a, b);
  const __m256 low_cd = _mm256_unpacklo_ps(c, d), high_cd = _mm256_unpackhi_ps(c, d);
  v[0] = reinterpret_cast<FloatLanes>(_mm256_shuffle_ps(low_ab, low_cd, 0x44));
  v[1] = reinterpret_cast<FloatLanes>(_mm256_shuffle_ps(low_ab, low_cd, 0xEE));
  v[2] = reinterpret_cast<FloatLanes>(_mm256_shuffle_ps(high_ab, high_cd, 0x44));
  v[3] = reinterpret_cast<FloatLanes>(_mm256_shuffle_ps(high_ab, high_cd, 0xEE));
#else
  const FloatLanes a = v[0], b = v[1], c = v[2], d = v[3];
  for (int i = 0; i < 4; ++i) v[i] = FloatLanes{a[i], b[i], c[i], d[i]};
#endif
}

// column[c] = base[unit * offset[l] + c] of each lane l. Fewer loads than four gathers: a row lies in one cache line.
template <int unit>
FACECORE_INLINE void load_rows(const float* base, const int32_t* offset, FloatLanes* column) {
  const auto at = [&](int lane)
                      __attribute__((always_inline)) { return base + unit * static_cast<int64_t>(offset[lane]); };
  FACECORE_UNROLL
  for (int i = 0; i < 4; ++i) {
#if defined(__AVX512F__)
    __m512 rows = _mm512_castps128_ps512(_mm_loadu_ps(at(i)));
    rows = _mm512_insertf32x4(rows, _mm_loadu_ps(at(4 + i)), 1);
    rows = _mm512_insertf32x4(rows, _mm_loadu_ps(at(8 + i)), 2);
    column[i] = reinterpret_cast<FloatLanes>(_mm512_insertf32x4(rows, _mm_loadu_ps(at(12 + i)), 3));
#elif defined(__AVX2__)
    const __m256 rows = _mm256_castps128_ps256(_mm_loadu_ps(at(i)));
    column[i] = reinterpret_cast<FloatLanes>(_mm256_insertf128_ps(rows, _mm_loadu_ps(at(4 + i)), 1));
#else
    column[i] = Floats::load(at(i));
#endif
  }
  transpose_rows(column);
}

// Bit l is lane l of a mask, whose lanes are 0 or -1.
FACECORE_INLINE uint32_t bits_of(IntLanes mask) {
#if defined(__AVX512DQ__)
  return _mm512_movepi32_mask(reinterpret_cast<__m512i>(mask));
#elif defined(__AVX2__)
  return static_cast<uint32_t>(_mm256_movemask_ps(reinterpret_cast<__m256>(mask)));
#elif defined(__SSE2__)
  return static_cast<uint32_t>(_mm_movemask_ps(reinterpret_cast<__m128>(mask)));
#else
  uint32_t bits = 0;
  for (int l = 0; l < kLanes; ++l) bits |= (mask[l] & 1u) << l;
  return bits;
#endif
}

#if defined(__AVX2__) && !defined(__AVX512F__)
// Row m lists the set bits of m: where compress takes its lanes from, a byte each.
struct CompressTable {
  uint8_t lane[256][8] = {};
  constexpr CompressTable() {
    for (int m = 0; m < 256; ++m)
      for (int l = 0, count = 0; l < 8; ++l)
        if (m >> l & 1) lane[m][count++] = static_cast<uint8_t>(l);
  }
};
constexpr CompressTable kCompress;
#endif

// Stores the lanes of `bits`, in order and close together; may write a whole vector. There are popcount(bits).
FACECORE_INLINE void compress_store(int32_t* target, IntLanes value, uint32_t bits) {
#if defined(__AVX512F__)
  _mm512_storeu_si512(target,
                      _mm512_maskz_compress_epi32(static_cast<__mmask16>(bits), reinterpret_cast<__m512i>(value)));
#elif defined(__AVX2__)
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(kCompress.lane[bits]));
  const __m256i packed = _mm256_permutevar8x32_epi32(reinterpret_cast<__m256i>(value), _mm256_cvtepu8_epi32(bytes));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(target), packed);
#else
  for (; bits; bits &= bits - 1) *target++ = value[__builtin_ctz(bits)];
#endif
}

// Both halves of the lanes as doubles.
FACECORE_INLINE void widen(IntLanes value, DoubleLanes* halves) {
#if defined(__AVX512F__)
  const __m512i v = reinterpret_cast<__m512i>(value);
  halves[0] = reinterpret_cast<DoubleLanes>(_mm512_cvtepi32_pd(_mm512_castsi512_si256(v)));
  halves[1] = reinterpret_cast<DoubleLanes>(_mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(v, 1)));
#else
  int32_t lanes[kLanes];
  Ints::store(lanes, value);
  for (int h = 0; h < 2; ++h) halves[h] = __builtin_convertvector(HalfInts::load(lanes + h * kHalfLanes), DoubleLanes);
#endif
}
FACECORE_INLINE void widen(FloatLanes value, DoubleLanes* halves) {
#if defined(__AVX512F__)
  const __m512 v = reinterpret_cast<__m512>(value);
  halves[0] = reinterpret_cast<DoubleLanes>(_mm512_cvtps_pd(_mm512_castps512_ps256(v)));
  halves[1] = reinterpret_cast<DoubleLanes>(_mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)));
#else
  float lanes[kLanes];
  Floats::store(lanes, value);
  for (int h = 0; h < 2; ++h)
    halves[h] = __builtin_convertvector(HalfFloats::load(lanes + h * kHalfLanes), DoubleLanes);
#endif
}
FACECORE_INLINE FloatLanes narrow(const DoubleLanes* halves) {
#if defined(__AVX512F__)
  const __m256 low = _mm512_cvtpd_ps(reinterpret_cast<__m512d>(halves[0]));
  const __m256 high = _mm512_cvtpd_ps(reinterpret_cast<__m512d>(halves[1]));
  return reinterpret_cast<FloatLanes>(_mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1));
#else
  float lanes[kLanes];
  for (int h = 0; h < 2; ++h)
    HalfFloats::store(lanes + h * kHalfLanes, __builtin_convertvector(halves[h], HalfFloats::type));
  return Floats::load(lanes);
#endif
}

FACECORE_INLINE int lowest_bit(uint32_t bits) { return __builtin_ctz(bits); }

FACECORE_INLINE IntLanes lane_numbers() {
  IntLanes result;
  for (int l = 0; l < kLanes; ++l) result[l] = l;
  return result;
}

}  // namespace
}  // namespace facecore
