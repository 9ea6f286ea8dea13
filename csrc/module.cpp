// Binds kernels.h to Python and reports how it was built. Addresses come as integers; no torch here.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>

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

void* address(uintptr_t value) {
  return reinterpret_cast<void*>(value);
}

NormPrimal primal_call(uintptr_t x, uintptr_t gamma, uintptr_t beta, uintptr_t y, uintptr_t xhat, uintptr_t a,
                       int64_t gamma_stride, int64_t beta_stride, int64_t samples, int64_t positions, int64_t channels,
                       int64_t groups, double eps, int dtype, int activation, bool rms) {
  return {address(x),
          address(gamma),
          address(beta),
          address(y),
          address(xhat),
          address(a),
          gamma_stride,
          beta_stride,
          samples,
          positions,
          channels,
          groups,
          eps,
          static_cast<DType>(dtype),
          static_cast<Activation>(activation),
          rms};
}

NormLinear linear_call(uintptr_t t, uintptr_t a, uintptr_t xhat, uintptr_t out, int64_t probes, int64_t samples,
                       int64_t positions, int64_t channels, int64_t groups, int dtype, bool rms, bool transpose,
                       bool accumulate) {
  return {address(t), address(a), address(xhat), address(out), probes,
          samples,    positions,  channels,      groups,       static_cast<DType>(dtype),
          rms,        transpose,  accumulate};
}

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

  m.def("norm_act_primal",
        [](int threads, uintptr_t x, uintptr_t gamma, uintptr_t beta, uintptr_t y, uintptr_t xhat, uintptr_t a,
           int64_t gamma_stride, int64_t beta_stride, int64_t samples, int64_t positions, int64_t channels,
           int64_t groups, double eps, int dtype, int activation, bool rms) {
          const NormPrimal call = primal_call(x, gamma, beta, y, xhat, a, gamma_stride, beta_stride, samples, positions,
                                              channels, groups, eps, dtype, activation, rms);
          py::gil_scoped_release unlocked;
          cpu::norm_act_primal(call, threads);
        });
  m.def("norm_act_linear", [](int threads, uintptr_t t, uintptr_t a, uintptr_t xhat, uintptr_t out, int64_t probes,
                              int64_t samples, int64_t positions, int64_t channels, int64_t groups, int dtype, bool rms,
                              bool transpose, bool accumulate) {
    const NormLinear call =
        linear_call(t, a, xhat, out, probes, samples, positions, channels, groups, dtype, rms, transpose, accumulate);
    py::gil_scoped_release unlocked;
    cpu::norm_act_linear(call, threads);
  });

#ifdef LATENTJAC_WITH_CUDA
  m.attr("cuda_built") = true;
  m.def("norm_act_workspace", &cuda::norm_act_workspace);
  m.def("cuda_norm_act_primal",
        [](uintptr_t workspace, int device, uintptr_t stream, uintptr_t x, uintptr_t gamma, uintptr_t beta, uintptr_t y,
           uintptr_t xhat, uintptr_t a, int64_t gamma_stride, int64_t beta_stride, int64_t samples, int64_t positions,
           int64_t channels, int64_t groups, double eps, int dtype, int activation, bool rms) {
          const NormPrimal call = primal_call(x, gamma, beta, y, xhat, a, gamma_stride, beta_stride, samples, positions,
                                              channels, groups, eps, dtype, activation, rms);
          py::gil_scoped_release unlocked;
          cuda::norm_act_primal(call, address(workspace), device, address(stream));
        });
  m.def("cuda_norm_act_linear", [](uintptr_t workspace, int device, uintptr_t stream, uintptr_t t, uintptr_t a,
                                   uintptr_t xhat, uintptr_t out, int64_t probes, int64_t samples, int64_t positions,
                                   int64_t channels, int64_t groups, int dtype, bool rms, bool transpose,
                                   bool accumulate) {
    const NormLinear call =
        linear_call(t, a, xhat, out, probes, samples, positions, channels, groups, dtype, rms, transpose, accumulate);
    py::gil_scoped_release unlocked;
    cuda::norm_act_linear(call, address(workspace), device, address(stream));
  });
#else
  m.attr("cuda_built") = false;
#endif
}
