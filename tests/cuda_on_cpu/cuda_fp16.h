// Stands in for CUDA's header of this name; see cuda_runtime.h.
#pragma once

#include "half_types.h"

struct alignas(2) __half {
  uint16_t bits;
};
struct alignas(4) __half2 {
  __half x, y;
};

inline __half __float2half(float value) {
  return {cuda_on_cpu::half_of(value)};
}
inline float __half2float(__half value) {
  return cuda_on_cpu::half_value(value.bits);
}
inline __half2 __floats2half2_rn(float x, float y) {
  return {__float2half(x), __float2half(y)};
}
