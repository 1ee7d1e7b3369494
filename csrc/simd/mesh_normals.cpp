// The vertex normals of mesh_normals.h, one image per lane. Built without contraction (CMakeLists.txt): the bits depend
// neither on the instruction set nor on how many images lie side by side.
#include "simd/mesh_normals.h"

#if defined(__SSE2__) && defined(__GNUC__)
#include <immintrin.h>
#endif

#include "core/normals.h"
#include "simd/roots.h"

namespace facecore {
namespace {

constexpr int64_t kTile = 32;  // vertices turned from rows into lanes, or back, at a time

template <class T, class Vector> struct Lanes : RootLanes<T, Vector> {
  using type = typename Vector::type;
  static FACECORE_INLINE Vector3<type> load3(const T* p) {
    return {Vector::load(p), Vector::load(p + Vector::lanes), Vector::load(p + 2 * Vector::lanes)};
  }
  static FACECORE_INLINE void store3(T* p, Vector3<type> v) {
    Vector::store(p, v.x), Vector::store(p + Vector::lanes, v.y), Vector::store(p + 2 * Vector::lanes, v.z);
  }
};

// Four vectors of 16 bytes from four others: number j of result i is number i of argument j.
#if defined(__SSE2__) && defined(__GNUC__)
constexpr bool kTransposes = true;
FACECORE_INLINE void transpose(const float* from, int64_t from_stride, float* to, int64_t to_stride) {
  __m128 a = _mm_loadu_ps(from), b = _mm_loadu_ps(from + from_stride), c = _mm_loadu_ps(from + 2 * from_stride),
         d = _mm_loadu_ps(from + 3 * from_stride);
  _MM_TRANSPOSE4_PS(a, b, c, d);
  _mm_storeu_ps(to, a), _mm_storeu_ps(to + to_stride, b), _mm_storeu_ps(to + 2 * to_stride, c);
  _mm_storeu_ps(to + 3 * to_stride, d);
}
#else
constexpr bool kTransposes = false;
#endif
inline void transpose(const void*, int64_t, void*, int64_t) {}

// to[j][i] = from[i][j] for i < rows, j < columns
template <class T>
FACECORE_INLINE void transpose_all(const T* from, int64_t from_stride, int64_t rows, int64_t columns, T* to,
                                   int64_t to_stride) {
  if (from_stride == 1 && columns == 1) {
    for (int64_t i = 0; i < rows; ++i) to[i] = from[i];
    return;
  }
  int64_t blocked_rows = 0, blocked_columns = 0;
  if (kTransposes && sizeof(T) == 4) {
    blocked_rows = rows / 4 * 4, blocked_columns = columns / 4 * 4;
    for (int64_t j = 0; j < blocked_columns; j += 4)
      for (int64_t i = 0; i < blocked_rows; i += 4)
        transpose(from + i * from_stride + j, from_stride, to + j * to_stride + i, to_stride);
  }
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = i < blocked_rows ? blocked_columns : 0; j < columns; ++j)
      to[j * to_stride + i] = from[i * from_stride + j];
}

// side[i][lane] = rows[lane][i], 0 in lanes without an image
template <class L, class T>
FACECORE_INLINE void to_lanes(const T* rows, int64_t row_stride, int64_t images, int64_t count, T* side) {
  transpose_all(rows, row_stride, images, count, side, L::lanes);
  for (int64_t lane = images; lane < L::lanes; ++lane)
    for (int64_t i = 0; i < count; ++i) side[i * L::lanes + lane] = T(0);
}
template <class L, class T>
FACECORE_INLINE void from_lanes(const T* side, int64_t count, T* rows, int64_t row_stride, int64_t images) {
  transpose_all(side, L::lanes, count, images, rows, row_stride);
}

template <class Step> FACECORE_INLINE void for_each_tile(int64_t begin, int64_t end, const Step& step) {
  for (int64_t v = begin; v < end; v += kTile) step(v, end - v < kTile ? end - v : kTile);
}

template <class L, class T> FACECORE_INLINE void load(const NormalsImages<T>& a, int64_t begin, int64_t end) {
  for_each_tile(begin, end, [&](int64_t v, int64_t count) {
    if (L::lanes > 1)
      to_lanes<L>(a.vertices + 3 * v, 3 * a.num_vertices, a.count, 3 * count, a.positions + 3 * v * L::lanes);
    for (int64_t i = 3 * v; i < 3 * (v + count); ++i) L::store(a.total + i * L::lanes, typename L::type{});
  });
}

template <class L, class T> FACECORE_INLINE void store(const NormalsImages<T>& a, int64_t begin, int64_t end) {
  alignas(64) T normals[3 * kTile * L::lanes], inverses[kTile * L::lanes];
  for_each_tile(begin, end, [&](int64_t v, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const auto sum = L::load3(a.total + 3 * (v + i) * L::lanes);
      const auto inverse = inverse_length<L>(sum, typename L::type{} + T(1));
      L::store3(normals + 3 * i * L::lanes, inverse * sum);
      L::store(inverses + i * L::lanes, inverse);
    }
    from_lanes<L>(normals, 3 * count, a.normals + 3 * v, 3 * a.num_vertices, a.count);
    from_lanes<L>(inverses, count, a.inverse + v, a.num_vertices, a.count);
  });
}

