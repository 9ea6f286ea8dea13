// Attention in float64: plain, made to check other results with, not to be fast. A block owns one row of a result and
// forms kPlain weights at a time; then each of its threads adds up one channel.
#pragma once

#include "cuda/attention_problem.cuh"
#include "cuda/launch.cuh"

namespace latentjac {
namespace cuda {
namespace {

constexpr int kPlain = 128;  // threads of a block, and weights in shared memory

struct Row {
  int64_t probe, batch, head;
  int row;
  View<double> q, k, v, o;
  const double *bias, *lse;
  const Problem& p;

  __device__ explicit Row(const Problem& problem) : p(problem) {
    int64_t block = blockIdx.x;
    row = static_cast<int>(block % p.blocks);
    block /= p.blocks;
    probe = block % p.groups;
    block /= p.groups;
    head = block % p.heads;
    batch = block / p.heads;
    q = of(p.q, p.queries, p.channels);
    k = of(p.k, p.keys, p.channels);
    v = of(p.v, p.keys, p.value_channels);
    o = of(p.o, p.queries, p.value_channels);
    bias = static_cast<const double*>(p.bias.at);
    if (bias) bias += batch * p.bias.batch + head * p.bias.head;
    lse = static_cast<const double*>(p.lse) + (batch * p.heads + head) * p.queries;
  }

  __device__ View<double> of(const Array& array, int rows, int channels) const {
    return p.view<double>(array, probe, batch, head, rows, channels);
  }

  __device__ double score(int i, int j) const {
    if (p.causal && j > i) return -INFINITY;
    const double value = p.scale * dot(q, i, k, j);
    return bias ? value + bias[i * p.bias.row + j * p.bias.column] : value;
  }
  __device__ double probability(int i, int j) const { return lse[i] == -INFINITY ? 0.0 : exp(score(i, j) - lse[i]); }

  __device__ static double dot(const View<double>& a, int i, const View<double>& b, int j) {
    double sum = 0;
    for (int c = 0; c < a.channels; ++c) sum += a.at[i * a.row + c] * b.at[j * b.row + c];
    return sum;
  }
  // u_i.(v_j - o_i)
  __device__ double slope(const View<double>& u, int i, int j) const {
    double sum = 0;
    for (int c = 0; c < u.channels; ++c) sum += u.at[i * u.row + c] * (v.at[j * v.row + c] - o.at[i * o.row + c]);
    return sum;
  }
};

// Writes, for each channel c of `channels`, finish(c, sum over index < count of add(weight(index), index, c)).
template <typename Weight, typename Add, typename Finish>
__device__ void plain_sums(int count, int channels, const Weight& weight, const Add& add, const Finish& finish) {
  double* weights = reinterpret_cast<double*>(dynamic_shared());
  for (int first_channel = 0; first_channel < channels; first_channel += kPlain) {
    const int c = first_channel + threadIdx.x;
    double sum = 0;
    for (int first = 0; first < count; first += kPlain) {
      const int own = first + threadIdx.x;
      __syncthreads();
      if (own < count) weights[threadIdx.x] = weight(own);
      __syncthreads();
      if (c < channels) {
        for (int i = first; i < min(count, first + kPlain); ++i) sum += add(weights[i - first], i, c);
      }
    }
    if (c < channels) finish(c, sum);
  }
}

__device__ inline double* row_of(const View<double>& to, int row) {
  return const_cast<double*>(to.at) + row * to.row;
}

}  // namespace
}  // namespace cuda
}  // namespace latentjac
