// Calls of kernels out of Python dictionaries, by the names of their fields (the lists of kernels.h).
//
// An address or whole number comes as an int (no address as None), a struct as a tuple of all its fields in their order
// or as a dictionary of them. A field that is missing, unknown or of another type is a TypeError that names it.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels.h"

namespace latentjac {

class Struct;

// One field: its name, where it lies, and how a value is written there.
struct Field {
  using Write = void (*)(const Field&, PyObject* value, char* to);
  PyObject* name;
  size_t offset;
  Write write;
  const Struct* inner;
};

class Struct {
 public:
  Struct(const char* name, std::vector<Field> fields) : name_(name), fields_(std::move(fields)) {}
  void read(PyObject* from, char* to) const;

 private:
  std::string name_;
  std::vector<Field> fields_;
};

void write_address(const Field&, PyObject* value, char* to);
void write_integer(const Field&, PyObject* value, char* to);
void write_number(const Field&, PyObject* value, char* to);
void write_bool(const Field&, PyObject* value, char* to);
void write_dtype(const Field&, PyObject* value, char* to);
void write_activation(const Field&, PyObject* value, char* to);
void write_struct(const Field&, PyObject* value, char* to);

// The fields of a struct that the lists name.
template <typename T>
const Struct& fields_of();

#define LATENTJAC_DECLARE(Type) \
  template <>                   \
  const Struct& fields_of<Type>();
LATENTJAC_STRUCTS(LATENTJAC_DECLARE)
#undef LATENTJAC_DECLARE

template <typename T>
Field field_of(const char* name, const char* start, const T& member) {
  Field field{PyUnicode_InternFromString(name), static_cast<size_t>(reinterpret_cast<const char*>(&member) - start),
              nullptr, nullptr};
  if constexpr (std::is_pointer_v<T>) {
    field.write = write_address;
  } else if constexpr (std::is_same_v<T, int64_t>) {
    field.write = write_integer;
  } else if constexpr (std::is_same_v<T, double>) {
    field.write = write_number;
  } else if constexpr (std::is_same_v<T, bool>) {
    field.write = write_bool;
  } else if constexpr (std::is_same_v<T, DType>) {
    field.write = write_dtype;
  } else if constexpr (std::is_same_v<T, Activation>) {
    field.write = write_activation;
  } else {
    field.write = write_struct;
    field.inner = &fields_of<T>();
  }
  return field;
}

template <typename T>
T read(const pybind11::handle& from) {
  T call = {};
  fields_of<T>().read(from.ptr(), reinterpret_cast<char*>(&call));
  return call;
}

}  // namespace latentjac
