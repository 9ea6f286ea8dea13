// The Python module: the kernels, and how they were built. No torch here.
#include <pybind11/pybind11.h>

#include <stdexcept>

#include "bind.h"
#include "build_record.h"
#include "kernels.h"

namespace py = pybind11;
using namespace latentjac;

namespace {

#if defined(__clang__)
constexpr const char* kCompiler = "clang " __clang_version__;
#elif defined(__GNUC__)
constexpr const char* kCompiler = "gcc " __VERSION__;
#else
constexpr const char* kCompiler = "unknown";
#endif

py::dict build_info() {
  py::dict info;
  info["source_hash"] = LATENTJAC_SOURCE_HASH;
  info["compiler"] = kCompiler;
  info["cxx_flags"] = LATENTJAC_CXX_FLAGS;
  info["isa"] = cpu::isa();
  info["isa_compiled"] = cpu::isa_compiled();
  info["openmp"] = cpu::built_openmp();
  info["cuda_version"] = LATENTJAC_CUDA_VERSION;
  info["cuda_architectures"] = LATENTJAC_CUDA_ARCHITECTURES;
  return info;
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "Native kernels of latentjac (see csrc/kernels.h). Use latentjac.kernels, which checks the arguments.";
  m.attr("interface") = kInterface;
  m.def("build_info", &build_info);
  m.def("max_threads", &cpu::max_threads, "Threads OpenMP would use now.");
  m.def("end_threads", &cpu::end_threads,
        "End the threads that OpenMP keeps for the calling thread; False if it cannot.");
  try {
    cpu::isa();  // reads the environment, which no thread should do while another one writes to it
  } catch (const std::runtime_error&) {
    // Every call raises it.
  }

  bind_cpu(m);
  bind_cuda(m);
}
