// Attention in float64: plain, made to check other results with, not to be fast. A block owns one row of a result and
// forms kPlain weights at a time; then each of its threads adds up one channel.
#pragma once

#include "cuda/attention_problem.cuh"
#include "cuda/host.cuh"
#include "cuda/launch.cuh"

namespace latentjac {
namespace cuda {
namespace {

constexpr int kPlain = 128;  // threads of a block, and weights in shared memory

struct Target {
  int64_t heads;  // all of them, over the batch
  cudaStream_t stream;
  const std::string& where;

  unsigned blocks(const Problem& p) const {
    const int64_t count = heads * p.blocks * p.chunks * p.groups;
    if (count >= int64_t{1} << 31) throw std::runtime_error("attention: too many blocks of work" + where);
    return static_cast<unsigned>(count);
  }
};

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

__global__ void __launch_bounds__(kPlain) attention_primal_plain(Problem p) {
  const Row at(p);
  const int i = at.row;
  // Every thread forms the row's lse for itself.
  double largest = -INFINITY, total = 0;
  for (int j = 0; j < p.keys; ++j) largest = fmax(largest, at.score(i, j));
  const double shift = largest == -INFINITY ? 0.0 : largest;
  for (int j = 0; j < p.keys; ++j) total += exp(at.score(i, j) - shift);
  const double lse = total == 0 ? -INFINITY : shift + log(total);
  if (threadIdx.x == 0) const_cast<double*>(at.lse)[i] = lse;
  double* o = row_of(at.o, i);
  plain_sums(
      p.keys, p.value_channels, [&](int j) { return total == 0 ? 0.0 : exp(at.score(i, j) - lse); },
      [&](double w, int j, int c) { return w * at.v.at[j * at.v.row + c]; }, [&](int c, double sum) { o[c] = sum; });
}

__global__ void __launch_bounds__(kPlain) attention_tangent_plain(Problem p) {
  const Row at(p);
  const int i = at.row;
  const View<double> dq = at.of(p.dq, p.queries, p.channels), dk = at.of(p.dk, p.keys, p.channels),
                     dv = at.of(p.dv, p.keys, p.value_channels);
  const double* o = at.o.at + i * at.o.row;
  double* out = row_of(at.of(p.out, p.queries, p.value_channels), i);
  if (!p.accumulate) {
    for (int c = threadIdx.x; c < p.value_channels; c += kPlain) out[c] = 0;
  }
  auto add_to_out = [&](int c, double sum) { out[c] += sum; };
  plain_sums(
      p.keys, p.value_channels,
      [&](int j) {
        const double ds = (dq.at ? at.dot(dq, i, at.k, j) : 0.0) + (dk.at ? at.dot(at.q, i, dk, j) : 0.0);
        return at.probability(i, j) * p.scale * ds;
      },
      [&](double w, int j, int c) { return w * (at.v.at[j * at.v.row + c] - o[c]); }, add_to_out);
  if (!dv.at) return;
  plain_sums(
      p.keys, p.value_channels, [&](int j) { return at.probability(i, j); },
      [&](double w, int j, int c) { return w * dv.at[j * dv.row + c]; }, add_to_out);
}

__global__ void __launch_bounds__(kPlain) attention_cotangent_plain_queries(Problem p) {
  const Row at(p);
  const int i = at.row;
  const View<double> u = at.of(p.u, p.queries, p.value_channels);
  double* dq = row_of(at.of(p.dq, p.queries, p.channels), i);
  plain_sums(
      p.keys, p.channels, [&](int j) { return p.scale * at.probability(i, j) * at.slope(u, i, j); },
      [&](double w, int j, int c) { return w * at.k.at[j * at.k.row + c]; }, [&](int c, double sum) { dq[c] = sum; });
}

__global__ void __launch_bounds__(kPlain) attention_cotangent_plain_keys(Problem p) {
  const Row at(p);
  const int j = at.row;
  const View<double> u = at.of(p.u, p.queries, p.value_channels);
  if (p.dk.strided.at) {
    double* dk = row_of(at.of(p.dk, p.keys, p.channels), j);
    plain_sums(
        p.queries, p.channels, [&](int i) { return p.scale * at.probability(i, j) * at.slope(u, i, j); },
        [&](double w, int i, int c) { return w * at.q.at[i * at.q.row + c]; }, [&](int c, double sum) { dk[c] = sum; });
  }
  if (p.dv.strided.at) {
    double* dv = row_of(at.of(p.dv, p.keys, p.value_channels), j);
    plain_sums(
        p.queries, p.value_channels, [&](int i) { return at.probability(i, j); },
        [&](double w, int i, int c) { return w * u.at[i * u.row + c]; }, [&](int c, double sum) { dv[c] = sum; });
  }
}

struct Plain {
  static void run(void (*kernel)(Problem), const char* name, Problem p, int rows, const Target& to) {
    p.blocks = rows;
    p.chunks = 1;
    p.groups = p.probes;
    if (const unsigned blocks = to.blocks(p))
      check(launch(kernel, blocks, kPlain, kPlain * sizeof(double), to.stream, p), name, to.where);
  }
  static void primal(const Problem& p, const Target& to) {
    run(attention_primal_plain, "attention_primal", p, p.queries, to);
  }
  static void tangent(const Problem& p, const Target& to) {
    run(attention_tangent_plain, "attention_tangent", p, p.queries, to);
  }
  static void cotangent(const Problem& p, const Target& to) {
    if (p.dq.strided.at) run(attention_cotangent_plain_queries, "attention_cotangent dq", p, p.queries, to);
    if (p.dk.strided.at || p.dv.strided.at)
      run(attention_cotangent_plain_keys, "attention_cotangent dk dv", p, p.keys, to);
  }
};

}  // namespace
}  // namespace cuda
}  // namespace latentjac
