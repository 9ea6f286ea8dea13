// What the attention kernels are given, and which part of it a block owns.
#pragma once

#include <math.h>

#include "cuda/attention_tiles.cuh"

namespace latentjac {
namespace cuda {
namespace {

constexpr float kLog2E = 1.44269504088896340736f, kLn2 = 0.69314718055994530942f;

struct Array {
  Strided strided;
  bool wide;  // every row starts and ends at a multiple of 16 bytes
};

struct Problem {
  Array q, k, v, o, u, dq, dk, dv, out;
  AttentionBias bias;
  const void* lse;
  int64_t heads;
  int queries, keys, channels, value_channels, probes;
  int blocks, chunks, groups;  // of owned rows, of result channels, of probes: the grid, the first innermost
  double scale;
  float scale1, scale2;  // as it is; of scores that are powers of two
  bool causal, accumulate;

  template <typename T>
  __device__ View<T> view(const Array& array, int64_t probe, int64_t batch, int64_t head, int rows,
                          int row_channels) const {
    const Strided& s = array.strided;
    const T* at = static_cast<const T*>(s.at);
    if (at) at += probe * s.probe + batch * s.batch + head * s.head;
    return {at, s.row, rows, row_channels, array.wide};
  }
};

// The block's part: a head, rows and channels of a result, some probes.
template <typename T>
struct Place {
  int64_t batch, head;
  int first_row, first_channel, first_probe, live;
  View<T> q, k, v, o;
  const float* bias;  // of this head, or null
  const Problem& p;

  __device__ Place(const Problem& problem, int rows_of_block, int width, int group) : p(problem) {
    int64_t block = blockIdx.x;
    first_row = static_cast<int>(block % p.blocks) * rows_of_block;
    block /= p.blocks;
    first_channel = static_cast<int>(block % p.chunks) * width;
    block /= p.chunks;
    first_probe = static_cast<int>(block % p.groups) * group;
    block /= p.groups;
    live = min(group, p.probes - first_probe);
    head = block % p.heads;
    batch = block / p.heads;
    q = of_queries(p.q, 0, p.channels);
    k = of_keys(p.k, 0, p.channels);
    v = of_keys(p.v, 0, p.value_channels);
    o = of_queries(p.o, 0, p.value_channels);
    bias = static_cast<const float*>(p.bias.at);
    if (bias) bias += batch * p.bias.batch + head * p.bias.head;
  }

  __device__ View<T> of_queries(const Array& array, int probe, int channels) const {
    return p.view<T>(array, first_probe + probe, batch, head, p.queries, channels);
  }
  __device__ View<T> of_keys(const Array& array, int probe, int channels) const {
    return p.view<T>(array, first_probe + probe, batch, head, p.keys, channels);
  }

  // The logarithm (base 2) of a row's sum; infinite where probabilities are to be 0.
  __device__ float lse2(int query) const {
    if (query >= p.queries) return INFINITY;
    const float lse = static_cast<const float*>(p.lse)[(batch * p.heads + head) * p.queries + query];
    return lse == -INFINITY ? INFINITY : lse * kLog2E;
  }

  template <int M>
  __device__ void read_lse2(Rows<M>& to) const {
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
      for (int h = 0; h < 2; ++h) to[m][h] = lse2(first_row + lane_row(M, m) + 8 * h);
    }
  }

  // A product q.k as a power of two, with bias and what is hidden.
  __device__ float score(float product, int query, int key) const {
    if (key >= p.keys || (p.causal && key > query)) return -INFINITY;
    const float value = product * p.scale2;
    return bias && query < p.queries ? value + bias[query * p.bias.row + key * p.bias.column] * kLog2E : value;
  }

  // Whether `score` does no more than scale in a tile that starts here.
  __device__ bool plain(int first_query, int first_key, int keys) const {
    return !bias && first_key + keys <= p.keys && !(p.causal && first_key + keys > first_query + 1);
  }

  // Keys that some of the queries before `end` see.
  __device__ int end_of_keys(int end) const { return p.causal ? min(p.keys, end) : p.keys; }
};

// Products to probabilities. lse2 is that of the lane's rows, or of the columns where the rows are keys.
template <int M, bool kRowsAreKeys, typename T, typename Lse>
__device__ inline void to_probabilities(Scores<M>& s, const Place<T>& place, int first_query, int first_key,
                                        const Lse& lse2) {
  const bool plain = place.plain(first_query, first_key, kRowsAreKeys ? kRows<M> : kColumns<M>);
  for_each<M>(s, [&](float product, int m, int n, int i) {
    const int row = lane_row(M, m) + i / 2 * 8, column = n * 8 + threadIdx.x % 4 * 2 + i % 2;
    float score = product * place.p.scale2;
    if (!plain)
      score = kRowsAreKeys ? place.score(product, first_query + column, first_key + row)
                           : place.score(product, first_query + row, first_key + column);
    if constexpr (kRowsAreKeys)
      return exp2_fast(score - lse2[column]);
    else
      return exp2_fast(score - lse2[m][i / 2]);
  });
}

// Writes finish(m, h, row, channel, sum) for the sums of a warp; m and h are the row's place in a lane.
template <int M, int W, typename T, typename Finish>
__device__ inline void write_rows(const View<T>& to, int first_row, int first_channel, const Sums<M, W>& sums,
                                  const Finish& finish) {
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = first_row + lane_row(M, m) + 8 * h;
      if (row >= to.rows) continue;
#pragma unroll
      for (int n = 0; n < W / 8; ++n) {
        const int c = first_channel + n * 8 + threadIdx.x % 4 * 2;
        if (c >= to.channels) break;
        T* at = const_cast<T*>(to.at) + row * to.row + c;
        const bool two = c + 1 < to.channels;
        Pack<T, 2> pair;
        pair.value[0] = from_float<T>(finish(m, h, row, c, sums[m][n][2 * h]));
        if (two) pair.value[1] = from_float<T>(finish(m, h, row, c + 1, sums[m][n][2 * h + 1]));
        if (two && to.wide) {
          store<2>(at, pair);
        } else {
          at[0] = pair.value[0];
          if (two) at[1] = pair.value[1];
        }
      }
    }
  }
}

}  // namespace
}  // namespace cuda
}  // namespace latentjac
