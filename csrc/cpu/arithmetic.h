// Whole numbers without the C++ library, whose inline functions instruction sets must not share.
#pragma once

#include <stdint.h>

namespace latentjac {
namespace {

// Sizes from which arrays count as large are divided by this where sanitizers check, so that large arrays take no time.
#if defined(LATENTJAC_SANITIZE)
constexpr int64_t kLargeDivisor = 16;
#else
constexpr int64_t kLargeDivisor = 1;
#endif

inline int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}
inline int64_t larger(int64_t a, int64_t b) {
  return a > b ? a : b;
}
inline int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

}  // namespace
}  // namespace latentjac
