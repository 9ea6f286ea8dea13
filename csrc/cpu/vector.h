// One vector register of T in the instruction set this source is being compiled for (GCC and Clang vector
// extensions), with unaligned loads. Nameless namespace: never shared between instruction sets.
#pragma once

#include <stdint.h>

namespace latentjac {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <typename T>
struct Vector {
  static constexpr int kWidth = kVectorBytes / static_cast<int>(sizeof(T));
  typedef T type __attribute__((vector_size(kVectorBytes)));

  static inline type load(const T* from) {
    type v;
    __builtin_memcpy(&v, from, sizeof v);
    return v;
  }
};

}  // namespace
}  // namespace latentjac
