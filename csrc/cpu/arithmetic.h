// Whole numbers without the C++ library, whose inline functions instruction sets must not share.
#pragma once

#include <stdint.h>

namespace latentjac {
namespace {

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
