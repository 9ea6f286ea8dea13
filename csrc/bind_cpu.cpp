#include "bind.h"
#include "fields.h"

namespace py = pybind11;

namespace latentjac {

void bind_cpu(py::module_& m) {
  py::list names;
#define LATENTJAC_BIND(name, Call)                       \
  names.append(#name);                                   \
  m.def(#name, [](int threads, const py::dict& fields) { \
    const Call call = read<Call>(fields);                \
    py::gil_scoped_release unlocked;                     \
    cpu::name(call, threads);                            \
  });
  LATENTJAC_CPU_KERNELS(LATENTJAC_BIND)
#undef LATENTJAC_BIND
  tell(m, "cpu", names, kCpuTypes);
}

}  // namespace latentjac
