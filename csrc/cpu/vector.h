// One vector register of T in the instruction set this source is being compiled for (GCC and Clang vector
// extensions), with unaligned loads. Nameless namespace: never shared between instruction sets.
#pragma once

#include <stdint.h>

#include "cpu/arithmetic.h"

#if defined(__x86_64__)
#include <immintrin.h>  // all of it always inlined: nothing shared between instruction sets
#endif

namespace latentjac {
namespace {

#if defined(LATENTJAC_VECTOR_BYTES)
constexpr int kVectorBytes = LATENTJAC_VECTOR_BYTES;  // of another instruction set: its tiles and ends of rows (tests)
#elif defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <typename T, int kBytes = kVectorBytes>
struct Vector {
  static constexpr int kWidth = kBytes / static_cast<int>(sizeof(T));
  typedef T type __attribute__((vector_size(kBytes)));

  static inline type load(const T* from) {
    type v;
    __builtin_memcpy(&v, from, sizeof v);
    return v;
  }

  static inline void store(T* to, const type& v) { __builtin_memcpy(to, &v, sizeof v); }

  // Past the caches, without reading the line first; `to` is aligned to kVectorBytes. fence() ends a series of them.
  static inline void stream(T* to, const type& v) {
#if defined(LATENTJAC_SANITIZE) || defined(LATENTJAC_VECTOR_BYTES)
    // A sanitizer sees ordinary stores only, and not how they are aligned.
    if (reinterpret_cast<uintptr_t>(to) % sizeof v) __builtin_trap();
    store(to, v);
#elif defined(__AVX512F__)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to), reinterpret_cast<const __m512i&>(v));
#elif defined(__AVX2__)
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<const __m256i&>(v));
#elif defined(__x86_64__)
    _mm_stream_si128(reinterpret_cast<__m128i*>(to), reinterpret_cast<const __m128i&>(v));
#else
    store(to, v);
#endif
  }

  static inline void fence() {
#if defined(__x86_64__)
    _mm_sfence();
#endif
  }

  template <bool kStream>
  static inline void put(T* to, const type& v) {
    if constexpr (kStream) {
      stream(to, v);
    } else {
      store(to, v);
    }
  }
};

// A vector (V is Vector<T>::type) or a single value (V is T), so that one formula serves the end of a row too.
template <typename V, typename T>
inline V get(const T* from) {
  if constexpr (sizeof(V) == sizeof(T)) {
    return *from;
  } else {
    return Vector<T>::load(from);
  }
}

// A result of this size is out of the caches again before anyone reads it: write past them, which saves reading each
// line before it is written. Not in place, where the lines are there already, and only where every store is aligned.
constexpr int64_t kStreamBytes = (16 << 20) / kLargeDivisor;

// Whether every row that starts at a multiple of `stride` bytes from `to` may be written past the caches.
inline bool aligned(const void* to, int64_t stride) {
  return reinterpret_cast<uintptr_t>(to) % kVectorBytes == 0 && stride % kVectorBytes == 0;
}

}  // namespace
}  // namespace latentjac
