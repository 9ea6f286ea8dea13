// Attention, its tangent and its cotangent on CUDA: see kernels.h for the formulas.
//
// A block owns some rows of a result (queries; for dk and dv keys), of one head and a group of probes, and walks over
// tiles of the other side. For each tile it forms the probabilities once, from q, k and lse, in registers, and uses
// them for all probes of the group. Nothing is shared between blocks: no atomics, the same bits every time.
//
// Whole: q, k and v fit W channels. Every tile has its own place in shared memory and is read once a walk; with
// kStages 2 the tiles of the next step are on their way while this one computes. Not whole: any number of channels, in
// chunks of W; every product fetches its two tiles, and a block owns W channels of the result, so the scores are formed
// again for each chunk.
//
// Tensor cores throughout: bfloat16 and float16 with float32 sums, float32 as the sum of two tf32 (mma.cuh). float64
// is in attention_plain.cuh. Weights of the sums (probabilities times slopes) are rounded to T: those of float16 are
// precise from 2e-7 to 255 (kWeight).
#include <algorithm>
#include <initializer_list>

#include "cuda/attention_plain.cuh"
#include "cuda/attention_problem.cuh"
#include "cuda/host.cuh"
#include "cuda/launch.cuh"
#include "kernels.h"

namespace latentjac {
namespace cuda {
namespace {

// Sizes of one kernel: M times 16 rows a warp; G probes share the probabilities.
template <typename Type, int kWidth, bool kIsWhole, int kM, int kG>
struct Config {
  using T = Type;
  static constexpr int W = kWidth, M = kM, G = kG;
  static constexpr bool kWhole = kIsWhole;
  static constexpr int kStages = W * sizeof(T) <= 128 ? 2 : 1;
  static_assert(kWhole || M == 1, "chunks pass through two tiles of one size");
};

// The block's shared memory: `owned` tiles of kRows rows, then tiles of kColumns rows that the walk refills. Not whole:
// one of each, that all products share.
template <typename C, int kOwned, int kWalked, int kFloats = 0>
struct Memory {
  using T = typename C::T;
  static constexpr int kOwnedValues = kRows<C::M> * kRowStride<T, C::W>;
  static constexpr int kWalkedValues = kColumns<C::M> * kRowStride<T, C::W>;
  static constexpr int kValues = (C::kWhole ? kOwned : 1) * kOwnedValues + (C::kWhole ? kWalked : 1) * kWalkedValues;
  static constexpr size_t kBytes = sizeof(T) * kValues + sizeof(float) * kFloats;

  __device__ static T* owned(int i) {
    return reinterpret_cast<T*>(dynamic_shared()) + (C::kWhole ? i : 0) * kOwnedValues;
  }
  __device__ static T* walked(int i) {
    return reinterpret_cast<T*>(dynamic_shared()) + (C::kWhole ? kOwned : 1) * kOwnedValues +
           (C::kWhole ? i : 0) * kWalkedValues;
  }
  __device__ static float* floats() { return reinterpret_cast<float*>(dynamic_shared() + sizeof(T) * kValues); }

  // s += owned rows of one array times walked rows of another, whose tiles are there (whole) or fetched here.
  __device__ static void multiply(Scores<C::M>& s, int left, const View<T>& left_rows, int left_first, int right,
                                  const View<T>& right_rows, int right_first) {
    if constexpr (C::kWhole) {
      multiply_rows<C::M, C::W>(s, owned(left), walked(right), left_rows.channels);
    } else {
      for (int c = 0; c < left_rows.channels; c += C::W) {
        fetch_two(left_rows, left_first, right_rows, right_first, c);
        multiply_rows<C::M, C::W>(s, owned(0), walked(0), left_rows.channels - c);
      }
    }
  }

  // sums += weights times W channels of walked rows.
  __device__ static void weigh(Sums<C::M, C::W>& sums, const Scores<C::M>& weights, int right, const View<T>& rows,
                               int first, int first_channel) {
    if constexpr (!C::kWhole) {
      __syncthreads();
      fetch<kColumns<C::M>, C::W>(walked(0), rows, first, first_channel);
      wait_copies();
      __syncthreads();
    }
    weigh_rows<C::M, C::W>(sums, weights, walked(right), rows.channels - first_channel);
  }

