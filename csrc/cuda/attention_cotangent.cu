// The cotangent of attention on CUDA: one kernel owns queries (dq), one keys (dk and dv); attention_walk.cuh says how.
#include "cuda/attention_host.cuh"
#include "kernels.h"

namespace latentjac {
namespace cuda {
namespace {

// ---- dq ----

template <typename C>
struct QueryTiles : Memory<C, 1 + C::G, 2 * C::kStages> {
  static constexpr int kQ = 0, kU = 1;  // owned
  static constexpr int kK = 0, kV = C::kStages;
};

template <typename C>
__global__ void __launch_bounds__(kTileThreads) attention_cotangent_queries(Problem p) {
  using T = typename C::T;
  using Tiles = QueryTiles<C>;
  constexpr int G = C::G, M = C::M, W = C::W, kStep = kColumns<M>;
  const Place<T> place(p, kRows<M>, W, G);
  const int query = place.first_row, end = place.end_of_keys(query + kRows<M>);
  auto u = [&](int i) { return place.of_queries(p.u, i, p.value_channels); };
  auto bring = [&](int block) {
    if (block * kStep >= end) return;
    fetch<kStep, W>(Tiles::walked(Tiles::kK + block % C::kStages), place.k, block * kStep, 0);
    fetch<kStep, W>(Tiles::walked(Tiles::kV + block % C::kStages), place.v, block * kStep, 0);
  };
  // o is only needed for u.o, and passes through the tile of q.
  if constexpr (C::kWhole) {
    fetch<kRows<M>, W>(Tiles::owned(Tiles::kQ), place.o, query, 0);
    for (int i = 0; i < place.live; ++i) fetch<kRows<M>, W>(Tiles::owned(Tiles::kU + i), u(i), query, 0);
    if (C::kStages == 2) bring(0);
    wait_copies();
    __syncthreads();
  }
  float dots[G][2 * M];  // of rows m and h: 2 m + h
#pragma unroll
  for (int i = 0; i < G; ++i) {
    if (i >= place.live) break;
    const T* o_tile = C::kWhole ? Tiles::owned(Tiles::kQ) : Tiles::walked(0);
    Tiles::row_products(
        dots[i], [](int r) { return lane_row(M, r / 2) + r % 2 * 8; }, kRows<M>, Tiles::owned(Tiles::kU + i), u(i),
        o_tile, place.o, query);
  }
  if constexpr (C::kWhole) {
    __syncthreads();
    fetch<kRows<M>, W>(Tiles::owned(Tiles::kQ), place.q, query, 0);
  }
  Rows<M> lse2;
  place.template read_lse2<M>(lse2);
  Sums<M, W> sums[G] = {};
  for (int block = 0; block * kStep < end; ++block) {
    const int key = block * kStep, ring = block % C::kStages;
    if constexpr (C::kWhole) advance<C>([&](int ahead) { bring(block + ahead); });
    Scores<M> probability;
    clear<M>(probability);
    Tiles::multiply(probability, Tiles::kQ, place.q, query, Tiles::kK + ring, place.k, key);
    to_probabilities<M, false>(probability, place, query, key, lse2);
#pragma unroll
    for (int i = 0; i < G; ++i) {
      if (i >= place.live) break;
      Scores<M> s;
      clear<M>(s);
      Tiles::multiply(s, Tiles::kU + i, u(i), query, Tiles::kV + ring, place.v, key);
      for_each<M>(s, [&](float product, int m, int n, int e) {
        return probability[m][n][e] * (p.scale1 * (product - dots[i][2 * m + e / 2]));
      });
      Tiles::weigh(sums[i], s, Tiles::kK + ring, place.k, key, place.first_channel);
    }
  }
  wait_copies();
#pragma unroll
  for (int i = 0; i < G; ++i) {
    if (i >= place.live) break;
    write_rows<M, W>(place.of_queries(p.dq, i, p.channels), query, place.first_channel, sums[i], 1 / kWeight<T>);
  }
}

// ---- dk and dv ----

// Here rows are keys and columns are queries.
template <typename C>
struct KeyTiles : Memory<C, 2, 3 * C::kStages, 2 * kColumns<C::M>> {
  static constexpr int kK = 0, kV = 1;  // owned
  static constexpr int kQ = 0, kO = C::kStages, kU = 2 * C::kStages;
};

template <typename C>
__global__ void __launch_bounds__(kTileThreads) attention_cotangent_keys(Problem p) {
  using T = typename C::T;
  using Tiles = KeyTiles<C>;
  constexpr int G = C::G, M = C::M, W = C::W, kStages = C::kStages, kStep = kColumns<M>;
  const Place<T> place(p, kRows<M>, W, G);
  float* lse2 = Tiles::floats();  // of the step's queries
  float* dots = lse2 + kStep;     // u_i.o_i of them
  const int key = place.first_row;
  const bool has_dk = p.dk.strided.at && place.first_channel < p.channels;
  const bool has_dv = p.dv.strided.at && place.first_channel < p.value_channels;
  auto u = [&](int i) { return place.of_queries(p.u, i, p.value_channels); };
  auto bring = [&](int block, int probe, int number) {
    if (block * kStep >= p.queries) return;
    if (probe == 0) {
      fetch<kStep, W>(Tiles::walked(Tiles::kQ + block % kStages), place.q, block * kStep, 0);
      if (has_dk) fetch<kStep, W>(Tiles::walked(Tiles::kO + block % kStages), place.o, block * kStep, 0);
    }
    fetch<kStep, W>(Tiles::walked(Tiles::kU + number % kStages), u(probe), block * kStep, 0);
  };
  const int first = p.causal ? key / kStep : 0;  // queries before it see none of these keys
  if constexpr (C::kWhole) {
    fetch<kRows<M>, W>(Tiles::owned(Tiles::kK), place.k, key, 0);
    if (has_dk) fetch<kRows<M>, W>(Tiles::owned(Tiles::kV), place.v, key, 0);
    if (kStages == 2) bring(first, 0, 0);
  }
  Sums<M, W> dk[G] = {}, dv[G] = {};
  for (int block = first, number = 0; block * kStep < p.queries; ++block) {
    const int query = block * kStep, ring = block % kStages;
    Scores<M> probability;
#pragma unroll
    for (int i = 0; i < G; ++i) {
      if (i >= place.live) break;
      if constexpr (C::kWhole) {
        advance<C>([&](int ahead) {
          const int next = i + ahead;
          bring(next < place.live ? block : block + 1, next < place.live ? next : 0, number + ahead);
        });
      }  // else weigh has met all threads since lse2 and dots were read
      const int u_now = Tiles::kU + number % kStages;
      if (i == 0 && threadIdx.x < kStep) lse2[threadIdx.x] = place.lse2(query + threadIdx.x);
      if (has_dk) {
        const T* u_tile = C::kWhole ? Tiles::walked(u_now) : Tiles::owned(0);
        const int row = lane_row(1, 0);
        float own[2];
        Tiles::row_products(
            own, [&](int r) { return row + 8 * r; }, kStep, u_tile, u(i), Tiles::walked(Tiles::kO + ring), place.o,
            query);
        if (threadIdx.x % 4 == 0 && row < kStep) {
          dots[row] = own[0];
          dots[row + 8] = own[1];
        }
      }
      __syncthreads();
      if (i == 0) {
        clear<M>(probability);
        Tiles::multiply(probability, Tiles::kK, place.k, key, Tiles::kQ + ring, place.q, query);
        to_probabilities<M, true>(probability, place, query, key, lse2);
      }
      if (has_dk) {
        Scores<M> s;
        clear<M>(s);
        Tiles::multiply(s, Tiles::kV, place.v, key, u_now, u(i), query);
        for_each<M>(s, [&](float product, int m, int n, int e) {
          return probability[m][n][e] * (p.scale1 * (product - dots[n * 8 + threadIdx.x % 4 * 2 + e % 2]));
        });
        Tiles::weigh(dk[i], s, Tiles::kQ + ring, place.q, query, place.first_channel);
      }
      if (has_dv) Tiles::weigh(dv[i], probability, u_now, u(i), query, place.first_channel);
      ++number;
    }
  }
  wait_copies();
#pragma unroll
  for (int i = 0; i < G; ++i) {
    if (i >= place.live) break;
    if (has_dk) write_rows<M, W>(place.of_keys(p.dk, i, p.channels), key, place.first_channel, dk[i], 1 / kWeight<T>);
    if (has_dv)
      write_rows<M, W>(place.of_keys(p.dv, i, p.value_channels), key, place.first_channel, dv[i], 1 / kWeight<T>);
  }
}

// ---- float64 ----

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

// ---- Host side ----

template <typename Kind, int W, bool kWhole>
struct Cotangent {
  static constexpr int M = Fit<Kind, W, kWhole>::M, G = Fit<Kind, W, kWhole>::G;
  using Queries = Config<Kind, W, kWhole, M, G>;
  using Keys = Config<Kind, W, kWhole, W == 64 ? M : 1, 1>;  // twice the sums
  static constexpr int64_t kBytes = std::max(QueryTiles<Queries>::kBytes, KeyTiles<Keys>::kBytes);

