#include "fields.h"

namespace latentjac {

namespace {

template <typename T>
void put(char* to, T value) {
  *reinterpret_cast<T*>(to) = value;
}

[[noreturn]] void refuse(PyObject* name, const char* expected, PyObject* value) {
  PyErr_Clear();
  PyErr_Format(PyExc_TypeError, "%U must be %s, got %R", name, expected, value);
  throw pybind11::error_already_set();
}

int64_t integer(const Field& field, const char* expected, PyObject* value) {
  const int64_t number = PyLong_Check(value) ? PyLong_AsLongLong(value) : -1;
  if (number == -1 && (!PyLong_Check(value) || PyErr_Occurred())) refuse(field.name, expected, value);
  return number;
}

int enumerated(const Field& field, const char* expected, PyObject* value, int64_t count) {
  const int64_t number = integer(field, expected, value);
  if (number < 0 || number >= count) refuse(field.name, expected, value);
  return static_cast<int>(number);
}

}  // namespace

void Struct::read(PyObject* from, char* to) const {
  const Py_ssize_t count = static_cast<Py_ssize_t>(fields_.size());
  const bool named = PyDict_Check(from);
  if (!named && !PyTuple_Check(from)) {
    PyErr_Format(PyExc_TypeError, "%s must be a dict or a tuple, got %R", name_.c_str(), from);
    throw pybind11::error_already_set();
  }
  if ((named ? PyDict_GET_SIZE(from) : PyTuple_GET_SIZE(from)) != count) {
    PyErr_Format(PyExc_TypeError, "%s must have %zd fields, got %R", name_.c_str(), count, from);
    throw pybind11::error_already_set();
  }
  for (Py_ssize_t i = 0; i < count; ++i) {
    const Field& field = fields_[static_cast<size_t>(i)];
    PyObject* value = named ? PyDict_GetItemWithError(from, field.name) : PyTuple_GET_ITEM(from, i);
    if (!value) {
      PyErr_Format(PyExc_TypeError, "%s must have a field %U, got %R", name_.c_str(), field.name, from);
      throw pybind11::error_already_set();
    }
    field.write(field, value, to + field.offset);
  }
}

void write_address(const Field& field, PyObject* value, char* to) {
  if (value == Py_None) return;
  void* address = PyLong_Check(value) ? PyLong_AsVoidPtr(value) : nullptr;
  if (!address && (!PyLong_Check(value) || PyErr_Occurred())) refuse(field.name, "an address or None", value);
  put(to, address);
}

void write_integer(const Field& field, PyObject* value, char* to) {
  put(to, integer(field, "a whole number", value));
}

void write_number(const Field& field, PyObject* value, char* to) {
  const double number = PyFloat_AsDouble(value);
  if (number == -1 && PyErr_Occurred()) refuse(field.name, "a number", value);
  put(to, number);
}

void write_bool(const Field& field, PyObject* value, char* to) {
  if (!PyBool_Check(value)) refuse(field.name, "True or False", value);
  put(to, value == Py_True);
}

void write_dtype(const Field& field, PyObject* value, char* to) {
  put(to, static_cast<DType>(enumerated(field, "the number of a DType", value, kCudaTypes)));
}

void write_activation(const Field& field, PyObject* value, char* to) {
  put(to, static_cast<Activation>(enumerated(field, "the number of an Activation", value, kActivations)));
}

void write_struct(const Field& field, PyObject* value, char* to) {
  field.inner->read(value, to);
}

// Its name, and each field with its place in an empty one. Taken apart into its fields, it has to have as many.
#define LATENTJAC_NAME(name) name
#define LATENTJAC_FIELD(name) field_of(#name, start, empty.name)
#define LATENTJAC_DESCRIBE(Type)                                                      \
  template <>                                                                         \
  const Struct& fields_of<Type>() {                                                   \
    static const Struct described = [] {                                              \
      static const Type empty = {};                                                   \
      [[maybe_unused]] const auto& [LATENTJAC_FIELDS_##Type(LATENTJAC_NAME)] = empty; \
      const char* start = reinterpret_cast<const char*>(&empty);                      \
      return Struct(#Type, {LATENTJAC_FIELDS_##Type(LATENTJAC_FIELD)});               \
    }();                                                                              \
    return described;                                                                 \
  }

LATENTJAC_STRUCTS(LATENTJAC_DESCRIBE)

}  // namespace latentjac
