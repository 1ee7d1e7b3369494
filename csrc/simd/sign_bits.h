// The signs of the numbers of a vector, as bits. Included by csrc/simd/*.cpp only.
#pragma once
#include <cstdint>
#include <cstring>

#include "simd/vector.h"

namespace facecore {
namespace {

template <class V> using Lane = typename V::type;

// The numbers of a vector as integers, to work on their signs.
template <class T> struct IntegerOf;
template <> struct IntegerOf<float> {
  typedef int32_t type;
};
template <> struct IntegerOf<double> {
  typedef int64_t type;
};
template <class T, class V> struct BitsOf {
  typedef typename Vector<typename IntegerOf<T>::type, sizeof(Lane<V>)>::type type;
};
template <class T> struct BitsOf<T, Scalar<T>> {
  typedef typename IntegerOf<T>::type type;
};
template <class To, class From> FACECORE_INLINE To bits_as(From from) {
  To to;
  static_assert(sizeof(to) == sizeof(from), "the same bits");
  std::memcpy(&to, &from, sizeof(to));
  return to;
}
template <class T, class V> FACECORE_INLINE typename BitsOf<T, V>::type sign_bits(Lane<V> x) {
  typedef typename BitsOf<T, V>::type Bits;
  const Lane<V> minus_zero = -Lane<V>{};
  return bits_as<Bits>(x) & bits_as<Bits>(minus_zero);
}

template <class T, class V> FACECORE_INLINE Lane<V> absolute(Lane<V> x) {
  typedef typename BitsOf<T, V>::type Bits;
  const Lane<V> minus_zero = -Lane<V>{};
  return bits_as<Lane<V>>(bits_as<Bits>(x) & ~bits_as<Bits>(minus_zero));
}
template <class T, class V> FACECORE_INLINE Lane<V> times_sign(Lane<V> a, Lane<V> b) {  // a sign(b), 0 at a kink
  typedef typename BitsOf<T, V>::type Bits;
  const Lane<V> turned = bits_as<Lane<V>>(bits_as<Bits>(a) ^ sign_bits<T, V>(b));
  return b != 0 ? turned : Lane<V>{};
}

}  // namespace
}  // namespace facecore