  // u_i.o_i of rows whose numbers in their tiles are given (less than `rows`): row(r), into sums[r], in the lanes of
  // a row. Whole: the tiles are given.
  template <int kCount, typename RowOf>
  __device__ static void row_products(float (&sums)[kCount], const RowOf& row, int rows, const T* u_tile,
                                      const View<T>& u, const T* o_tile, const View<T>& o, int first) {
#pragma unroll
    for (int r = 0; r < kCount; ++r) sums[r] = 0;
    for (int c = 0; c < u.channels; c += C::W) {
      if constexpr (!C::kWhole) fetch_two(u, first, o, first, c);
#pragma unroll
      for (int r = 0; r < kCount; ++r) {
        if (row(r) < rows) sums[r] += row_product<C::W>(u_tile, o_tile, row(r), min(C::W, u.channels - c));
      }
    }
#pragma unroll
    for (int r = 0; r < kCount; ++r) sums[r] = row_sum(sums[r]);
  }

  __device__ static void fetch_two(const View<T>& left, int left_first, const View<T>& right, int right_first, int c) {
    __syncthreads();
    fetch<kRows<C::M>, C::W>(owned(0), left, left_first, c);
    fetch<kColumns<C::M>, C::W>(walked(0), right, right_first, c);
    wait_copies();
    __syncthreads();
  }
};

// One step of a walk through rings of kStages tiles: bring(0) starts the copies that this step needs, bring(1) those
// of the next. With two stages the first step has to be brought before the walk.
template <typename C, typename Bring>
__device__ inline void advance(const Bring& bring) {
  if constexpr (C::kStages == 2) {
    wait_copies();
    __syncthreads();  // the copies of all threads are there, and nobody reads the tiles of the step before any more
    bring(1);
  } else {
    __syncthreads();
    bring(0);
    wait_copies();
    __syncthreads();
  }
}

// ---- Primal ----

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

// ---- Tangent ----

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
          const float weight = to_float(from_float<T>(probability[m][n][e] * (p.scale1 * slope)));
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

// ---- Cotangent: dq ----

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

// ---- Cotangent: dk and dv ----

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

// ---- Host side ----

std::string shapes(const AttentionShape& s, int64_t probes) {
  return " (probes=" + std::to_string(probes) + ", batch=" + std::to_string(s.batch) +
         ", heads=" + std::to_string(s.heads) + ", queries=" + std::to_string(s.queries) +
         ", keys=" + std::to_string(s.keys) + ", channels=" + std::to_string(s.channels) +
         ", value_channels=" + std::to_string(s.value_channels) + ")";
}

Array array_of(const Strided& s, int64_t channels, int64_t value_bytes) {
  const int64_t odd = reinterpret_cast<intptr_t>(s.at) | (s.probe * value_bytes) | (s.batch * value_bytes) |
                      (s.head * value_bytes) | (s.row * value_bytes) | (channels * value_bytes);
  return {s, odd % 16 == 0};
}

int64_t value_bytes(DType dtype) {
  return dtype == DType::kFloat64 ? 8 : dtype == DType::kFloat32 ? 4 : 2;
}

// What all calls have in common.
template <typename Call>
Problem problem_of(const Call& call, int64_t probes, const std::string& where) {
  const AttentionShape& s = call.shape;
  for (const int64_t size : {s.queries, s.keys, s.channels, s.value_channels, probes}) {
    if (size < 0 || size > (int64_t{1} << 30)) throw std::runtime_error("attention: a size is out of range" + where);
  }
  Problem p = {};
  const int64_t bytes = value_bytes(s.dtype);
  p.q = array_of(call.q, s.channels, bytes);
  p.k = array_of(call.k, s.channels, bytes);
  p.v = array_of(call.v, s.value_channels, bytes);
  p.o = array_of(call.o, s.value_channels, bytes);
  p.bias = call.bias;
  p.lse = call.lse;
  p.heads = s.heads;
  p.queries = static_cast<int>(s.queries);
  p.keys = static_cast<int>(s.keys);
  p.channels = static_cast<int>(s.channels);
  p.value_channels = static_cast<int>(s.value_channels);
  p.probes = static_cast<int>(probes);
  p.scale = s.scale;
  p.scale1 = static_cast<float>(s.scale);
  p.scale2 = static_cast<float>(s.scale * 1.44269504088896340736);
  p.causal = s.causal;
  return p;
}

int ceil_div(int a, int b) {
  return (a + b - 1) / b;
}

// One launch, for `rows` and `channels` of a result.
template <typename C, template <typename> class Tiles>
void launch_tiles(void (*kernel)(Problem), const char* name, Problem p, int rows, int channels, const Target& to) {
  p.blocks = ceil_div(rows, kRows<C::M>);
  p.chunks = C::kWhole ? 1 : ceil_div(channels, C::W);
  p.groups = ceil_div(p.probes, C::G);
  const unsigned blocks = to.blocks(p);
  if (blocks == 0) return;
  check(allow_shared(kernel, Tiles<C>::kBytes), name, to.where);
  check(launch(kernel, blocks, kTileThreads, Tiles<C>::kBytes, to.stream, p), name, to.where);
}

// The kernels for up to W channels, or for any number. M and G are the largest that 255 registers hold; float32 splits
// its values, which takes more of them, and its tiles leave room for two blocks on a multiprocessor with G = 1.
template <typename T, int W, bool kWhole>
struct Tiled {
  static constexpr int M = kWhole ? 2 : 1, G = W == 64 && sizeof(T) == 2 ? 2 : 1;

