// Tiles of attention in shared memory, and the two products made of them: scores (rows of two tiles against each
// other) and sums (weights in registers times the rows of a tile).
#pragma once

#include "cuda/device.cuh"
#include "cuda/mma.cuh"
#include "kernels.h"

namespace latentjac {
namespace cuda {
namespace {

constexpr int kTile = 64;  // rows of a tile; a block owns as many rows of its result
constexpr int kTileWarps = kTile / 16;
constexpr int kTileThreads = kTileWarps * kLanes;

// The scores of a warp: 16 rows by kTile columns, as 16 x 8 results of mma.
using Scores = float[kTile / 8][4];

// One head of one probe of an array.
template <typename T>
struct View {
  const T* at;
  int64_t row;
  int rows, channels;
  bool wide;  // 16 bytes at a time
};

// A tile's row is W values and 16 bytes: eight rows then start in different banks, for matrix loads as for floats.
template <typename T, int W>
struct Tile {
  static constexpr int kStride = W + 16 / static_cast<int>(sizeof(T));
  static constexpr int kValues = kTile * kStride;
};

// Starts filling `tile` with kTile rows and W channels, zeros outside of the array. Channels past the array's last
// are only filled up to a multiple of 16: the products read no others.
template <typename T, int W>
__device__ inline void fetch(T* tile, const View<T>& from, int first_row, int first_channel) {
  constexpr int kPiece = 16 / static_cast<int>(sizeof(T)), kPieces = W / kPiece;
  const int used = (from.channels - first_channel + 15) / 16 * 16;
#pragma unroll 4
  for (int i = threadIdx.x; i < kTile * kPieces; i += kTileThreads) {
    const int row = first_row + i / kPieces, c = i % kPieces * kPiece;
    if (c >= used) continue;
    T* to = tile + i / kPieces * Tile<T, W>::kStride + c;
    const T* source = from.at + row * from.row + first_channel + c;
    if (from.wide) {
      const bool inside = row < from.rows && first_channel + c < from.channels;
      copy16(to, inside ? source : from.at, inside);
      continue;
    }
    for (int e = 0; e < kPiece; ++e)
      to[e] = row < from.rows && first_channel + c + e < from.channels ? source[e] : from_float<T>(0.0f);
  }
}

// s += rows of `left` (this warp's 16) times rows of `right`, over `channels` channels.
template <typename T, int W>
__device__ inline void multiply_rows(Scores& s, const T* left, const T* right, int channels) {
  constexpr int kStride = Tile<T, W>::kStride;
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  if constexpr (sizeof(T) == 2) {
    const T* a_row = left + (warp * 16 + lane % 16) * kStride + lane / 16 * 8;
    const T* b_row = right + (lane / 16 * 8 + lane % 8) * kStride + lane / 8 % 2 * 8;
#pragma unroll
    for (int k = 0; k < W; k += 16) {
      if (k >= channels) break;
      uint32_t a[4];
      load_matrices<false>(a, a_row + k);
#pragma unroll
      for (int n = 0; n < kTile / 16; ++n) {
        uint32_t b[4];
        load_matrices<false>(b, b_row + n * 16 * kStride + k);
        mma<T>(s[2 * n], a, b[0], b[1]);
        mma<T>(s[2 * n + 1], a, b[2], b[3]);
      }
    }
  } else {
    const int g = lane / 4, t = lane % 4;
    const float* a_row = left + (warp * 16 + g) * kStride + t;
    const float* b_row = right + g * kStride + t;
#pragma unroll 2
    for (int k = 0; k < W; k += 8) {
      if (k >= channels) break;
      uint32_t big[4], small[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const Split a(a_row[i % 2 * 8 * kStride + k + i / 2 * 4]);
        big[i] = a.big;
        small[i] = a.small;
      }
#pragma unroll
      for (int n = 0; n < kTile / 8; ++n) {
        const float* b = b_row + n * 8 * kStride + k;
        mma_split(s[n], big, small, Split(b[0]), Split(b[4]));
      }
    }
  }
}

// sums += weights times the rows of `right`, for its first `channels` channels.
template <typename T, int W>
__device__ inline void weigh_rows(float (&sums)[W / 8][4], const Scores& weights, const T* right, int channels) {
  constexpr int kStride = Tile<T, W>::kStride;
  const int lane = threadIdx.x % kLanes;
  if constexpr (sizeof(T) == 2) {
    const T* b_row = right + lane % 16 * kStride + lane / 16 * 8;
#pragma unroll
    for (int k = 0; k < kTile / 16; ++k) {
      const Scores& w = weights;
      const uint32_t a[4] = {pair_bits<T>(w[2 * k][0], w[2 * k][1]), pair_bits<T>(w[2 * k][2], w[2 * k][3]),
                             pair_bits<T>(w[2 * k + 1][0], w[2 * k + 1][1]),
                             pair_bits<T>(w[2 * k + 1][2], w[2 * k + 1][3])};
#pragma unroll
      for (int n = 0; n < W / 16; ++n) {
        if (n * 16 >= channels) break;
        uint32_t b[4];
        load_matrices<true>(b, b_row + k * 16 * kStride + n * 16);
        mma<T>(sums[2 * n], a, b[0], b[1]);
        mma<T>(sums[2 * n + 1], a, b[2], b[3]);
      }
    }
  } else {
    // The inner index may run in any order: column t of A stands for row 2 t of the tile, t + 4 for row 2 t + 1.
    const float* b_row = right + lane % 4 * 2 * kStride + lane / 4;
#pragma unroll
    for (int k = 0; k < kTile / 8; ++k) {
      uint32_t big[4], small[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const Split a(weights[k][i % 2 * 2 + i / 2]);
        big[i] = a.big;
        small[i] = a.small;
      }
#pragma unroll
      for (int n = 0; n < W / 8; ++n) {
        if (n * 8 >= channels) break;
        const float* b = b_row + k * 8 * kStride + n * 8;
        mma_split(sums[n], big, small, Split(b[0]), Split(b[kStride]));
      }
    }
  }
}

// Rows of `left` times the same rows of `right`: the part of this lane, for rows 16 warp + g (0) and + 8 (1).
template <typename T, int W>
__device__ inline void add_row_products(float (&sums)[2], const T* left, const T* right, int channels) {
  constexpr int kPiece = 16 / static_cast<int>(sizeof(T)), kStride = Tile<T, W>::kStride;
  const int lane = threadIdx.x % kLanes, row = threadIdx.x / kLanes * 16 + lane / 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    for (int c = lane % 4 * kPiece; c < channels; c += 4 * kPiece) {
      const auto a = load<kPiece>(left + (row + 8 * h) * kStride + c);
      const auto b = load<kPiece>(right + (row + 8 * h) * kStride + c);
#pragma unroll
      for (int e = 0; e < kPiece; ++e) sums[h] += to_float(a.value[e]) * to_float(b.value[e]);
    }
  }
}

// The sum (or largest) of a row's four lanes.
__device__ inline float row_sum(float value) {
  value += __shfl_xor_sync(0xffffffffu, value, 1);
  return value + __shfl_xor_sync(0xffffffffu, value, 2);
}
__device__ inline float row_largest(float value) {
  value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 1));
  return fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 2));
}

__device__ inline void clear(Scores& s) {
#pragma unroll
  for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) s[n][i] = 0;
  }
}

}  // namespace
}  // namespace cuda
}  // namespace latentjac
