// Activations and their derivatives, for processors and for CUDA. NaN goes in and comes out.
//
// No branches, so that the compiler can vectorise. In a nameless namespace: no copy is shared between instruction sets.
#pragma once

#if defined(LATENTJAC_ISA)  // one of the copies for processors
#include "cpu/elementary.h"
#else
#include "cuda/elementary.cuh"
#endif
#include "types.h"

namespace latentjac {
namespace {

// value = act(z), slope = act'(z)
template <Activation kAct, typename T>
LATENTJAC_DEVICE inline void activate(T z, T& value, T& slope) {
  if constexpr (kAct == Activation::kSilu) {
    const T sigmoid = T(1) / (T(1) + exponential(-z));
    value = z * sigmoid;
    slope = sigmoid * (T(1) + z * (T(1) - sigmoid));
  } else if constexpr (kAct == Activation::kGelu) {
    const T cdf = T(0.5) * (T(1) + error_function(z * T(0.70710678118654752440)));
    value = z * cdf;
    slope = cdf + z * T(0.39894228040143267794) * exponential(T(-0.5) * z * z);
  } else if constexpr (kAct == Activation::kGeluTanh) {
    const T k = T(0.79788456080286535588), cubic = T(0.044715);
    const T t = hyperbolic_tangent(k * (z + cubic * z * z * z));
    value = T(0.5) * z * (T(1) + t);
    slope = T(0.5) * (T(1) + t) + T(0.5) * z * (T(1) - t * t) * k * (T(1) + T(3) * cubic * z * z);
  } else if constexpr (kAct == Activation::kRelu) {
    value = z <= T(0) ? T(0) : z;
    slope = z <= T(0) ? T(0) : T(1);
  } else {
    value = z;
    slope = T(1);
  }
}

}  // namespace
}  // namespace latentjac
