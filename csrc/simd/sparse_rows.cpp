// The sparse products of sparse_rows.h with the accumulators of a row held in registers.
#include "simd/sparse_rows.h"

#include "simd/vector.h"

namespace facecore {
namespace {

// A block is `count` vectors per row, all summed with one reading of the row's indices and values: neighbours in a row
// of one image, or (folded) the same place of `count` consecutive images.
template <class T, class V, int count_, bool folded_, int num_addends_> struct Block {
  using Value = T;
  using Lanes = V;
  static constexpr int count = count_, num_addends = num_addends_;
  static constexpr bool folded = folded_;
  static FACECORE_INLINE int64_t step(int64_t image_stride) { return folded ? image_stride : V::lanes; }
};

template <class B, class T = typename B::Value, class V = typename B::Lanes>
FACECORE_INLINE void add_product(const SparseProduct<T>& a, const T* x, int64_t r, typename V::type (&sum)[B::count]) {
  const int64_t step = B::step(a.x_image);
  for (int32_t j = a.crow_indices[r], end = a.crow_indices[r + 1]; j < end; ++j) {
    const T value = a.values[j];
    const T* source = x + a.col_indices[j] * a.x_stride;
    FACECORE_UNROLL
    for (int i = 0; i < B::count; ++i) sum[i] += value * V::load(source + i * step);
  }
}

// Stores the vectors of a row but for what lies past the `stored` features, f being the first.
template <class B, class T = typename B::Value, class V = typename B::Lanes>
FACECORE_INLINE void store_cut(const SparseRows<T>& a, T* out, int64_t f, const typename V::type (&sum)[B::count]) {
  for (int i = 0; i < B::count; ++i) {
    T whole[V::lanes];
    V::store(whole, sum[i]);
    const int64_t left = a.stored - f - (B::folded ? 0 : i * V::lanes);
    for (int64_t k = 0; k < V::lanes && k < left; ++k) out[i * B::step(a.out_image) + k] = whole[k];
  }
}

// One block in every row. The loop over rows is inside, and what varies between calls is hoisted or part of the type,
// so that nothing is decided per row.
template <class B, class T = typename B::Value, class V = typename B::Lanes>
FACECORE_INLINE void rows_of(const SparseRows<T>& rows, const RowRange& range, int64_t image, int64_t f) {
  const SparseRows<T> a = rows;  // a private copy: a store through T* could otherwise change it, the compiler thinks
  const T* x = a.product.x + image * a.product.x_image + f;
  const T* second_x = a.second.crow_indices ? a.second.x + image * a.second.x_image + f : nullptr;
  T* out = a.out + image * a.out_image + f;
  T* copy = a.copy ? a.copy + image * a.copy_image + f : nullptr;
  const bool is_cut = f + (B::folded ? 1 : B::count) * V::lanes > a.stored;
  const bool is_relu = a.negative_slope == T(0);  // 0 for minus infinity too, where a product would be NaN
  for (int64_t r = range.begin; r < range.end; ++r) {
    typename V::type sum[B::count];
    FACECORE_UNROLL
    for (int i = 0; i < B::count; ++i) sum[i] = typename V::type{};
    add_product<B>(a.product, x, r, sum);
    FACECORE_UNROLL
    for (int i = 0; i < B::count; ++i) sum[i] *= a.alpha;
    if (second_x) add_product<B>(a.second, second_x, r, sum);
    FACECORE_UNROLL
    for (int k = 0; k < B::num_addends; ++k) {
      const Addend<T>& addend = a.addends[k];
      const T* source = addend.data + image * addend.image + r * addend.stride + f;
      FACECORE_UNROLL
      for (int i = 0; i < B::count; ++i) sum[i] += addend.coefficient * V::load(source + i * B::step(addend.image));
    }
    if (a.negative_slope != T(1)) {
      FACECORE_UNROLL
      for (int i = 0; i < B::count; ++i)
        sum[i] = sum[i] < T(0) ? (is_relu ? typename V::type{} : sum[i] * a.negative_slope) : sum[i];
    }
    if (copy) {
      FACECORE_UNROLL
      for (int i = 0; i < B::count; ++i) V::store(copy + r * a.copy_stride + i * B::step(a.copy_image), sum[i]);
    }
    T* row = out + r * a.out_stride;
    if (is_cut) {
      store_cut<B>(a, row, f, sum);
      continue;
    }
    FACECORE_UNROLL
    for (int i = 0; i < B::count; ++i) V::store(row + i * B::step(a.out_image), sum[i]);
  }
}

template <class T, class V, int count, bool folded>
FACECORE_INLINE void any_addends(const SparseRows<T>& a, const RowRange& range, int64_t image, int64_t f) {
  switch (a.num_addends) {
    case 0:
      return rows_of<Block<T, V, count, folded, 0>>(a, range, image, f);
    case 1:
      return rows_of<Block<T, V, count, folded, 1>>(a, range, image, f);
    case 2:
      return rows_of<Block<T, V, count, folded, 2>>(a, range, image, f);
    default:
      return rows_of<Block<T, V, count, folded, kMaxAddends>>(a, range, image, f);
  }
}

template <class T> FACECORE_INLINE void one_image(const SparseRows<T>& a, const RowRange& range, int64_t n) {
  using Full = Vector<T, kVectorBytes>;
  using Half = Vector<T, kVectorBytes / 2 < 16 ? 16 : kVectorBytes / 2>;
  using Small = Vector<T, 16>;
  int64_t f = 0;
  for (; f + 4 * Full::lanes <= a.width; f += 4 * Full::lanes) any_addends<T, Full, 4, false>(a, range, n, f);
  if (f + 2 * Full::lanes <= a.width) any_addends<T, Full, 2, false>(a, range, n, f), f += 2 * Full::lanes;
  if (f + Full::lanes <= a.width) any_addends<T, Full, 1, false>(a, range, n, f), f += Full::lanes;
  if (f + Half::lanes <= a.width) any_addends<T, Half, 1, false>(a, range, n, f), f += Half::lanes;
  for (; f + Small::lanes <= a.width; f += Small::lanes) any_addends<T, Small, 1, false>(a, range, n, f);
  switch (a.width - f) {
    case 3:
      return any_addends<T, Scalar<T>, 3, false>(a, range, n, f);
    case 2:
      return any_addends<T, Scalar<T>, 2, false>(a, range, n, f);
    case 1:
      return any_addends<T, Scalar<T>, 1, false>(a, range, n, f);
    default:
      return;
  }
}

constexpr int kFolded = 4;  // images at once: more spill their rows from the cache, fewer share an index among too few

template <class T, class V>
FACECORE_INLINE int64_t folded_images(const SparseRows<T>& a, const RowRange& range) {
  int64_t n = range.first_image;
  for (; n + kFolded <= range.last_image; n += kFolded) any_addends<T, V, kFolded, true>(a, range, n, 0);
  for (; n + 2 <= range.last_image; n += 2) any_addends<T, V, 2, true>(a, range, n, 0);
  return n;
}

// Narrow rows spend their time on indices: there images are folded.
template <class T> FACECORE_INLINE void all_images(const SparseRows<T>& a, const RowRange& range) {
  using Small = Vector<T, 16>;
  using Pair = Vector < T, kVectorBytes<32 ? 16 : 32>;
  int64_t n = range.first_image;
  if (a.width == Small::lanes) n = folded_images<T, Small>(a, range);
  else if (a.width == Pair::lanes) n = folded_images<T, Pair>(a, range);
  for (; n < range.last_image; ++n) one_image(a, range, n);
}

}  // namespace

namespace FACECORE_SIMD_NAMESPACE {
void sparse_rows(const SparseRows<float>& rows, const RowRange& range) { all_images(rows, range); }
void sparse_rows(const SparseRows<double>& rows, const RowRange& range) { all_images(rows, range); }
}  // namespace FACECORE_SIMD_NAMESPACE

}  // namespace facecore
