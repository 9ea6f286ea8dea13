// What the attention kernels are given, and which part of it a block owns.
#pragma once

#include <math.h>

#include "cuda/attention_tiles.cuh"

namespace latentjac {
namespace cuda {
namespace {

constexpr float kLog2E = 1.44269504088896340736f, kLn2 = 0.69314718055994530942f;

// Probabilities are made this power of two larger, and so are the weights and sums that come from them: a float16
// keeps its precision only from 6e-5 on, and among 4096 keys a probability is about 2e-4, times a slope.
template <typename T>
constexpr float kWeightLog2 = __is_same(T, __half) ? 8.0f : 0.0f;
template <typename T>
constexpr float kWeight = __is_same(T, __half) ? 256.0f : 1.0f;

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

  // What exponents subtract: the logarithm (base 2) of a row's sum, infinite where probabilities are to be 0.
  __device__ float lse2(int query) const {
    if (query >= p.queries) return INFINITY;
    const float lse = static_cast<const float*>(p.lse)[(batch * p.heads + head) * p.queries + query];
    return lse == -INFINITY ? INFINITY : lse * kLog2E - kWeightLog2<T>;
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

  // Products q.k of a warp to scores. Most tiles are neither biased nor cut, and only scale.
  template <int M, bool kRowsAreKeys>
  __device__ void to_scores(Scores<M>& s, int first_query, int first_key) const {
    const int last_key = first_key + (kRowsAreKeys ? kRows<M> : kColumns<M>)-1;
    if (!bias && last_key < p.keys && !(p.causal && last_key > first_query)) {
      for_each<M>(s, [&](float product, int, int, int) { return product * p.scale2; });
      return;
    }
    for_each<M>(s, [&](float product, int m, int n, int i) {
      const int row = lane_row(M, m) + i / 2 * 8, column = n * 8 + threadIdx.x % 4 * 2 + i % 2;
      return kRowsAreKeys ? score(product, first_query + column, first_key + row)
                          : score(product, first_query + row, first_key + column);
    });
  }

  // Keys that some of the queries before `end` see.
  __device__ int end_of_keys(int end) const { return p.causal ? min(p.keys, end) : p.keys; }
};

// Products to probabilities. lse2 is that of the lane's rows, or of the columns where the rows are keys.
template <int M, bool kRowsAreKeys, typename T, typename Lse>
__device__ inline void to_probabilities(Scores<M>& s, const Place<T>& place, int first_query, int first_key,
                                        const Lse& lse2) {
  place.template to_scores<M, kRowsAreKeys>(s, first_query, first_key);
  for_each<M>(s, [&](float score, int m, int n, int i) {
    if constexpr (kRowsAreKeys)
      return exp2_fast(score - lse2[n * 8 + threadIdx.x % 4 * 2 + i % 2]);
    else
      return exp2_fast(score - lse2[m][i / 2]);
  });
}

// Calls act(at, pair, m, h, left) for the pairs of neighbouring channels that a lane has sums of: `at` is their place
// in `rows`, `pair` the sums, m and h number their row, and `left` channels follow from here: 1 or more.
template <int M, int W, typename T, typename Act>
__device__ inline void each_pair(const View<T>& rows, int first_row, int first_channel, Sums<M, W>& sums,
                                 const Act& act) {
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = first_row + lane_row(M, m) + 8 * h;
      if (row >= rows.rows) continue;
#pragma unroll
      for (int n = 0; n < W / 8; ++n) {
        const int c = first_channel + n * 8 + threadIdx.x % 4 * 2;
        if (c < rows.channels) act(rows.at + row * rows.row + c, sums[m][n] + 2 * h, m, h, rows.channels - c);
      }
    }
  }
}

// sums += factor * rows, with a factor for each row.
template <int M, int W, typename T>
__device__ inline void add_rows(Sums<M, W>& sums, const View<T>& rows, int first_row, int first_channel,
                                const Rows<M>& factor) {
  if (rows.wide) {
    each_pair<M, W>(rows, first_row, first_channel, sums, [&](const T* at, float* pair, int m, int h, int) {
      const auto both = load<2>(at);
      pair[0] += factor[m][h] * to_float(both.value[0]);
      pair[1] += factor[m][h] * to_float(both.value[1]);
    });
  } else {
    each_pair<M, W>(rows, first_row, first_channel, sums, [&](const T* at, float* pair, int m, int h, int left) {
      pair[0] += factor[m][h] * to_float(at[0]);
      if (left > 1) pair[1] += factor[m][h] * to_float(at[1]);
    });
  }
}

// rows = factor * sums.
template <int M, int W, typename T>
__device__ inline void write_rows(const View<T>& rows, int first_row, int first_channel, Sums<M, W>& sums,
                                  float factor) {
  if (rows.wide) {
    each_pair<M, W>(rows, first_row, first_channel, sums, [&](const T* at, const float* pair, int, int, int) {
      store<2>(const_cast<T*>(at), Pack<T, 2>{{from_float<T>(factor * pair[0]), from_float<T>(factor * pair[1])}});
    });
  } else {
    each_pair<M, W>(rows, first_row, first_channel, sums, [&](const T* at, const float* pair, int, int, int left) {
      const_cast<T*>(at)[0] = from_float<T>(factor * pair[0]);
      if (left > 1) const_cast<T*>(at)[1] = from_float<T>(factor * pair[1]);
    });
  }
}

}  // namespace
}  // namespace cuda
}  // namespace latentjac
