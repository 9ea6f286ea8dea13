// The CUDA kernels for Python as latentjac._native has them, and what the tests ask of the emulator.
#include <pybind11/pybind11.h>

#include "bind.h"
#include "emulator.h"
#include "guarded.h"

namespace py = pybind11;
using namespace cuda_on_cpu;

PYBIND11_MODULE(cuda_on_cpu_kernels, m) {
  latentjac::bind_cuda(m);
  m.def("run_backwards", &run_backwards);
  m.def("limit_shared", &limit_shared);
  m.def("products", &products);
  m.def("run_faulty", [](int fault, uintptr_t out, uintptr_t in) {
    py::gil_scoped_release unlocked;
    run_faulty(fault, reinterpret_cast<float*>(out), reinterpret_cast<const float*>(in));
  });
  py::class_<Guarded>(m, "Guarded", py::buffer_protocol())
      .def(py::init<size_t>())
      .def("intact", &Guarded::intact)
      .def_property_readonly("start", [](const Guarded& g) { return reinterpret_cast<uintptr_t>(g.start()); })
      .def_buffer([](Guarded& g) { return py::buffer_info(g.start(), static_cast<py::ssize_t>(g.bytes())); });
}
