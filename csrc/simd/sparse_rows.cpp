// The sparse products of sparse_rows.h with the accumulators of a row held in registers.
#include "simd/sparse_rows.h"

#include "simd/vector.h"

namespace facecore {
namespace {

template <class T, class V, int count>
FACECORE_INLINE void add_product(const SparseProduct<T>& a, int64_t r, int64_t f, typename V::type (&sum)[count]) {
  const T* x = a.x + f;
  for (int32_t j = a.crow_indices[r], end = a.crow_indices[r + 1]; j < end; ++j) {
    const T value = a.values[j];
    const T* source = x + a.col_indices[j] * a.x_stride;
    FACECORE_UNROLL
    for (int i = 0; i < count; ++i) sum[i] += value * V::load(source + i * V::lanes);
  }
}

// Features [f, f + count * V::lanes) of the rows: the loop over rows is inside, so that the choice of a vector is not.
template <class T, class V, int count>
FACECORE_INLINE void column_block(const SparseRows<T>& rows, int64_t begin, int64_t end, int64_t f) {
  const SparseRows<T> a =
      rows;  // a private copy: a store through T* could otherwise change it, as the compiler sees it
  const SparseProduct<T> product = a.product, second = a.second;
  const bool padded = f + count * V::lanes > a.stored;
  for (int64_t r = begin; r < end; ++r) {
    typename V::type sum[count];
    FACECORE_UNROLL
    for (int i = 0; i < count; ++i) sum[i] = typename V::type{};
    add_product<T, V, count>(product, r, f, sum);
    FACECORE_UNROLL
    for (int i = 0; i < count; ++i) sum[i] *= a.alpha;
    if (second.crow_indices) add_product<T, V, count>(second, r, f, sum);
    for (int32_t k = 0; k < a.num_addends; ++k) {
      const T* source = a.addends[k].data + r * a.addends[k].stride + f;
      const T coefficient = a.addends[k].coefficient;
      FACECORE_UNROLL
      for (int i = 0; i < count; ++i) sum[i] += coefficient * V::load(source + i * V::lanes);
    }
    T* out = a.out + r * a.out_stride + f;
    if (!padded) {
      FACECORE_UNROLL
      for (int i = 0; i < count; ++i) V::store(out + i * V::lanes, sum[i]);
      continue;
    }
    T kept[count * V::lanes];
    FACECORE_UNROLL
    for (int i = 0; i < count; ++i) V::store(kept + i * V::lanes, sum[i]);
    for (int64_t i = 0; i < a.stored - f; ++i) out[i] = kept[i];
  }
}

template <class T> FACECORE_INLINE void all_columns(const SparseRows<T>& a, int64_t begin, int64_t end) {
  using Full = Vector<T, kVectorBytes>;
  using Half = Vector<T, kVectorBytes / 2 < 16 ? 16 : kVectorBytes / 2>;
  using Small = Vector<T, 16>;
  int64_t f = 0;
  for (; f + 4 * Full::lanes <= a.width; f += 4 * Full::lanes) column_block<T, Full, 4>(a, begin, end, f);
  if (f + 2 * Full::lanes <= a.width) column_block<T, Full, 2>(a, begin, end, f), f += 2 * Full::lanes;
  if (f + Full::lanes <= a.width) column_block<T, Full, 1>(a, begin, end, f), f += Full::lanes;
  if (f + Half::lanes <= a.width) column_block<T, Half, 1>(a, begin, end, f), f += Half::lanes;
  for (; f + Small::lanes <= a.width; f += Small::lanes) column_block<T, Small, 1>(a, begin, end, f);
  switch (a.width - f) {
    case 3:
      column_block<T, Scalar<T>, 3>(a, begin, end, f);
      break;
    case 2:
      column_block<T, Scalar<T>, 2>(a, begin, end, f);
      break;
    case 1:
      column_block<T, Scalar<T>, 1>(a, begin, end, f);
      break;
    default:
      break;
  }
}

}  // namespace

namespace FACECORE_SIMD_NAMESPACE {
void sparse_rows(const SparseRows<float>& rows, int64_t begin, int64_t end) { all_columns(rows, begin, end); }
void sparse_rows(const SparseRows<double>& rows, int64_t begin, int64_t end) { all_columns(rows, begin, end); }
}  // namespace FACECORE_SIMD_NAMESPACE

}  // namespace facecore
