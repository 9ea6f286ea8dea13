// What the kernels on long rows share: four neighbours of a row at a time, in float64.
#pragma once

#include "cuda/device.cuh"
#include "cuda/host.cuh"
#include "kernels.h"

namespace latentjac {
namespace cuda {
namespace {

constexpr int kRowWarps = 4;  // of a block
constexpr int kRowThreads = kLanes * kRowWarps;
constexpr int kTileRows = 32;  // that a warp works on: four fragments of 8

template <typename Io>
__device__ inline Io rounded(double v) {
  if constexpr (__is_same(Io, double))
    return v;
  else if constexpr (__is_same(Io, float))
    return static_cast<float>(v);
  else
    return from_float<Io>(static_cast<float>(v));
}

// Columns `column` to `column` + 3 of a row; zeros from `end` on. kPacked: all four lie inside or none does.
template <bool kPacked, typename Io>
__device__ inline Pack<Io, 4> load_four(const Io* row, int64_t column, int64_t end) {
  if constexpr (kPacked) {
    if (column < end) return load<4>(row + column);
  }
  Pack<Io, 4> four;
#pragma unroll
  for (int v = 0; v < 4; ++v) four.value[v] = !kPacked && column + v < end ? row[column + v] : rounded<Io>(0);
  return four;
}

template <bool kPacked, typename Io>
__device__ inline void store_four(Io* row, int64_t column, int64_t end, const Pack<Io, 4>& four) {
  if constexpr (kPacked) {
    if (column < end) store_whole<4>(row + column, four);
  } else {
#pragma unroll
    for (int v = 0; v < 4; ++v) {
      if (column + v < end) row[column + v] = four.value[v];
    }
  }
}

// ---- Host side ----

// Whether every row begins where four values can be loaded at once.
inline bool four_fit(const Rows& rows, DType dtype) {
  return rows.row % 4 == 0 && rows.point % 4 == 0 &&
         reinterpret_cast<uintptr_t>(rows.at) % (4 * value_bytes(dtype)) == 0;
}

inline int64_t tiles_of(int64_t count, int64_t tile) {
  return (count + tile - 1) / tile;
}

}  // namespace
}  // namespace cuda
}  // namespace latentjac
