// What every op's binding needs: pointers that arrive from Python as integers, and the device they live on.
#pragma once
#include <pybind11/pybind11.h>

#include "core/launch.h"

namespace facecore {

// A tensor's data_ptr(); converts to whatever pointer the parameter struct declares. 0 stands for an absent tensor.
struct Address {
  std::uintptr_t value = 0;
  template <class T> operator T*() const { return reinterpret_cast<T*>(value); }
};

}  // namespace facecore

namespace pybind11::detail {
template <> struct type_caster<facecore::Address> {
  PYBIND11_TYPE_CASTER(facecore::Address, const_name("int"));
  bool load(handle source, bool) {
    if (!PyLong_Check(source.ptr())) return false;
    value.value = PyLong_AsUnsignedLongLong(source.ptr());
    if (PyErr_Occurred()) {
      PyErr_Clear();
      return false;
    }
    return true;
  }
};
template <> struct type_caster<facecore::Device> {
  PYBIND11_TYPE_CASTER(facecore::Device, const_name("tuple"));
  bool load(handle source, bool) {  // (device index or -1, raw stream)
    if (!PyTuple_Check(source.ptr()) || PyTuple_Size(source.ptr()) != 2) return false;
    value.index = PyLong_AsLongLong(PyTuple_GetItem(source.ptr(), 0));
    value.stream = PyLong_AsUnsignedLongLong(PyTuple_GetItem(source.ptr(), 1));
    if (PyErr_Occurred()) {
      PyErr_Clear();
      return false;
    }
    return true;
  }
};
}  // namespace pybind11::detail
