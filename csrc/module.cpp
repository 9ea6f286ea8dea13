// Binds kernels.h to Python and reports how it was built. Addresses come as integers; no torch here.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
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

// Addresses in the order of the call's arrays; sizes: strides of value and gate, probes, rows, channels.
template <typename Call>
Call gated_call(const std::array<uintptr_t, 5>& at, const std::array<int64_t, 5>& sizes, int dtype) {
  return {address(at[0]), address(at[1]), address(at[2]), address(at[3]), address(at[4]),           sizes[0],
          sizes[1],       sizes[2],       sizes[3],       sizes[4],       static_cast<DType>(dtype)};
}

// Address and strides of an array: probe, batch, head, row.
using Array = std::array<int64_t, 5>;

Strided strided(const Array& array) {
  return {address(static_cast<uintptr_t>(array[0])), array[1], array[2], array[3], array[4]};
}

struct AttentionArguments {
  AttentionShape shape;
  Strided q, k, v;
  AttentionBias bias;
  Strided o;
  void* lse;
};

// sizes: batch, heads, queries, keys, channels, value channels; bias: address, batch, head, row, column.
AttentionArguments attention_arguments(const std::array<int64_t, 6>& sizes, double scale, int dtype, bool causal,
                                       bool allow_tf32, const Array& q, const Array& k, const Array& v,
                                       const Array& bias, const Array& o, uintptr_t lse) {
  return {{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], scale, static_cast<DType>(dtype), causal,
           allow_tf32},
          strided(q),
          strided(k),
          strided(v),
          {address(static_cast<uintptr_t>(bias[0])), bias[1], bias[2], bias[3], bias[4]},
          strided(o),
          address(lse)};
}

AttentionPrimal primal_of(const AttentionArguments& a) {
  return {a.shape, a.q, a.k, a.v, a.bias, a.o, a.lse};
}

AttentionTangent tangent_of(const AttentionArguments& a, int64_t probes, const Array& dq, const Array& dk,
                            const Array& dv, const Array& out, bool accumulate) {
  return {a.shape, a.q,         a.k,         a.v,         a.bias,       a.o,       a.lse,
          probes,  strided(dq), strided(dk), strided(dv), strided(out), accumulate};
}

AttentionCotangent cotangent_of(const AttentionArguments& a, int64_t probes, const Array& u, const Array& dq,
                                const Array& dk, const Array& dv) {
  return {a.shape, a.q, a.k, a.v, a.bias, a.o, a.lse, probes, strided(u), strided(dq), strided(dk), strided(dv)};
}

#ifdef LATENTJAC_WITH_CUDA
// Address, strides of point and row.
Rows rows_of(const std::array<int64_t, 3>& a) {
  return {address(static_cast<uintptr_t>(a[0])), a[1], a[2]};
}

// Address and strides of the weights (point, result, row), then the rows, then how many.
WeightedRows weighted_of(const std::array<int64_t, 8>& a) {
  return {static_cast<const double*>(address(static_cast<uintptr_t>(a[0]))),
          a[1],
          a[2],
          a[3],
          rows_of({a[4], a[5], a[6]}),
          a[7]};
}
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

  using Addresses = std::array<uintptr_t, 5>;
  using Sizes = std::array<int64_t, 5>;
  m.def("gated_tangent", [](int threads, const Addresses& at, const Sizes& sizes, int dtype) {
    py::gil_scoped_release unlocked;
    cpu::gated_tangent(gated_call<GatedTangent>(at, sizes, dtype), threads);
  });
  m.def("gated_cotangent", [](int threads, const Addresses& at, const Sizes& sizes, int dtype) {
    py::gil_scoped_release unlocked;
    cpu::gated_cotangent(gated_call<GatedCotangent>(at, sizes, dtype), threads);
  });

  // Shared by all devices: an object that holds the primal, then calls with the arrays of the probes.
  py::class_<AttentionArguments>(m, "Attention").def(py::init(&attention_arguments));
  m.def("attention_primal", [](int threads, const AttentionArguments& a) {
    py::gil_scoped_release unlocked;
    cpu::attention_primal(primal_of(a), threads);
  });
  m.def("attention_tangent", [](int threads, const AttentionArguments& a, int64_t probes, const Array& dq,
                                const Array& dk, const Array& dv, const Array& out, bool accumulate) {
    py::gil_scoped_release unlocked;
    cpu::attention_tangent(tangent_of(a, probes, dq, dk, dv, out, accumulate), threads);
  });
  m.def("attention_cotangent", [](int threads, const AttentionArguments& a, int64_t probes, const Array& u,
                                  const Array& dq, const Array& dk, const Array& dv) {
    py::gil_scoped_release unlocked;
    cpu::attention_cotangent(cotangent_of(a, probes, u, dq, dk, dv), threads);
  });
  m.def("rowwise_product", [](int threads, uintptr_t matrices, const std::array<int64_t, 6>& sizes, const Array& t,
                              const Array& out, int dtype) {
    py::gil_scoped_release unlocked;
    cpu::rowwise_product({address(matrices), sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], strided(t),
                          strided(out), static_cast<DType>(dtype)},
                         threads);
  });

