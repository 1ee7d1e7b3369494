// The vertex normals of mesh_normals.h, one image per lane. Built without contraction (CMakeLists.txt): the bits depend
// neither on the instruction set nor on how many images lie side by side.
#include "simd/mesh_normals.h"

#if defined(__SSE2__) && defined(__GNUC__)
#include <immintrin.h>
#endif

#include "core/normals.h"
#include "simd/vector.h"

namespace facecore {
namespace {

constexpr int64_t kTile = 32;  // vertices turned from rows into lanes, or back, at a time

// The roots of the lanes of x. GCC leaves a loop over them scalar, so x86-64 names its instructions.
template <class T> FACECORE_INLINE T root_of(T x, Scalar<T>) { return std::sqrt(x); }
template <class T, int bytes>
FACECORE_INLINE typename Vector<T, bytes>::type root_of(typename Vector<T, bytes>::type x, Vector<T, bytes>) {
  using V = Vector<T, bytes>;
  alignas(64) T numbers[V::lanes];
  V::store(numbers, x);
  for (int i = 0; i < V::lanes; ++i) numbers[i] = std::sqrt(numbers[i]);
  return V::load(numbers);
}
#if defined(__SSE2__) && defined(__GNUC__)
template <class T, int bytes> using Lane = typename Vector<T, bytes>::type;
FACECORE_INLINE Lane<float, 16> root_of(Lane<float, 16> x, Vector<float, 16>) { return _mm_sqrt_ps(x); }
FACECORE_INLINE Lane<double, 16> root_of(Lane<double, 16> x, Vector<double, 16>) { return _mm_sqrt_pd(x); }
#endif
#if defined(__AVX2__) && defined(__GNUC__)
FACECORE_INLINE Lane<float, 32> root_of(Lane<float, 32> x, Vector<float, 32>) { return _mm256_sqrt_ps(x); }
FACECORE_INLINE Lane<double, 32> root_of(Lane<double, 32> x, Vector<double, 32>) { return _mm256_sqrt_pd(x); }
#endif
#if defined(__AVX512F__) && defined(__GNUC__)
FACECORE_INLINE Lane<float, 64> root_of(Lane<float, 64> x, Vector<float, 64>) {
  return _mm512_maskz_sqrt_ps(0xffff, x);
}
FACECORE_INLINE Lane<double, 64> root_of(Lane<double, 64> x, Vector<double, 64>) {
  return _mm512_maskz_sqrt_pd(0xff, x);
}
#endif

template <class T, class Vector> struct Lanes : Vector {  // what core/normals.h computes with
  using scalar = T;
  using type = typename Vector::type;
  static FACECORE_INLINE type root(type x) { return root_of(x, Vector{}); }
  static FACECORE_INLINE Vector3<type> load3(const T* p) {
    return {Vector::load(p), Vector::load(p + Vector::lanes), Vector::load(p + 2 * Vector::lanes)};
  }
  static FACECORE_INLINE void store3(T* p, Vector3<type> v) {
    Vector::store(p, v.x), Vector::store(p + Vector::lanes, v.y), Vector::store(p + 2 * Vector::lanes, v.z);
  }
};

// side[i][lane] = rows[lane][i], 0 in lanes without an image
template <class L, class T>
FACECORE_INLINE void to_lanes(const T* rows, int64_t row_stride, int64_t images, int64_t count, T* side) {
  for (int64_t lane = 0; lane < images; ++lane)
    for (int64_t i = 0; i < count; ++i) side[i * L::lanes + lane] = rows[lane * row_stride + i];
  for (int64_t lane = images; lane < L::lanes; ++lane)
    for (int64_t i = 0; i < count; ++i) side[i * L::lanes + lane] = T(0);
}
template <class L, class T>
FACECORE_INLINE void from_lanes(const T* side, int64_t count, T* rows, int64_t row_stride, int64_t images) {
  for (int64_t lane = 0; lane < images; ++lane)
    for (int64_t i = 0; i < count; ++i) rows[lane * row_stride + i] = side[i * L::lanes + lane];
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

template <class L, class T>
FACECORE_INLINE void add_at(T* total, int64_t vertex, Vector3<typename L::type> value) {
  T* target = total + 3 * vertex * L::lanes;
  L::store3(target, L::load3(target) + value);
}

// step(t, v, position of the corners) -> what to add at each corner
template <class L, class T, class Step>
FACECORE_INLINE void for_each_triangle(const NormalsImages<T>& a, const TriangleSpan& span, const Step& step) {
  const T* positions = L::lanes > 1 ? a.positions : a.vertices;
  T* total = a.total;
  for (int64_t i = span.begin; i < span.end; ++i) {
    const int32_t* corner = span.triangles + 3 * (span.list ? span.list[i] : i);
    const int64_t v[3] = {corner[0], corner[1], corner[2]};
    bool mine[3] = {true, true, true};
    if (span.owner) {
      for (int k = 0; k < 3; ++k) mine[k] = span.owner[v[k]] == span.own;
      if (!mine[0] && !mine[1] && !mine[2]) continue;
    }
    Vector3<typename L::type> value[3];
    step(v, L::load3(positions + 3 * v[0] * L::lanes), L::load3(positions + 3 * v[1] * L::lanes),
         L::load3(positions + 3 * v[2] * L::lanes), value);
    for (int k = 0; k < 3; ++k)
      if (mine[k]) add_at<L>(total, v[k], value[k]);
  }
}

template <class L, class T> FACECORE_INLINE void add(const NormalsImages<T>& a, const TriangleSpan& span) {
  using V = Vector3<typename L::type>;
  for_each_triangle<L>(a, span, [](const int64_t*, const V& at_a, const V& at_b, const V& at_c, V* value) {
    value[0] = value[1] = value[2] = triangle_normal<L>(at_a, at_b, at_c).unit;
  });
}

template <class L, class T> FACECORE_INLINE void grad_add(const NormalsImages<T>& a, const TriangleSpan& span) {
  using V = Vector3<typename L::type>;
  const T* grad_sum = a.grad_sum;
  for_each_triangle<L>(a, span, [&](const int64_t* v, const V& at_a, const V& at_b, const V& at_c, V* value) {
    const auto normal = triangle_normal<L>(at_a, at_b, at_c);
    const auto grad = L::load3(grad_sum + 3 * v[0] * L::lanes) + L::load3(grad_sum + 3 * v[1] * L::lanes) +
                      L::load3(grad_sum + 3 * v[2] * L::lanes);
    const auto grad_cross = normalize_backward(normal.unit, normal.inverse, grad);
    value[1] = cross(normal.ac, grad_cross);  // of <grad, ab x ac>
    value[2] = cross(grad_cross, normal.ab);
    value[0] = V{} - value[1] - value[2];
  });
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
    with_lanes<T>(a.lanes, [&](auto l) { add<decltype(l)>(a, span); });              \
  }                                                                                  \
  void normals_store(const NormalsImages<T>& a, int64_t begin, int64_t end) {        \
    with_lanes<T>(a.lanes, [&](auto l) { store<decltype(l)>(a, begin, end); });      \
  }                                                                                  \
  void normals_grad_load(const NormalsImages<T>& a, int64_t begin, int64_t end) {    \
    with_lanes<T>(a.lanes, [&](auto l) { grad_load<decltype(l)>(a, begin, end); });  \
  }                                                                                  \
  void normals_grad_add(const NormalsImages<T>& a, const TriangleSpan& span) {       \
    with_lanes<T>(a.lanes, [&](auto l) { grad_add<decltype(l)>(a, span); });         \
  }                                                                                  \
  void normals_grad_store(const NormalsImages<T>& a, int64_t begin, int64_t end) {   \
    with_lanes<T>(a.lanes, [&](auto l) { grad_store<decltype(l)>(a, begin, end); }); \
  }
FACECORE_NORMALS(float)
FACECORE_NORMALS(double)
#undef FACECORE_NORMALS

}  // namespace FACECORE_SIMD_NAMESPACE

}  // namespace facecore
