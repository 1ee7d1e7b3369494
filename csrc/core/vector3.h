// A vector of three numbers, for host and device.
#pragma once
#include "core/host_device.h"

namespace facecore {

template <class T> struct Vector3 {
  T x, y, z;
};
template <class T> FACECORE_HD Vector3<T> load3(const T* p) { return {p[0], p[1], p[2]}; }
template <class T> FACECORE_HD void store3(T* p, Vector3<T> v) { p[0] = v.x, p[1] = v.y, p[2] = v.z; }
template <class T> FACECORE_HD Vector3<T> operator+(Vector3<T> a, Vector3<T> b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z};
}
template <class T> FACECORE_HD Vector3<T> operator-(Vector3<T> a, Vector3<T> b) {
  return {a.x - b.x, a.y - b.y, a.z - b.z};
}
template <class T> FACECORE_HD Vector3<T> operator*(T s, Vector3<T> a) { return {s * a.x, s * a.y, s * a.z}; }
template <class T> FACECORE_HD T dot(Vector3<T> a, Vector3<T> b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
template <class T> FACECORE_HD Vector3<T> cross(Vector3<T> a, Vector3<T> b) {
  return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}

}  // namespace facecore
