// The tangent of attention on CUDA; attention_walk.cuh says how.
#include "cuda/attention_host.cuh"
#include "kernels.h"

namespace latentjac {
namespace cuda {
namespace {

template <typename C>
struct TangentTiles : Memory<C, 1 + C::G, 4 * C::kStages> {
  static constexpr int kQ = 0, kDq = 1;  // owned
  static constexpr int kK = 0, kV = C::kStages, kDk = 2 * C::kStages, kDv = 3 * C::kStages;
};

template <typename C>
__global__ void __launch_bounds__(kTileThreads) attention_tangent_tiles(Problem p) {
  using T = typename C::T;
  using Tiles = TangentTiles<C>;
  constexpr int G = C::G, M = C::M, W = C::W, kStages = C::kStages, kStep = kColumns<M>;
  const Place<T> place(p, kRows<M>, W, G);
  const int query = place.first_row, end = place.end_of_keys(query + kRows<M>);
  auto dq = [&](int i) { return place.of_queries(p.dq, i, p.channels); };
  auto dk = [&](int i) { return place.of_keys(p.dk, i, p.channels); };
  auto dv = [&](int i) { return place.of_keys(p.dv, i, p.value_channels); };
  const bool has_dq = p.dq.strided.at, has_dk = p.dk.strided.at, has_dv = p.dv.strided.at;
  // Step (block, probe) of the walk; `number` counts the steps before it.
  auto bring = [&](int block, int probe, int number) {
    if (block * kStep >= end) return;
    if (probe == 0) {
      fetch<kStep, W>(Tiles::walked(Tiles::kK + block % kStages), place.k, block * kStep, 0);
      fetch<kStep, W>(Tiles::walked(Tiles::kV + block % kStages), place.v, block * kStep, 0);
    }
    if (has_dk) fetch<kStep, W>(Tiles::walked(Tiles::kDk + number % kStages), dk(probe), block * kStep, 0);
    if (has_dv) fetch<kStep, W>(Tiles::walked(Tiles::kDv + number % kStages), dv(probe), block * kStep, 0);
  };
  if constexpr (C::kWhole) {
    fetch<kRows<M>, W>(Tiles::owned(Tiles::kQ), place.q, query, 0);
    for (int i = 0; has_dq && i < place.live; ++i) fetch<kRows<M>, W>(Tiles::owned(Tiles::kDq + i), dq(i), query, 0);
    if (kStages == 2) bring(0, 0, 0);
  }
  Rows<M> lse2;
  place.template read_lse2<M>(lse2);
  Sums<M, W> sums[G] = {};
  Rows<M> total[G] = {};
  for (int block = 0, number = 0; block * kStep < end; ++block) {
    const int key = block * kStep, ring = block % kStages;
    Scores<M> probability;
#pragma unroll
    for (int i = 0; i < G; ++i) {
      if (i >= place.live) break;
      if constexpr (C::kWhole) {
        advance<C>([&](int ahead) {
          const int next = i + ahead;
          bring(next < place.live ? block : block + 1, next < place.live ? next : 0, number + ahead);
        });
      }
      if (i == 0) {
        clear<M>(probability);
        Tiles::multiply(probability, Tiles::kQ, place.q, query, Tiles::kK + ring, place.k, key);
        to_probabilities<M, false>(probability, place, query, key, lse2);
      }
      if (has_dq || has_dk) {
        Scores<M> s;
        clear<M>(s);
        if (has_dq) Tiles::multiply(s, Tiles::kDq + i, dq(i), query, Tiles::kK + ring, place.k, key);
        if (has_dk) Tiles::multiply(s, Tiles::kQ, place.q, query, Tiles::kDk + number % kStages, dk(i), key);
        for_each<M>(s, [&](float slope, int m, int n, int e) {
          // The row's sum is that of the rounded weights: what rounding does to them then counts times v - o, not v.
          const float weight = as_factor<typename C::Factor>(probability[m][n][e] * (p.scale1 * slope));
          total[i][m][e / 2] += weight;
          return weight;
        });
        Tiles::weigh(sums[i], s, Tiles::kV + ring, place.v, key, place.first_channel);
      }
      if (has_dv) Tiles::weigh(sums[i], probability, Tiles::kDv + number % kStages, dv(i), key, place.first_channel);
      ++number;
    }
  }
  wait_copies();
  Rows<M> as_sums;
#pragma unroll
  for (int m = 0; m < M; ++m) as_sums[m][0] = as_sums[m][1] = kWeight<T>;
#pragma unroll
  for (int i = 0; i < G; ++i) {
    if (i >= place.live) break;
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
      for (int h = 0; h < 2; ++h) total[i][m][h] = -row_sum(total[i][m][h]);
    }
    add_rows<M, W>(sums[i], place.o, query, place.first_channel, total[i]);
    const View<T> out = place.of_queries(p.out, i, p.value_channels);
    if (p.accumulate) add_rows<M, W>(sums[i], out, query, place.first_channel, as_sums);
    write_rows<M, W>(out, query, place.first_channel, sums[i], 1 / kWeight<T>);
  }
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

template <typename Kind, int W, bool kWhole>
struct Tangent {
  using C = Config<Kind, W, kWhole, Fit<Kind, W, kWhole>::M, Fit<Kind, W, kWhole>::G>;
  static constexpr int64_t kBytes = TangentTiles<C>::kBytes;

  static void run(const Problem& p, const Target& to) {
    launch_tiles<C, TangentTiles>(attention_tangent_tiles<C>, "attention_tangent", p, p.queries, p.value_channels, to);
  }
};

void plain(const Problem& p, const Target& to) {
  launch_plain(attention_tangent_plain, "attention_tangent", p, p.queries, to);
}

}  // namespace

void attention_tangent(const AttentionTangent& call, void*, int device, void* stream) {
  const std::string where = shapes(call.shape, call.probes);
  const DeviceScope scope(device);
  const int64_t bytes = value_bytes(call.shape.dtype);
  Problem p = problem_of(call, call.probes, where);
  p.dq = array_of(call.dq, call.shape.channels, bytes);
  p.dk = array_of(call.dk, call.shape.channels, bytes);
  p.dv = array_of(call.dv, call.shape.value_channels, bytes);
  p.out = array_of(call.out, call.shape.value_channels, bytes);
  p.accumulate = call.accumulate;
  const Target to{call.shape.batch * call.shape.heads, shared_room(device), static_cast<cudaStream_t>(stream), where};
  run_kernels<Tangent>(call.shape, p, to, plain);
}

}  // namespace cuda
}  // namespace latentjac