  static void primal(const Problem& p, const Target& to) {
    using C = Config<T, W, kWhole, M, 1>;
    launch_tiles<C, PrimalTiles>(attention_primal_tiles<C>, "attention_primal", p, p.queries, p.value_channels, to);
  }
  static void tangent(const Problem& p, const Target& to) {
    using C = Config<T, W, kWhole, M, G>;
    launch_tiles<C, TangentTiles>(attention_tangent_tiles<C>, "attention_tangent", p, p.queries, p.value_channels, to);
  }
  static void cotangent(const Problem& p, const Target& to) {
    if (p.dq.strided.at) {
      using C = Config<T, W, kWhole, M, G>;
      launch_tiles<C, QueryTiles>(attention_cotangent_queries<C>, "attention_cotangent dq", p, p.queries, p.channels,
                                  to);
    }
    if (p.dk.strided.at || p.dv.strided.at) {
      // Twice the sums.
      using C = Config<T, W, kWhole, W == 64 ? M : 1, 1>;
      const int channels = p.dk.strided.at ? p.channels : 0, value_channels = p.dv.strided.at ? p.value_channels : 0;
      launch_tiles<C, KeyTiles>(attention_cotangent_keys<C>, "attention_cotangent dk dv", p, p.keys,
                                std::max(channels, value_channels), to);
    }
  }
};

// The kernels that serve these channels; `act` calls one of their functions.
template <typename T, typename Act>
void with_tiles(const Problem& p, const Act& act) {
  const int widest = std::max(p.channels, p.value_channels);
  if (widest <= 64) return act(Tiled<T, 64, true>());
  if constexpr (sizeof(T) == 2) {
    if (widest <= 128) return act(Tiled<T, 128, true>());
  }
  act(Tiled<T, 64, false>());
}

template <typename Act>
void with_kernels(DType dtype, const Problem& p, const Act& act) {
  switch (dtype) {
    case DType::kFloat32:
      return with_tiles<float>(p, act);
    case DType::kFloat64:
      return act(Plain());
    case DType::kBFloat16:
      return with_tiles<__nv_bfloat16>(p, act);
    case DType::kFloat16:
      return with_tiles<__half>(p, act);
  }
}

}  // namespace

void attention_primal(const AttentionPrimal& call, int device, void* stream) {
  const std::string where = shapes(call.shape, 1);
  const DeviceScope scope(device);
  const Problem p = problem_of(call, 1, where);
  const Target to{call.shape.batch * call.shape.heads, static_cast<cudaStream_t>(stream), where};
  with_kernels(call.shape.dtype, p, [&](auto kernels) { kernels.primal(p, to); });
}

void attention_tangent(const AttentionTangent& call, int device, void* stream) {
  const std::string where = shapes(call.shape, call.probes);
  const DeviceScope scope(device);
  const int64_t bytes = value_bytes(call.shape.dtype);
  Problem p = problem_of(call, call.probes, where);
  p.dq = array_of(call.dq, call.shape.channels, bytes);
  p.dk = array_of(call.dk, call.shape.channels, bytes);
  p.dv = array_of(call.dv, call.shape.value_channels, bytes);
  p.out = array_of(call.out, call.shape.value_channels, bytes);
  p.accumulate = call.accumulate;
  const Target to{call.shape.batch * call.shape.heads, static_cast<cudaStream_t>(stream), where};
  with_kernels(call.shape.dtype, p, [&](auto kernels) { kernels.tangent(p, to); });
}

void attention_cotangent(const AttentionCotangent& call, int device, void* stream) {
  const std::string where = shapes(call.shape, call.probes);
  const DeviceScope scope(device);
  const int64_t bytes = value_bytes(call.shape.dtype);
  Problem p = problem_of(call, call.probes, where);
  p.u = array_of(call.u, call.shape.value_channels, bytes);
  p.dq = array_of(call.dq, call.shape.channels, bytes);
  p.dk = array_of(call.dk, call.shape.channels, bytes);
  p.dv = array_of(call.dv, call.shape.value_channels, bytes);
  const Target to{call.shape.batch * call.shape.heads, static_cast<cudaStream_t>(stream), where};
  with_kernels(call.shape.dtype, p, [&](auto kernels) { kernels.cotangent(p, to); });
}

}  // namespace cuda
}  // namespace latentjac