  static void run(const Problem& p, const Target& to) {
    if (p.dq.strided.at) {
      launch_tiles<Queries, QueryTiles>(attention_cotangent_queries<Queries>, "attention_cotangent dq", p, p.queries,
                                        p.channels, to);
    }
    if (p.dk.strided.at || p.dv.strided.at) {
      const int channels = p.dk.strided.at ? p.channels : 0, value_channels = p.dv.strided.at ? p.value_channels : 0;
      launch_tiles<Keys, KeyTiles>(attention_cotangent_keys<Keys>, "attention_cotangent dk dv", p, p.keys,
                                   std::max(channels, value_channels), to);
    }
  }
};

void plain(const Problem& p, const Target& to) {
  if (p.dq.strided.at) launch_plain(attention_cotangent_plain_queries, "attention_cotangent dq", p, p.queries, to);
  if (p.dk.strided.at || p.dv.strided.at)
    launch_plain(attention_cotangent_plain_keys, "attention_cotangent dk dv", p, p.keys, to);
}

}  // namespace

void attention_cotangent(const AttentionCotangent& call, void*, int device, void* stream) {
  const std::string where = shapes(call.shape, call.probes);
  const DeviceScope scope(device);
  const int64_t bytes = value_bytes(call.shape.dtype);
  Problem p = problem_of(call, call.probes, where);
  p.u = array_of(call.u, call.shape.value_channels, bytes);
  p.dq = array_of(call.dq, call.shape.channels, bytes);
  p.dk = array_of(call.dk, call.shape.channels, bytes);
  p.dv = array_of(call.dv, call.shape.value_channels, bytes);
  const Target to{call.shape.batch * call.shape.heads, shared_room(device), static_cast<cudaStream_t>(stream), where};
  run_kernels<Cotangent>(call.shape, p, to, plain);
}

}  // namespace cuda
}  // namespace latentjac
