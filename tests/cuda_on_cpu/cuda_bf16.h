// Stands in for CUDA's header of this name; see cuda_runtime.h.
#pragma once

#include "half_types.h"

struct alignas(2) __nv_bfloat16 {
  uint16_t bits;
};
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};

inline __nv_bfloat16 __float2bfloat16(float value) {
  return {cuda_on_cpu::bfloat16_of(value)};
}
inline float __bfloat162float(__nv_bfloat16 value) {
  return cuda_on_cpu::bits_float(static_cast<uint32_t>(value.bits) << 16);
}
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
  return {__float2bfloat16(x), __float2bfloat16(y)};
}
