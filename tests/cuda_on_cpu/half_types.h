// 16-bit floats as CUDA has them: storage, conversion with rounding to nearest even, nothing else.
#pragma once

#include <stdint.h>
#include <string.h>

namespace cuda_on_cpu {

inline uint32_t float_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return bits;
}
inline float bits_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

// Rounds away the low `drop` bits of a finite float's magnitude.
inline uint32_t round_bits(uint32_t bits, int drop) {
  return (bits + ((1u << (drop - 1)) - 1) + ((bits >> drop) & 1)) >> drop;
}

inline uint16_t bfloat16_of(float value) {
  if (value != value) return 0x7fff;
  return static_cast<uint16_t>(round_bits(float_bits(value), 16));
}

inline uint16_t half_of(float value) {
  const uint32_t bits = float_bits(value), sign = (bits >> 16) & 0x8000, size = bits & 0x7fffffff;
  if (size > 0x7f800000) return 0x7fff;
  if (size >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);  // 65520 and more round to infinity
  if (size >= 0x38800000) return static_cast<uint16_t>(sign | (round_bits(size, 13) - (112 << 10)));
  // Subnormal: in 0.5 + value the last bit is worth 2^-24, so the addition rounds, and the low bits are the result.
  const float units = bits_float(size) + 0.5f;
  return static_cast<uint16_t>(sign | (float_bits(units) - float_bits(0.5f)));
}

inline float half_value(uint16_t half) {
  const uint32_t sign = (half & 0x8000u) << 16, exponent = (half >> 10) & 31, fraction = half & 0x3ff;
  if (exponent == 31) return bits_float(sign | 0x7f800000 | (fraction << 13));
  if (exponent) return bits_float(sign | ((exponent + 112) << 23) | (fraction << 13));
  const float value = static_cast<float>(fraction) * (1.0f / 16777216.0f);
  return sign ? -value : value;
}

}  // namespace cuda_on_cpu
