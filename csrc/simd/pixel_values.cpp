// The pixels of pixel_values.h, one after the other, the channels of a pixel in vectors. Common numbers of channels are
// constants of the compiler; C = 0 stands for any other.
#include "simd/pixel_values.h"

#include "simd/vector.h"

#if defined(__GNUC__)
#define FACECORE_INLINED __attribute__((always_inline))
#else
#define FACECORE_INLINED
#endif

namespace facecore {
namespace {

// Calls step(V{}, c) for vectors V that cover the channels [0, count) without overlap, widest first.
template <class T, class Step> FACECORE_INLINE void for_each_vector(int64_t count, const Step& step) {
  using Full = Vector<T, kVectorBytes>;
  using Half = Vector<T, kVectorBytes / 2 < 16 ? 16 : kVectorBytes / 2>;
  using Small = Vector<T, 16>;
  int64_t c = 0;
  for (; c + Full::lanes <= count; c += Full::lanes) step(Full{}, c);
  if (c + Half::lanes <= count) step(Half{}, c), c += Half::lanes;
  if (c + Small::lanes <= count) step(Small{}, c), c += Small::lanes;
  for (; c < count; ++c) step(Scalar<T>{}, c);
}

template <class T> FACECORE_INLINE T sum_of_lanes(Scalar<T>, T number) { return number; }
template <class T, int bytes>
FACECORE_INLINE T sum_of_lanes(Vector<T, bytes> kind, typename Vector<T, bytes>::type vector) {
  constexpr int lanes = decltype(kind)::lanes;
  alignas(64) T numbers[lanes];
  kind.store(numbers, vector);
  if constexpr (lanes == 1) return numbers[0];
  else if constexpr (bytes > 16) {  // by halves, which are vectors themselves
    using Half = Vector<T, bytes / 2>;
    return sum_of_lanes(Half{}, Half::load(numbers) + Half::load(numbers + lanes / 2));
  } else {
    T sum = numbers[0] + numbers[1];
    for (int i = 2; i < lanes; ++i) sum += numbers[i];
    return sum;
  }
}

// The vertices seen at a pixel; false: it is uncovered.
template <class T> FACECORE_INLINE bool find_vertices(const PixelValues<T>& a, int64_t pixel, int64_t (&vertex)[3]) {
  const int64_t id = a.triangle_id[pixel];
  if (id < 0 || id >= a.num_triangles) return false;
  for (int k = 0; k < 3; ++k) vertex[k] = a.triangles[3 * id + k];
  const auto limit = static_cast<uint64_t>(a.num_vertices);
  return uint64_t(vertex[0]) < limit && uint64_t(vertex[1]) < limit && uint64_t(vertex[2]) < limit;
}

template <class T> FACECORE_INLINE void fill_zero(T* begin, T* end) {
  using V = Vector<T, kVectorBytes>;
  for (; end - begin >= V::lanes; begin += V::lanes) V::store(begin, typename V::type{});
  for (; begin < end; ++begin) *begin = T(0);
}

// The first pixel from p on that may be covered, or one of the last kScan before the end.
constexpr int64_t kScan = 16;
template <class T> FACECORE_INLINE int64_t skip_uncovered(const PixelValues<T>& a, int64_t p, int64_t end) {
  for (; p + kScan <= end; p += kScan) {
    int32_t all = -1;
    for (int64_t i = 0; i < kScan; ++i) all &= a.triangle_id[p + i];  // negative if all of them are
    if (all >= 0) break;
  }
  return p;
}

template <int C, class T> FACECORE_INLINE void values(const PixelValues<T>& arguments, int64_t begin, int64_t end) {
  const PixelValues<T> a = arguments;  // a private copy: a store through T* cannot change it
  const int64_t channels = C ? C : a.num_channels;
  int64_t vertex[3];
  for (int64_t p = begin; p < end; ++p) {
    if (!find_vertices(a, p, vertex)) {
      const int64_t next = skip_uncovered(a, p + 1, end);
      fill_zero(a.out + p * channels, a.out + next * channels);
      p = next - 1;
      continue;
    }
    const T *weight = a.barycentric + 3 * p, *row[3];
    for (int k = 0; k < 3; ++k) row[k] = a.attributes + vertex[k] * channels;
    const T w0 = weight[0], w1 = weight[1], w2 = weight[2];
    T* out = a.out + p * channels;
    for_each_vector<T>(channels, [&](auto vector, int64_t c) FACECORE_INLINED {
      using V = decltype(vector);
      V::store(out + c, w0 * V::load(row[0] + c) + w1 * V::load(row[1] + c) + w2 * V::load(row[2] + c));
    });
  }
}

// Adds weight * grad to the row of a vertex.
template <int C, class T>
FACECORE_INLINE void add_row(const PixelGradients<T>& a, int64_t vertex, T weight, const T* grad) {
  const int64_t channels = C ? C : a.forward.num_channels;
  T* target = a.grad_attributes + vertex * channels;
  for_each_vector<T>(channels, [&](auto vector, int64_t c) FACECORE_INLINED {
    using V = decltype(vector);
    V::store(target + c, V::load(target + c) + weight * V::load(grad + c));
  });
}

// The same where it is `mine`, and returns <grad, attributes> there.
template <int C, class T>
FACECORE_INLINE T add_to_vertex(const PixelGradients<T>& a, int64_t vertex, T weight, const T* grad, bool mine) {
  const int64_t channels = C ? C : a.forward.num_channels;
  const T* row = a.forward.attributes + vertex * channels;
  T* target = mine ? a.grad_attributes + vertex * channels : nullptr;
  using Full = Vector<T, kVectorBytes>;
  typename Full::type dots{};
  T dot = T(0);
  for_each_vector<T>(channels, [&](auto vector, int64_t c) FACECORE_INLINED {
    using V = decltype(vector);
    const auto g = V::load(grad + c);
    if constexpr (V::lanes == Full::lanes) dots += V::load(row + c) * g;
    else dot += sum_of_lanes(vector, V::load(row + c) * g);
    if (mine) V::store(target + c, V::load(target + c) + weight * g);
  });
  if ((C ? C : Full::lanes) >= Full::lanes) dot += sum_of_lanes(Full{}, dots);
  return dot;
}

template <int C, class T>
FACECORE_INLINE int64_t gradients(const PixelGradients<T>& arguments, int64_t begin, int64_t end, int32_t* foreign) {
  const PixelGradients<T> a = arguments;
  const int64_t channels = C ? C : a.forward.num_channels;
  int64_t vertex[3], num_foreign = 0;
  for (int64_t p = begin; p < end; ++p) {
    if (!find_vertices(a.forward, p, vertex)) {
      const int64_t next = skip_uncovered(a.forward, p + 1, end);
      if (a.grad_barycentric) fill_zero(a.grad_barycentric + 3 * p, a.grad_barycentric + 3 * next);
      p = next - 1;
      continue;
    }
    const bool adds = a.grad_attributes != nullptr;
    bool mine[3] = {adds, adds, adds};
    if (a.owner) {
      for (int k = 0; k < 3; ++k) mine[k] = a.owner[vertex[k]] == a.own;
      if (!mine[0] || !mine[1] || !mine[2]) foreign[num_foreign++] = static_cast<int32_t>(p);
    }
    const T *weight = a.forward.barycentric + 3 * p, *grad = a.grad_out + p * channels;
    for (int k = 0; k < 3; ++k) {
      if (a.grad_barycentric) a.grad_barycentric[3 * p + k] = add_to_vertex<C>(a, vertex[k], weight[k], grad, mine[k]);
      else if (mine[k]) add_row<C>(a, vertex[k], weight[k], grad);
    }
  }
  return num_foreign;
}

template <class T>
FACECORE_INLINE void gradients_foreign(const PixelGradients<T>& a, const int32_t* pixels, int64_t count) {
  const int64_t channels = a.forward.num_channels;
  int64_t vertex[3];
  for (int64_t i = 0; i < count; ++i) {
    const int64_t p = pixels[i];
    if (!find_vertices(a.forward, p, vertex)) continue;
    for (int k = 0; k < 3; ++k) {
      if (a.owner[vertex[k]] == a.own)
        add_row<0>(a, vertex[k], a.forward.barycentric[3 * p + k], a.grad_out + p * channels);
    }
  }
}

template <int C> struct Channels {
  static constexpr int count = C;
};
template <class Job> FACECORE_INLINE auto with_channels(int64_t channels, const Job& job) {
  switch (channels) {
    case 1:
      return job(Channels<1>{});
    case 2:
      return job(Channels<2>{});
    case 3:
      return job(Channels<3>{});
    case 4:
      return job(Channels<4>{});
    case 6:
      return job(Channels<6>{});
    case 8:
      return job(Channels<8>{});
    case 16:
      return job(Channels<16>{});
    case 32:
      return job(Channels<32>{});
    default:
      return job(Channels<0>{});
  }
}

}  // namespace

namespace FACECORE_SIMD_NAMESPACE {

#define FACECORE_PIXELS(T)                                                                               \
  void pixel_values(const PixelValues<T>& a, int64_t begin, int64_t end) {                               \
    with_channels(a.num_channels, [&](auto c) { values<decltype(c)::count>(a, begin, end); });           \
  }                                                                                                      \
  int64_t pixel_gradients(const PixelGradients<T>& a, int64_t begin, int64_t end, int32_t* foreign) {    \
    return with_channels(a.forward.num_channels,                                                         \
                         [&](auto c) { return gradients<decltype(c)::count>(a, begin, end, foreign); }); \
  }                                                                                                      \
  void pixel_gradients_foreign(const PixelGradients<T>& a, const int32_t* pixels, int64_t count) {       \
    gradients_foreign(a, pixels, count);                                                                 \
  }
FACECORE_PIXELS(float)
FACECORE_PIXELS(double)
#undef FACECORE_PIXELS

}  // namespace FACECORE_SIMD_NAMESPACE

}  // namespace facecore