template <class L, class T> FACECORE_INLINE void grad_load(const NormalsImages<T>& a, int64_t begin, int64_t end) {
  alignas(64) T normals[3 * kTile * L::lanes], inverses[kTile * L::lanes], grads[3 * kTile * L::lanes];
  load<L>(a, begin, end);
  for_each_tile(begin, end, [&](int64_t v, int64_t count) {
    to_lanes<L>(a.normals + 3 * v, 3 * a.num_vertices, a.count, 3 * count, normals);
    to_lanes<L>(a.inverse + v, a.num_vertices, a.count, count, inverses);
    to_lanes<L>(a.grad_out + 3 * v, 3 * a.num_vertices, a.count, 3 * count, grads);
    for (int64_t i = 0; i < count; ++i) {
      const auto grad = normalize_backward(L::load3(normals + 3 * i * L::lanes), L::load(inverses + i * L::lanes),
                                           L::load3(grads + 3 * i * L::lanes));
      L::store3(a.grad_sum + 3 * (v + i) * L::lanes, grad);
    }
  });
}

template <class L, class T> FACECORE_INLINE void grad_store(const NormalsImages<T>& a, int64_t begin, int64_t end) {
  for_each_tile(begin, end, [&](int64_t v, int64_t count) {
    from_lanes<L>(a.total + 3 * v * L::lanes, 3 * count, a.grad_vertices + 3 * v, 3 * a.num_vertices, a.count);
  });
}

// What a triangle adds at its corners a, b, c: its unit normal, or the gradient of <grad, its unit normal>.
template <class L> using Three = Vector3<typename L::type>;
template <class L> FACECORE_INLINE void value_of(const Three<L>* at, Three<L>* value) {
  value[0] = value[1] = value[2] = triangle_normal<L>(at[0], at[1], at[2]).unit;
}
template <class L> FACECORE_INLINE void gradient_of(const Three<L>* at, const Three<L>& grad, Three<L>* value) {
  const auto normal = triangle_normal<L>(at[0], at[1], at[2]);
  const auto grad_cross = normalize_backward(normal.unit, normal.inverse, grad);
  value[1] = cross(normal.ac, grad_cross);  // of <grad_cross, ab x ac>
  value[2] = cross(grad_cross, normal.ab);
  value[0] = Three<L>{} - value[1] - value[2];
}

// The vertices of triangle i of the span, and which of them it adds to; false: none.
template <bool shared>
FACECORE_INLINE bool find_corners(const TriangleSpan& span, int64_t i, int32_t* vertex, bool* mine) {
  const int32_t* corner = span.triangles + 3 * static_cast<int64_t>(shared && span.list ? span.list[i] : i);
  for (int k = 0; k < 3; ++k) vertex[k] = corner[k];
  if (!shared) return true;
  for (int k = 0; k < 3; ++k) mine[k] = span.owner[corner[k]] == span.own;
  return mine[0] || mine[1] || mine[2];
}

// Images side by side: one triangle at a time.
template <bool gradient, bool shared, class L, class T>
FACECORE_INLINE void add_triangles(const NormalsImages<T>& images, const TriangleSpan& span) {
  const NormalsImages<T> a = images;  // a private copy: a store through T* cannot change it
  for (int64_t i = span.begin; i < span.end; ++i) {
    int32_t vertex[3];
    bool mine[3];
    if (!find_corners<shared>(span, i, vertex, mine)) continue;
    Three<L> at[3], value[3];
    int64_t place[3];
    for (int k = 0; k < 3; ++k) {
      place[k] = int64_t{3} * L::lanes * vertex[k];
      at[k] = L::load3(a.positions + place[k]);
    }
    if constexpr (gradient) {
      const auto grad =
          L::load3(a.grad_sum + place[0]) + L::load3(a.grad_sum + place[1]) + L::load3(a.grad_sum + place[2]);
      gradient_of<L>(at, grad, value);
    } else {
      value_of<L>(at, value);
    }
    for (int k = 0; k < 3; ++k)
      if (!shared || mine[k]) L::store3(a.total + place[k], L::load3(a.total + place[k]) + value[k]);
  }
}

