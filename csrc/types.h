// The one way from the numbers of kernels.h to C++ types: use(...) is called with them.
//
// In a nameless namespace, so that no copy is shared between instruction sets.
#pragma once

#include "kernels.h"

#if !defined(LATENTJAC_ISA)  // no copy for processors: a source for CUDA
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

#if defined(__CUDACC__)
#define LATENTJAC_DEVICE __device__
#else
#define LATENTJAC_DEVICE
#endif

namespace latentjac {
namespace {

inline int64_t value_bytes(DType dtype) {
  return dtype == DType::kFloat64 ? 8 : dtype == DType::kFloat32 ? 4 : 2;
}

// Of the values in memory, and of the arithmetic.
template <typename Value, typename Arithmetic>
struct Types {
  using value = Value;
  using arithmetic = Arithmetic;
};

template <typename Use>
inline auto with_types(DType dtype, const Use& use) {
  switch (dtype) {
    case DType::kFloat64:
      return use(Types<double, double>{});
#if !defined(LATENTJAC_ISA)
    case DType::kBFloat16:
      return use(Types<__nv_bfloat16, float>{});
    case DType::kFloat16:
      return use(Types<__half, float>{});
#endif
    default:
      return use(Types<float, float>{});
  }
}

template <Activation kAct>
struct Is {
  static constexpr Activation value = kAct;
};

template <typename Use>
LATENTJAC_DEVICE inline auto with_activation(Activation activation, const Use& use) {
  switch (activation) {
    case Activation::kSilu:
      return use(Is<Activation::kSilu>{});
    case Activation::kGelu:
      return use(Is<Activation::kGelu>{});
    case Activation::kGeluTanh:
      return use(Is<Activation::kGeluTanh>{});
    case Activation::kRelu:
      return use(Is<Activation::kRelu>{});
    default:
      return use(Is<Activation::kIdentity>{});
  }
}

}  // namespace
}  // namespace latentjac