#ifdef LATENTJAC_WITH_CUDA
  m.attr("cuda_built") = true;
  m.def("norm_act_workspace", &cuda::norm_act_workspace);
  m.def("cuda_norm_act_primal",
        [](int device, uintptr_t stream, uintptr_t workspace, uintptr_t x, uintptr_t gamma, uintptr_t beta, uintptr_t y,
           uintptr_t xhat, uintptr_t a, int64_t gamma_stride, int64_t beta_stride, int64_t samples, int64_t positions,
           int64_t channels, int64_t groups, double eps, int dtype, int activation, bool rms) {
          const NormPrimal call = primal_call(x, gamma, beta, y, xhat, a, gamma_stride, beta_stride, samples, positions,
                                              channels, groups, eps, dtype, activation, rms);
          py::gil_scoped_release unlocked;
          cuda::norm_act_primal(call, address(workspace), device, address(stream));
        });
  m.def("cuda_norm_act_linear", [](int device, uintptr_t stream, uintptr_t workspace, uintptr_t t, uintptr_t a,
                                   uintptr_t xhat, uintptr_t out, int64_t probes, int64_t samples, int64_t positions,
                                   int64_t channels, int64_t groups, int dtype, bool rms, bool transpose,
                                   bool accumulate) {
    const NormLinear call =
        linear_call(t, a, xhat, out, probes, samples, positions, channels, groups, dtype, rms, transpose, accumulate);
    py::gil_scoped_release unlocked;
    cuda::norm_act_linear(call, address(workspace), device, address(stream));
  });
  m.def("cuda_gated_tangent", [](int device, uintptr_t stream, const Addresses& at, const Sizes& sizes, int dtype) {
    py::gil_scoped_release unlocked;
    cuda::gated_tangent(gated_call<GatedTangent>(at, sizes, dtype), device, address(stream));
  });
  m.def("cuda_gated_cotangent", [](int device, uintptr_t stream, const Addresses& at, const Sizes& sizes, int dtype) {
    py::gil_scoped_release unlocked;
    cuda::gated_cotangent(gated_call<GatedCotangent>(at, sizes, dtype), device, address(stream));
  });
  m.def("cuda_attention_primal", [](int device, uintptr_t stream, const AttentionArguments& a) {
    py::gil_scoped_release unlocked;
    cuda::attention_primal(primal_of(a), device, address(stream));
  });
  m.def("cuda_attention_tangent",
        [](int device, uintptr_t stream, const AttentionArguments& a, int64_t probes, const Array& dq, const Array& dk,
           const Array& dv, const Array& out, bool accumulate) {
          py::gil_scoped_release unlocked;
          cuda::attention_tangent(tangent_of(a, probes, dq, dk, dv, out, accumulate), device, address(stream));
        });
  m.def("cuda_attention_cotangent", [](int device, uintptr_t stream, const AttentionArguments& a, int64_t probes,
                                       const Array& u, const Array& dq, const Array& dk, const Array& dv) {
    py::gil_scoped_release unlocked;
    cuda::attention_cotangent(cotangent_of(a, probes, u, dq, dk, dv), device, address(stream));
  });
  m.def("gram_workspace", &cuda::gram_workspace);
  m.def("cuda_gram",
        [](int device, uintptr_t stream, uintptr_t workspace, const std::array<int64_t, 3>& a,
           const std::array<int64_t, 3>& b, uintptr_t out, const std::array<int64_t, 4>& sizes, int dtype) {
          py::gil_scoped_release unlocked;
          cuda::gram({rows_of(a), rows_of(b), static_cast<double*>(address(out)), sizes[0], sizes[1], sizes[2],
                      sizes[3], static_cast<DType>(dtype)},
                     address(workspace), device, address(stream));
        });
  m.def("cuda_combine_rows",
        [](int device, uintptr_t stream, const std::array<int64_t, 8>& first, const std::array<int64_t, 8>& second,
           uintptr_t out, const std::array<int64_t, 3>& sizes, int dtype, bool wide) {
          py::gil_scoped_release unlocked;
          cuda::combine_rows({weighted_of(first), weighted_of(second), address(out), sizes[0], sizes[1], sizes[2],
                              static_cast<DType>(dtype), wide},
                             device, address(stream));
        });
  m.def("jacobi_needs", &cuda::jacobi_needs);
  m.def("jacobi_room", &cuda::jacobi_room);
  m.def("jacobi_workspace", &cuda::jacobi_workspace);
  // at: matrices, left, values, right, off.
  m.def("cuda_jacobi", [](int device, uintptr_t stream, uintptr_t workspace, const Addresses& at,
                          const std::array<int64_t, 3>& sizes) {
    const auto doubles = [&](int i) { return static_cast<double*>(address(at[i])); };
    const Jacobi call{doubles(0), doubles(1), doubles(2), doubles(3), doubles(4), sizes[0], sizes[1], sizes[2]};
    py::gil_scoped_release unlocked;
    cuda::jacobi(call, address(workspace), device, address(stream));
  });
#else
  m.attr("cuda_built") = false;
#endif
}
