// Attention on CUDA, one pass over the keys with a running maximum; attention_walk.cuh says how.
#include "cuda/attention_host.cuh"
#include "kernels.h"

namespace latentjac {
namespace cuda {
namespace {

template <typename C>
struct PrimalTiles : Memory<C, 1, 2 * C::kStages> {
  static constexpr int kK = 0, kV = C::kStages;
};

template <typename C>
__global__ void __launch_bounds__(kTileThreads) attention_primal_tiles(Problem p) {
  using T = typename C::T;
  using Tiles = PrimalTiles<C>;
  constexpr int M = C::M, W = C::W, kStep = kColumns<M>;
  const Place<T> place(p, kRows<M>, W, 1);
  const int query = place.first_row, end = place.end_of_keys(query + kRows<M>);
  auto bring = [&](int block) {
    if (block * kStep >= end) return;
    fetch<kStep, W>(Tiles::walked(Tiles::kK + block % C::kStages), place.k, block * kStep, 0);
    fetch<kStep, W>(Tiles::walked(Tiles::kV + block % C::kStages), place.v, block * kStep, 0);
  };
  if constexpr (C::kWhole) {
    fetch<kRows<M>, W>(Tiles::owned(0), place.q, query, 0);
    if (C::kStages == 2) bring(0);
  }
  Sums<M, W> sums = {};
  Rows<M> largest, total = {};
#pragma unroll
  for (int m = 0; m < M; ++m) largest[m][0] = largest[m][1] = -INFINITY;
  for (int block = 0; block * kStep < end; ++block) {
    const int key = block * kStep, ring = block % C::kStages;
    if constexpr (C::kWhole) advance<C>([&](int ahead) { bring(block + ahead); });
    Scores<M> s;
    clear<M>(s);
    Tiles::multiply(s, 0, place.q, query, Tiles::kK + ring, place.k, key);
    place.template to_scores<M, false>(s, query, key);
    Rows<M> shift, shrink;
#pragma unroll
    for (int m = 0; m < M; ++m) {
      shift[m][0] = largest[m][0];
      shift[m][1] = largest[m][1];
    }
    for_each<M>(s, [&](float score, int m, int, int i) {
      shift[m][i / 2] = fmaxf(shift[m][i / 2], score);
      return score;
    });
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const float before = largest[m][h];
        largest[m][h] = row_largest(shift[m][h]);
        // A row that has seen no key yet subtracts 0, not infinity from infinity.
        shift[m][h] = largest[m][h] == -INFINITY ? 0.0f : largest[m][h];
        shrink[m][h] = exp2_fast(before - shift[m][h]);
        total[m][h] *= shrink[m][h];
      }
#pragma unroll
      for (int n = 0; n < W / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[m][n][i] *= shrink[m][i / 2];
      }
    }
    for_each<M>(s, [&](float score, int m, int, int i) {
      const float weight = exp2_fast(score - shift[m][i / 2]);
      total[m][i / 2] += weight;
      return weight;
    });
    Tiles::weigh(sums, s, Tiles::kV + ring, place.v, key, place.first_channel);
  }
  wait_copies();  // a walk without a step has not
  float* lse = const_cast<float*>(static_cast<const float*>(p.lse)) + (place.batch * p.heads + place.head) * p.queries;
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float sum = row_sum(total[m][h]);
      const int i = query + lane_row(M, m) + 8 * h;
      if (threadIdx.x % 4 == 0 && i < p.queries && place.first_channel == 0)
        lse[i] = sum == 0 ? -INFINITY : largest[m][h] * kLn2 + logf(sum);
      total[m][h] = sum == 0 ? 0.0f : 1.0f / sum;
    }
  }
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int n = 0; n < W / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[m][n][i] *= total[m][i / 2];
    }
  }
  write_rows<M, W>(place.o, query, place.first_channel, sums, 1.0f);
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

template <typename Kind, int W, bool kWhole>
struct Primal {
  using C = Config<Kind, W, kWhole, Fit<Kind, W, kWhole>::M, 1>;
  static constexpr int64_t kBytes = PrimalTiles<C>::kBytes;

  static void run(const Problem& p, const Target& to) {
    launch_tiles<C, PrimalTiles>(attention_primal_tiles<C>, "attention_primal", p, p.queries, p.value_channels, to);
  }
};

void plain(const Problem& p, const Target& to) {
  launch_plain(attention_primal_plain, "attention_primal", p, p.queries, to);
}

}  // namespace

void attention_primal(const AttentionPrimal& call, void*, int device, void* stream) {
  const std::string where = shapes(call.shape, 1);
  const DeviceScope scope(device);
  const Problem p = problem_of(call, 1, where);
  const Target to{call.shape.batch * call.shape.heads, shared_room(device), static_cast<cudaStream_t>(stream), where};
  run_kernels<Primal>(call.shape, p, to, plain);
}

}  // namespace cuda
}  // namespace latentjac
