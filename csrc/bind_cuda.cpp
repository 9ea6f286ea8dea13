#include "bind.h"
#include "fields.h"

namespace py = pybind11;

namespace latentjac {

namespace {

// What can be called, in a build for CUDA.
void define(py::module_& m) {
#ifdef LATENTJAC_WITH_CUDA
#define LATENTJAC_BIND(name, Call)                                                                     \
  m.def("cuda_" #name, [](int device, uintptr_t stream, uintptr_t workspace, const py::dict& fields) { \
    const Call call = read<Call>(fields);                                                              \
    py::gil_scoped_release unlocked;                                                                   \
    cuda::name(call, reinterpret_cast<void*>(workspace), device, reinterpret_cast<void*>(stream));     \
  });
  LATENTJAC_CUDA_KERNELS(LATENTJAC_BIND)
#undef LATENTJAC_BIND
#define LATENTJAC_BIND(name, Call) \
  m.def(#name "_workspace",        \
        [](int device, const py::dict& fields) { return cuda::name##_workspace(read<Call>(fields), device); });
  LATENTJAC_CUDA_WORKSPACES(LATENTJAC_BIND)
#undef LATENTJAC_BIND
  m.def("jacobi_fits", &cuda::jacobi_fits);
#else
  (void)m;
#endif
}

}  // namespace

void bind_cuda(py::module_& m) {
#ifdef LATENTJAC_WITH_CUDA
  constexpr int kTypes = kCudaTypes;
#else
  constexpr int kTypes = 0;
#endif
  py::list names, workspaces;
#define LATENTJAC_NAME(name, Call) names.append(#name);
  LATENTJAC_CUDA_KERNELS(LATENTJAC_NAME)
#undef LATENTJAC_NAME
#define LATENTJAC_NAME(name, Call) workspaces.append(#name);
  LATENTJAC_CUDA_WORKSPACES(LATENTJAC_NAME)
#undef LATENTJAC_NAME
  tell(m, "cuda", names, kTypes);
  m.attr("workspaces") = py::frozenset(workspaces);
  define(m);
}

}  // namespace latentjac
