// Tiles of attention in shared memory, and the two products made of them: scores (rows of two tiles against each
// other) and sums (weights in registers times the rows of a tile).
#pragma once

#include <type_traits>

#include "cuda/device.cuh"
#include "cuda/mma.cuh"
#include "kernels.h"

namespace latentjac {
namespace cuda {
namespace {

constexpr int kTileWarps = 4;
constexpr int kTileThreads = kTileWarps * kLanes;

// A block owns kRows rows of its result, 16 M to a warp, and walks over the other side kColumns at a time. More rows a
// warp means fewer reads of shared memory for each product: M = 2 wherever the sums fit the registers.
template <int M>
constexpr int kRows = 16 * M * kTileWarps;
template <int M>
constexpr int kColumns = 64 / M;

// The scores of a warp, as 16 x 8 results of mma: 32 registers.
template <int M>
using Scores = float[M][kColumns<M> / 8][4];

// Sums over columns, for W channels.
template <int M, int W>
using Sums = float[M][W / 8][4];

// One value for each row of a lane.
template <int M>
using Rows = float[M][2];

// One head of one probe of an array.
template <typename T>
struct View {
  const T* at;
  int64_t row;
  int rows, channels;
  bool wide;  // 16 bytes at a time
};

// The kind of a kernel is the type of its arrays, or Tf32: float arrays whose values products take as one tf32 value,
// where those of the kind float are the sum of two.
template <typename Kind>
using StoredAs = std::conditional_t<__is_same(Kind, Tf32), float, Kind>;
template <typename Kind>
using FactorOf = std::conditional_t<__is_same(Kind, float), Split, Kind>;

// What products take a value for.
template <typename Factor, typename T>
__device__ inline float as_factor(T value) {
  if constexpr (__is_same(Factor, Split) || __is_same(Factor, T))
    return to_float(value);
  else if constexpr (__is_same(Factor, Tf32))
    return Tf32(value).value();
  else
    return to_float(from_float<Factor>(value));
}

// A tile's row is W values and 16 bytes: eight rows then start in different banks, for matrix loads as for floats.
template <typename T, int W>
constexpr int kRowStride = W + 16 / static_cast<int>(sizeof(T));

// The first of a warp's rows m, and of a lane's.
__device__ inline int warp_row(int tiles, int m) {
  return (static_cast<int>(threadIdx.x) / kLanes * tiles + m) * 16;
}
__device__ inline int lane_row(int tiles, int m) {
  return warp_row(tiles, m) + threadIdx.x % kLanes / 4;
}

// Starts filling `tile` with R rows and W channels, zeros outside of the array. Channels past the array's last
// are only filled up to a multiple of 16: the products read no others.
template <int R, int W, typename T>
__device__ inline void fetch(T* tile, const View<T>& from, int first_row, int first_channel) {
  constexpr int kPiece = 16 / static_cast<int>(sizeof(T)), kPieces = W / kPiece;
  const int channels = from.channels - first_channel, used = (channels + 15) / 16 * 16;
  const T* source = from.at + first_channel;
  if (from.wide) {
#pragma unroll
    for (int i = threadIdx.x; i < R * kPieces; i += kTileThreads) {
      const int r = i / kPieces, row = first_row + r, c = i % kPieces * kPiece;
      const bool inside = row < from.rows && c < channels;
      if (c < used) copy16(tile + r * kRowStride<T, W> + c, inside ? source + row * from.row + c : from.at, inside);
    }
    return;
  }
#pragma unroll 1
  for (int i = threadIdx.x; i < R * W; i += kTileThreads) {
    const int r = i / W, row = first_row + r, c = i % W;
    const bool inside = row < from.rows && c < channels;
    if (c < used) tile[r * kRowStride<T, W> + c] = inside ? source[row * from.row + c] : from_float<T>(0.0f);
  }
}

// s += rows of `left` (those of this warp) times rows of `right`, over `channels` channels.
template <int M, int W, typename Factor, typename T>
__device__ inline void multiply_rows(Scores<M>& s, const T* left, const T* right, int channels) {
  constexpr int kStride = kRowStride<T, W>;
  const int lane = threadIdx.x % kLanes;
  left += warp_row(M, 0) * kStride;
  if constexpr (sizeof(T) == 2) {
    const T* a_row = left + lane % 16 * kStride + lane / 16 * 8;
    const T* b_row = right + (lane / 16 * 8 + lane % 8) * kStride + lane / 8 % 2 * 8;
#pragma unroll
    for (int k = 0; k < W; k += 16) {
      if (k >= channels) break;
      uint32_t a[M][4];
#pragma unroll
      for (int m = 0; m < M; ++m) load_matrices<false>(a[m], a_row + m * 16 * kStride + k);
#pragma unroll
      for (int n = 0; n < kColumns<M> / 16; ++n) {
        uint32_t b[4];
        load_matrices<false>(b, b_row + n * 16 * kStride + k);
#pragma unroll
        for (int m = 0; m < M; ++m) {
          mma<T>(s[m][2 * n], a[m], b[0], b[1]);
          mma<T>(s[m][2 * n + 1], a[m], b[2], b[3]);
        }
      }
    }
  } else {
    const float* a_row = left + lane / 4 * kStride + lane % 4;
    const float* b_row = right + lane / 4 * kStride + lane % 4;
#pragma unroll 2
    for (int k = 0; k < W; k += 8) {
      if (k >= channels) break;
      Factor a[M][4];
#pragma unroll
      for (int m = 0; m < M; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) a[m][i] = Factor(a_row[(m * 16 + i % 2 * 8) * kStride + k + i / 2 * 4]);
      }
#pragma unroll
      for (int n = 0; n < kColumns<M> / 8; ++n) {
        const float* b = b_row + n * 8 * kStride + k;
        const Factor b0(b[0]), b1(b[4]);
#pragma unroll
        for (int m = 0; m < M; ++m) mma_floats(s[m][n], a[m], b0, b1);
      }
    }
  }
}

// sums += weights times the rows of `right`, for its first `channels` channels.
template <int M, int W, typename Factor, typename T>
__device__ inline void weigh_rows(Sums<M, W>& sums, const Scores<M>& weights, const T* right, int channels) {
  constexpr int kStride = kRowStride<T, W>;
  const int lane = threadIdx.x % kLanes;
  if constexpr (sizeof(T) == 2) {
    const T* b_row = right + lane % 16 * kStride + lane / 16 * 8;
#pragma unroll
    for (int k = 0; k < kColumns<M> / 16; ++k) {
      uint32_t a[M][4];
#pragma unroll
      for (int m = 0; m < M; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const auto& w = weights[m][2 * k + i / 2];
          a[m][i] = pair_bits<T>(w[i % 2 * 2], w[i % 2 * 2 + 1]);
        }
      }
#pragma unroll
      for (int n = 0; n < W / 16; ++n) {
        if (n * 16 >= channels) break;
        uint32_t b[4];
        load_matrices<true>(b, b_row + k * 16 * kStride + n * 16);
#pragma unroll
        for (int m = 0; m < M; ++m) {
          mma<T>(sums[m][2 * n], a[m], b[0], b[1]);
          mma<T>(sums[m][2 * n + 1], a[m], b[2], b[3]);
        }
      }
    }
  } else {
    // The inner index may run in any order: column t of A stands for row 2 t of the tile, t + 4 for row 2 t + 1.
    const float* b_row = right + lane % 4 * 2 * kStride + lane / 4;
#pragma unroll
    for (int k = 0; k < kColumns<M> / 8; ++k) {
      Factor a[M][4];
#pragma unroll
      for (int m = 0; m < M; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) a[m][i] = Factor(weights[m][k][i % 2 * 2 + i / 2]);
      }
#pragma unroll
      for (int n = 0; n < W / 8; ++n) {
        if (n * 8 >= channels) break;
        const float* b = b_row + k * 8 * kStride + n * 8;
        const Factor b0(b[0]), b1(b[kStride]);
#pragma unroll
        for (int m = 0; m < M; ++m) mma_floats(sums[m][n], a[m], b0, b1);
      }
    }
  }
}

// Row `row` of `left`, as products take it, times the same row of `right`, summed over this lane's quarter of the
// channels.
template <int W, typename Factor, typename T>
__device__ inline float row_product(const T* left, const T* right, int row, int channels) {
  constexpr int kPiece = 16 / static_cast<int>(sizeof(T)), kStride = kRowStride<T, W>;
  float sum = 0;
  for (int c = threadIdx.x % 4 * kPiece; c < channels; c += 4 * kPiece) {
    const auto a = load<kPiece>(left + row * kStride + c);
    const auto b = load<kPiece>(right + row * kStride + c);
#pragma unroll
    for (int e = 0; e < kPiece; ++e) sum += as_factor<Factor>(a.value[e]) * to_float(b.value[e]);
  }
  return sum;
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

// Changes every score: s = f(s, m, n, i).
template <int M, typename F>
__device__ inline void for_each(Scores<M>& s, const F& f) {
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int n = 0; n < kColumns<M> / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) s[m][n][i] = f(s[m][n][i], m, n, i);
    }
  }
}

template <int M>
__device__ inline void clear(Scores<M>& s) {
  for_each<M>(s, [](float, int, int, int) { return 0.0f; });
}

}  // namespace
}  // namespace cuda
}  // namespace latentjac
