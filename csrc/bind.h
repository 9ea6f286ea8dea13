// The kernels of kernels.h as functions of a Python module, each with its call as a dictionary (fields.h):
//
//   NAME(threads, call)                           on the processor
//   cuda_NAME(device, stream, workspace, call)    on a GPU
//   NAME_workspace(device, call)                  bytes of scratch memory for that
//
// `kernels` names those of each device, `types` says how many of the types in DType they take (none where they were not
// built), and `workspaces` names those that need scratch memory.
#pragma once

#include <pybind11/pybind11.h>

namespace latentjac {

void bind_cpu(pybind11::module_& m);
void bind_cuda(pybind11::module_& m);

// Adds what a device has to `kernels` and `types`.
inline void tell(pybind11::module_& m, const char* device, const pybind11::list& names, int types) {
  for (const char* name : {"kernels", "types"}) {
    if (!pybind11::hasattr(m, name)) m.attr(name) = pybind11::dict();
  }
  m.attr("kernels")[device] = pybind11::frozenset(names);
  m.attr("types")[device] = types;
}

}  // namespace latentjac
