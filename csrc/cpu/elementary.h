// Elementary functions, written so that the compiler can vectorise them: no branches, no calls in float32. NaN goes in
// and comes out. Included by the per-instruction-set sources only, in a nameless namespace, so no copy of it is ever
// shared between instruction sets.
#pragma once

#include <math.h>
#include <stdint.h>

namespace latentjac {
namespace {

inline double exponential(double x) {
  return __builtin_exp(x);
}

// Cephes' expf: 2^k * e^r with |r| <= ln2/2; 2 ulp. Clamped where float32 would leave the normal range.
inline float exponential(float x) {
  x = x > 88.0f ? 88.0f : x;
  x = x < -87.0f ? -87.0f : x;
  const float shifted = x * 1.44269504f + 12582912.0f;  // rounds to an integer in the low mantissa bits
  const float k = shifted - 12582912.0f;
  const float r = (x - k * 0.693359375f) + k * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = (p * r) * r + r + 1.0f;
  uint32_t bits;
  __builtin_memcpy(&bits, &shifted, sizeof bits);
  bits = (bits << 23) + 0x3f800000u;
  float power;
  __builtin_memcpy(&power, &bits, sizeof power);
  return p * power;
}

inline double error_function(double x) {
  return __builtin_erf(x);
}

// Rational approximation on [-4, 4], where erf reaches 1 in float32; a few ulp (the coefficients are Eigen's).
inline float error_function(float x) {
  x = x > 4.0f ? 4.0f : x;
  x = x < -4.0f ? -4.0f : x;
  const float s = x * x;
  float p = -2.72614225801306e-10f;
  p = p * s + 2.77068142495902e-08f;
  p = p * s - 2.10102402082508e-06f;
  p = p * s - 5.69250639462346e-05f;
  p = p * s - 7.34990630326855e-04f;
  p = p * s - 2.95459980854025e-03f;
  p = p * s - 1.60960333262415e-02f;
  float q = -1.45660718464996e-05f;
  q = q * s - 2.13374055278905e-04f;
  q = q * s - 1.68282697438203e-03f;
  q = q * s - 7.37332916720468e-03f;
  q = q * s - 1.42647390514189e-02f;
  return x * p / q;
}

template <typename T>
inline T hyperbolic_tangent(T x) {
  return T(1) - T(2) / (T(1) + exponential(T(2) * x));
}

}  // namespace
}  // namespace latentjac
