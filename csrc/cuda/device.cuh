// What kernels share on the device: block sizes, conversions, loads of several values.
#pragma once

#include <cuda_runtime.h>
#include <stdint.h>
#include <string.h>

#include "types.h"

namespace latentjac {
namespace cuda {
namespace {

constexpr int kLanes = 32;
constexpr int kWarps = 8;
constexpr int kThreads = kLanes * kWarps;

__device__ inline float to_float(float v) {
  return v;
}
__device__ inline double to_float(double v) {
  return v;
}
__device__ inline float to_float(__nv_bfloat16 v) {
  return __bfloat162float(v);
}
__device__ inline float to_float(__half v) {
  return __half2float(v);
}

template <typename Io, typename Co>
__device__ inline Io from_float(Co v) {
  if constexpr (sizeof(Io) == sizeof(Co))
    return v;
  else if constexpr (__is_same(Io, __half))
    return __float2half(v);
  else
    return __float2bfloat16(v);
}

// V consecutive values in one load.
template <typename T, int V>
struct alignas(sizeof(T) * V) Pack {
  T value[V];
};

template <int V, typename T>
__device__ inline Pack<T, V> load(const T* from) {
  return *reinterpret_cast<const Pack<T, V>*>(from);
}

template <int V, typename T>
__device__ inline void store(T* to, const Pack<T, V>& pack) {
  *reinterpret_cast<Pack<T, V>*>(to) = pack;
}

// A pack of 8 bytes, or of a multiple of 16, by a function that stores whole words. What `store` assigns the compiler
// takes apart, and where a pack's values come out of branches or loops it stores them one by one
// (benchmarks/machine_code.py shows it). It may not move these stores, which takes a few registers more.
template <int V, typename T>
__device__ inline void store_whole(T* to, const Pack<T, V>& pack) {
#ifdef __CUDACC__
  if constexpr (sizeof(pack) == 8) {
    uint2 word;
    memcpy(&word, &pack, sizeof(word));
    return __stwb(reinterpret_cast<uint2*>(to), word);
  } else if constexpr (sizeof(pack) % 16 == 0) {
    uint4 words[sizeof(pack) / 16];
    memcpy(words, &pack, sizeof(words));
#pragma unroll
    for (int i = 0; i < static_cast<int>(sizeof(pack) / 16); ++i) __stwb(reinterpret_cast<uint4*>(to) + i, words[i]);
    return;
  }
#endif
  store<V>(to, pack);
}

// The sum over a warp, in every lane.
template <typename Co>
__device__ inline double warp_sum(Co value) {
  double total = static_cast<double>(value);
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) total += __shfl_xor_sync(0xffffffffu, total, step);
  return total;
}

}  // namespace
}  // namespace cuda
}  // namespace latentjac
