// Activations and their derivatives on the device. NaN goes in and comes out.
#pragma once

#include <cuda_runtime.h>

#include "kernels.h"

namespace latentjac {
namespace cuda {
namespace {

__device__ inline float exponential(float x) {
  return expf(x);
}
__device__ inline double exponential(double x) {
  return exp(x);
}
__device__ inline float error_function(float x) {
  return erff(x);
}
__device__ inline double error_function(double x) {
  return erf(x);
}
__device__ inline float hyperbolic_tangent(float x) {
  return tanhf(x);
}
__device__ inline double hyperbolic_tangent(double x) {
  return tanh(x);
}

template <typename T>
__device__ inline void activate(Activation kind, T z, T& value, T& slope) {
  switch (kind) {
    case Activation::kSilu: {
      const T sigmoid = T(1) / (T(1) + exponential(-z));
      value = z * sigmoid;
      slope = sigmoid * (T(1) + z * (T(1) - sigmoid));
      return;
    }
    case Activation::kGelu: {
      const T cdf = T(0.5) * (T(1) + error_function(z * T(0.70710678118654752440)));
      value = z * cdf;
      slope = cdf + z * T(0.39894228040143267794) * exponential(T(-0.5) * z * z);
      return;
    }
    case Activation::kGeluTanh: {
      const T k = T(0.79788456080286535588), cubic = T(0.044715);
      const T t = hyperbolic_tangent(k * (z + cubic * z * z * z));
      value = T(0.5) * z * (T(1) + t);
      slope = T(0.5) * (T(1) + t) + T(0.5) * z * (T(1) - t * t) * k * (T(1) + T(3) * cubic * z * z);
      return;
    }
    case Activation::kRelu:
      value = z <= T(0) ? T(0) : z;
      slope = z <= T(0) ? T(0) : T(1);
      return;
    case Activation::kIdentity:
      value = z;
      slope = T(1);
      return;
  }
}

}  // namespace
}  // namespace cuda
}  // namespace latentjac
