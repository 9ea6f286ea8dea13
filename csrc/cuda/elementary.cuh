// Elementary functions on the device. NaN goes in and comes out.
#pragma once

#include <cuda_runtime.h>

namespace latentjac {
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

}  // namespace
}  // namespace latentjac