// One image: the triangles of a tile are the lanes. They are added one by one, so the bits are the same. A tile is
// several vectors, so that one is loaded long after its numbers were stored.
template <bool gradient, bool shared, class W, class T>
FACECORE_INLINE void add_triangles_of_one(const NormalsImages<T>& images, const TriangleSpan& span) {
  constexpr int kTriangles = 64, kValues = gradient ? 3 : 1;  // a normal is added at all three corners
  const NormalsImages<T> a = images;
  alignas(64) T corner[9][kTriangles] = {}, grad_sum[3][kTriangles] = {}, result[9][kTriangles];
  int32_t vertex[kTriangles][3];
  bool mine[kTriangles][3];
  const auto load3 = [](const T(*rows)[kTriangles], int j) {
    return Three<W>{W::load(rows[0] + j), W::load(rows[1] + j), W::load(rows[2] + j)};
  };
  for (int64_t i = span.begin; i < span.end;) {
    int count = 0;
    for (; i < span.end && count < kTriangles; ++i) {
      if (!find_corners<shared>(span, i, vertex[count], mine[count])) continue;
      int64_t place[3];
      for (int k = 0; k < 3; ++k) place[k] = 3 * int64_t{vertex[count][k]};
      for (int k = 0; k < 3; ++k)
        for (int c = 0; c < 3; ++c) corner[3 * k + c][count] = a.vertices[place[k] + c];
      if (gradient)
        for (int c = 0; c < 3; ++c)
          grad_sum[c][count] = a.grad_sum[place[0] + c] + a.grad_sum[place[1] + c] + a.grad_sum[place[2] + c];
      ++count;
    }
    for (int j = 0; j < count; j += W::lanes) {
      const Three<W> at[3] = {load3(corner, j), load3(corner + 3, j), load3(corner + 6, j)};
      Three<W> value[3];
      if constexpr (gradient) gradient_of<W>(at, load3(grad_sum, j), value);
      else value_of<W>(at, value);
      for (int k = 0; k < kValues; ++k) {
        W::store(result[3 * k] + j, value[k].x);
        W::store(result[3 * k + 1] + j, value[k].y);
        W::store(result[3 * k + 2] + j, value[k].z);
      }
    }
    for (int j = 0; j < count; ++j)
      for (int k = 0; k < 3; ++k) {
        if (shared && !mine[j][k]) continue;
        T* total = a.total + 3 * int64_t{vertex[j][k]};
        for (int c = 0; c < 3; ++c) total[c] += result[gradient ? 3 * k + c : c][j];
      }
  }
}

template <bool gradient, bool shared, class L, class T>
FACECORE_INLINE void add_span(const NormalsImages<T>& a, const TriangleSpan& span) {
  if constexpr (L::lanes > 1) add_triangles<gradient, shared, L>(a, span);
  else add_triangles_of_one<gradient, shared, Lanes<T, Vector<T, kVectorBytes>>>(a, span);
}
template <bool gradient, class L, class T>
FACECORE_INLINE void add(const NormalsImages<T>& a, const TriangleSpan& span) {
  if (span.owner) add_span<gradient, true, L>(a, span);
  else add_span<gradient, false, L>(a, span);
}

// Calls job with the lanes that `lanes` names; more than a vector of this instruction set never come (normals_lanes).
template <class T, class Job> FACECORE_INLINE void with_lanes(int64_t lanes, const Job& job) {
  if (lanes == 1) job(Lanes<T, Scalar<T>>{});
  else if (lanes == Vector<T, 16>::lanes) job(Lanes<T, Vector<T, 16>>{});
  else if (kVectorBytes > 32 && lanes == Vector<T, kVectorBytes>::lanes) job(Lanes<T, Vector<T, kVectorBytes>>{});
  else if (kVectorBytes > 16) job(Lanes < T, Vector<T, kVectorBytes<32 ? 16 : 32>>{});
}

}  // namespace

namespace FACECORE_SIMD_NAMESPACE {

int64_t normals_vector_bytes() { return Vector<float, kVectorBytes>::lanes > 1 ? kVectorBytes : 0; }

#define FACECORE_NORMALS(T)                                                          \
  void normals_load(const NormalsImages<T>& a, int64_t begin, int64_t end) {         \
    with_lanes<T>(a.lanes, [&](auto l) { load<decltype(l)>(a, begin, end); });       \
  }                                                                                  \
  void normals_add(const NormalsImages<T>& a, const TriangleSpan& span) {            \
    with_lanes<T>(a.lanes, [&](auto l) { add<false, decltype(l)>(a, span); });       \
  }                                                                                  \
  void normals_store(const NormalsImages<T>& a, int64_t begin, int64_t end) {        \
    with_lanes<T>(a.lanes, [&](auto l) { store<decltype(l)>(a, begin, end); });      \
  }                                                                                  \
  void normals_grad_load(const NormalsImages<T>& a, int64_t begin, int64_t end) {    \
    with_lanes<T>(a.lanes, [&](auto l) { grad_load<decltype(l)>(a, begin, end); });  \
  }                                                                                  \
  void normals_grad_add(const NormalsImages<T>& a, const TriangleSpan& span) {       \
    with_lanes<T>(a.lanes, [&](auto l) { add<true, decltype(l)>(a, span); });        \
  }                                                                                  \
  void normals_grad_store(const NormalsImages<T>& a, int64_t begin, int64_t end) {   \
    with_lanes<T>(a.lanes, [&](auto l) { grad_store<decltype(l)>(a, begin, end); }); \
  }
FACECORE_NORMALS(float)
FACECORE_NORMALS(double)
#undef FACECORE_NORMALS

}  // namespace FACECORE_SIMD_NAMESPACE

}  // namespace facecore
