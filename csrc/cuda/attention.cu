// Attention, its tangent and its cotangent on CUDA: see kernels.h for the formulas.
//
// A block owns kTile rows of a result (queries; for dk and dv keys), of one head and a group of probes, and walks over
// tiles of the other side. For each tile it forms the probabilities once, from q, k and lse, in registers, and uses
// them for all probes of the group. Nothing is shared between blocks: no atomics, the same bits every time.
//
// Whole: q, k and v fit W channels. Every tile has its own place in shared memory and is read once a walk; with
// kStages 2 the tiles of the next step are on their way while this one computes. Not whole: any number of channels, in
// chunks of W; every product fetches its two tiles, and a block owns W channels of the result, so the scores are formed
// again for each chunk.
//
// Tensor cores throughout: bfloat16 and float16 with float32 sums, float32 as the sum of two tf32 (mma.cuh). float64
// is in attention_plain.cuh. Weights of the sums (probabilities times slopes) are rounded to T: float16 loses what is
// below 6e-8, so its probes have to be scaled to about 1.
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

// Sizes of one kernel: G probes share the probabilities.
template <typename Type, int kWidth, bool kIsWhole>
struct Config {
  using T = Type;
  static constexpr int W = kWidth;
  static constexpr bool kWhole = kIsWhole;
  static constexpr int G = W <= 64 ? 2 : 1;
  static constexpr int kStages = W * sizeof(T) <= 128 ? 2 : 1;
};

// Tiles in shared memory by number.
template <typename C>
struct Slots {
  using T = typename C::T;
  T* first = reinterpret_cast<T*>(dynamic_shared());
  __device__ T* operator[](int i) const { return first + i * Tile<T, C::W>::kValues; }

  // s += rows of one array times rows of another. Whole: their tiles are there. Else they pass through tiles 0 and 1.
  __device__ void multiply(Scores& s, int left, int right, const View<T>& left_rows, int left_first,
                           const View<T>& right_rows, int right_first) const {
    if constexpr (C::kWhole) {
      multiply_rows<T, C::W>(s, (*this)[left], (*this)[right], left_rows.channels);
    } else {
      for (int c = 0; c < left_rows.channels; c += C::W) {
        fetch_two(left_rows, left_first, right_rows, right_first, c);
        multiply_rows<T, C::W>(s, (*this)[0], (*this)[1], left_rows.channels - c);
      }
    }
  }

  // sums += weights times W channels of the rows of an array, whose tile is there (whole) or passes through tile 0.
  __device__ void weigh(float (&sums)[C::W / 8][4], const Scores& weights, int right, const View<T>& rows, int first,
                        int first_channel) const {
    if constexpr (!C::kWhole) {
      right = 0;
      __syncthreads();
      fetch<T, C::W>((*this)[0], rows, first, first_channel);
      wait_copies();
      __syncthreads();
    }
    weigh_rows<T, C::W>(sums, weights, (*this)[right], rows.channels - first_channel);
  }

  // u_i.o_i of this lane's two rows, in all lanes of a row.
  __device__ void row_products(float (&sums)[2], int left, int right, const View<T>& u, const View<T>& o,
                               int first) const {
    sums[0] = sums[1] = 0;
    if constexpr (C::kWhole) {
      add_row_products<T, C::W>(sums, (*this)[left], (*this)[right], u.channels);
    } else {
      for (int c = 0; c < u.channels; c += C::W) {
        fetch_two(u, first, o, first, c);
        add_row_products<T, C::W>(sums, (*this)[0], (*this)[1], min(C::W, u.channels - c));
      }
    }
    sums[0] = row_sum(sums[0]);
    sums[1] = row_sum(sums[1]);
  }

  __device__ void fetch_two(const View<T>& left, int left_first, const View<T>& right, int right_first, int c) const {
    __syncthreads();
    fetch<T, C::W>((*this)[0], left, left_first, c);
    fetch<T, C::W>((*this)[1], right, right_first, c);
    wait_copies();
    __syncthreads();
  }
};

// One step of a walk through rings of kStages tiles: `bring(0)` starts the copies that this step needs, `bring(1)`
// those of the next. The walk's first step has to be brought before it when there are two stages.
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
struct PrimalKernel {
  static constexpr const char* kName = "attention_primal";
  static constexpr int kQ = 0, kK = 1, kV = kK + C::kStages, kSlots = C::kWhole ? kV + C::kStages : 2, kFloats = 0;
  static constexpr int G = 1;
};

template <typename C>
__global__ void __launch_bounds__(kTileThreads) attention_primal_tiles(Problem p) {
  using T = typename C::T;
  using K = PrimalKernel<C>;
  const Place<T> place(p, kTile, C::W, 1);
  const Slots<C> slots;
  const int query = place.first_row, end = place.end_of_keys(query);
  const int lane = threadIdx.x % kLanes, row = threadIdx.x / kLanes * 16 + lane / 4;
  auto bring = [&](int step) {
    if (step * kTile >= end) return;
    fetch<T, C::W>(slots[K::kK + step % C::kStages], place.k, step * kTile, 0);
    fetch<T, C::W>(slots[K::kV + step % C::kStages], place.v, step * kTile, 0);
  };
  if constexpr (C::kWhole) {
    fetch<T, C::W>(slots[K::kQ], place.q, query, 0);
    if (C::kStages == 2) bring(0);
  }
  float sums[C::W / 8][4] = {};
  float largest[2] = {-INFINITY, -INFINITY}, total[2] = {};
  for (int step = 0; step * kTile < end; ++step) {
    const int key = step * kTile, ring = step % C::kStages;
    if constexpr (C::kWhole) advance<C>([&](int ahead) { bring(step + ahead); });
    Scores s;
    clear(s);
    slots.multiply(s, K::kQ, K::kK + ring, place.q, query, place.k, key);
    const bool plain = place.plain(query, key);
    float found[2] = {largest[0], largest[1]};
#pragma unroll
    for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        s[n][i] = plain ? s[n][i] * p.scale2
                        : place.score(s[n][i], query + row + i / 2 * 8, key + n * 8 + lane % 4 * 2 + i % 2);
        found[i / 2] = fmaxf(found[i / 2], s[n][i]);
      }
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      found[h] = row_largest(found[h]);
      // A row that has seen no key yet subtracts 0, not infinity from infinity.
      const float shift = found[h] == -INFINITY ? 0.0f : found[h], shrink = exp2_fast(largest[h] - shift);
      largest[h] = found[h];
      total[h] *= shrink;
#pragma unroll
      for (int n = 0; n < C::W / 8; ++n) {
        sums[n][2 * h] *= shrink;
        sums[n][2 * h + 1] *= shrink;
      }
#pragma unroll
      for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
        for (int i = 2 * h; i < 2 * h + 2; ++i) {
          s[n][i] = exp2_fast(s[n][i] - shift);
          total[h] += s[n][i];
        }
      }
    }
    slots.weigh(sums, s, K::kV + ring, place.v, key, place.first_channel);
  }
  wait_copies();
  float* lse = const_cast<float*>(static_cast<const float*>(p.lse)) + (place.batch * p.heads + place.head) * p.queries;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    total[h] = row_sum(total[h]);
    const int i = query + row + 8 * h;
    if (lane % 4 == 0 && i < p.queries && place.first_channel == 0)
      lse[i] = total[h] == 0 ? -INFINITY : largest[h] * kLn2 + logf(total[h]);
    total[h] = total[h] == 0 ? 0.0f : 1.0f / total[h];
  }
  write_rows<T, C::W>(place.o, query, place.first_channel, sums,
                      [&](int h, int, int, float sum) { return sum * total[h]; });
}

// ---- Tangent ----

template <typename C>
struct TangentKernel {
  static constexpr const char* kName = "attention_tangent";
  static constexpr int G = C::G;
  static constexpr int kQ = 0, kDq = 1, kK = kDq + G, kV = kK + C::kStages, kDk = kV + C::kStages,
                       kDv = kDk + C::kStages, kSlots = C::kWhole ? kDv + C::kStages : 2, kFloats = 0;
};

template <typename C>
__global__ void __launch_bounds__(kTileThreads) attention_tangent_tiles(Problem p) {
  using T = typename C::T;
  using K = TangentKernel<C>;
  constexpr int G = K::G, kStages = C::kStages;
  const Place<T> place(p, kTile, C::W, G);
  const Slots<C> slots;
  const int query = place.first_row, end = place.end_of_keys(query);
  const int row = query + threadIdx.x / kLanes * 16 + threadIdx.x % kLanes / 4;
  auto dq = [&](int i) { return place.of_queries(p.dq, i, p.channels); };
  auto dk = [&](int i) { return place.of_keys(p.dk, i, p.channels); };
  auto dv = [&](int i) { return place.of_keys(p.dv, i, p.value_channels); };
  const bool has_dq = p.dq.strided.at, has_dk = p.dk.strided.at, has_dv = p.dv.strided.at;
  // Step (block, probe) of the walk; its number counts the steps before it.
  auto bring = [&](int block, int probe, int number) {
    if (block * kTile >= end) return;
    if (probe == 0) {
      fetch<T, C::W>(slots[K::kK + block % kStages], place.k, block * kTile, 0);
      fetch<T, C::W>(slots[K::kV + block % kStages], place.v, block * kTile, 0);
    }
    if (has_dk) fetch<T, C::W>(slots[K::kDk + number % kStages], dk(probe), block * kTile, 0);
    if (has_dv) fetch<T, C::W>(slots[K::kDv + number % kStages], dv(probe), block * kTile, 0);
  };
  if constexpr (C::kWhole) {
    fetch<T, C::W>(slots[K::kQ], place.q, query, 0);
    for (int i = 0; has_dq && i < place.live; ++i) fetch<T, C::W>(slots[K::kDq + i], dq(i), query, 0);
    if (kStages == 2) bring(0, 0, 0);
  }
  const float lse2[2] = {place.lse2(row), place.lse2(row + 8)};
  float sums[G][C::W / 8][4] = {}, total[G][2] = {};
  for (int block = 0, number = 0; block * kTile < end; ++block) {
    const int key = block * kTile, ring = block % kStages;
    Scores probability;
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
        clear(probability);
        slots.multiply(probability, K::kQ, K::kK + ring, place.q, query, place.k, key);
        to_probabilities<false>(probability, place, query, key, lse2);
      }
      if (has_dq || has_dk) {
        Scores s;
        clear(s);
        if (has_dq) slots.multiply(s, K::kDq + i, K::kK + ring, dq(i), query, place.k, key);
        if (has_dk) slots.multiply(s, K::kQ, K::kDk + number % kStages, place.q, query, dk(i), key);
#pragma unroll
        for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            // The row's sum is that of the rounded weights: what rounding does to them then counts times v - o, not v.
            const float weight = probability[n][e] * static_cast<float>(p.scale) * s[n][e];
            s[n][e] = to_float(from_float<T>(weight));
            total[i][e / 2] += s[n][e];
          }
        }
        slots.weigh(sums[i], s, K::kV + ring, place.v, key, place.first_channel);
      }
      if (has_dv) slots.weigh(sums[i], probability, K::kDv + number % kStages, dv(i), key, place.first_channel);
      ++number;
    }
  }
  wait_copies();
#pragma unroll
  for (int i = 0; i < G; ++i) {
    if (i >= place.live) break;
    const float whole[2] = {row_sum(total[i][0]), row_sum(total[i][1])};
    const View<T> out = place.of_queries(p.out, i, p.value_channels);
    write_rows<T, C::W>(out, query, place.first_channel, sums[i], [&](int h, int r, int c, float sum) {
      const float value = sum - whole[h] * to_float(place.o.at[r * place.o.row + c]);
      return p.accumulate ? value + to_float(out.at[r * out.row + c]) : value;
    });
  }
}

// ---- Cotangent: dq ----

template <typename C>
struct QueryKernel {
  static constexpr const char* kName = "attention_cotangent dq";
  static constexpr int G = C::G;
  static constexpr int kQ = 0, kU = 1, kK = kU + G, kV = kK + C::kStages, kSlots = C::kWhole ? kV + C::kStages : 2,
                       kFloats = 0;
};

template <typename C>
__global__ void __launch_bounds__(kTileThreads) attention_cotangent_queries(Problem p) {
  using T = typename C::T;
  using K = QueryKernel<C>;
  constexpr int G = K::G, kStages = C::kStages;
  const Place<T> place(p, kTile, C::W, G);
  const Slots<C> slots;
  const int query = place.first_row, end = place.end_of_keys(query);
  const int row = query + threadIdx.x / kLanes * 16 + threadIdx.x % kLanes / 4;
  auto u = [&](int i) { return place.of_queries(p.u, i, p.value_channels); };
  auto bring = [&](int block) {
    if (block * kTile >= end) return;
    fetch<T, C::W>(slots[K::kK + block % kStages], place.k, block * kTile, 0);
    fetch<T, C::W>(slots[K::kV + block % kStages], place.v, block * kTile, 0);
  };
  // o is only needed for u.o, and passes through the tile that the walk fills last.
  constexpr int kO = K::kV + kStages - 1;
  if constexpr (C::kWhole) {
    fetch<T, C::W>(slots[K::kQ], place.q, query, 0);
    fetch<T, C::W>(slots[kO], place.o, query, 0);
    for (int i = 0; i < place.live; ++i) fetch<T, C::W>(slots[K::kU + i], u(i), query, 0);
    if (kStages == 2) bring(0);
    wait_copies();
    __syncthreads();
  }
  float dots[G][2];
#pragma unroll
  for (int i = 0; i < G; ++i) {
    if (i >= place.live) break;
    slots.row_products(dots[i], K::kU + i, kO, u(i), place.o, query);
  }
  const float lse2[2] = {place.lse2(row), place.lse2(row + 8)};
  float sums[G][C::W / 8][4] = {};
  for (int block = 0; block * kTile < end; ++block) {
    const int key = block * kTile, ring = block % kStages;
    if constexpr (C::kWhole) advance<C>([&](int ahead) { bring(block + ahead); });
    Scores probability;
    clear(probability);
    slots.multiply(probability, K::kQ, K::kK + ring, place.q, query, place.k, key);
    to_probabilities<false>(probability, place, query, key, lse2);
#pragma unroll
    for (int i = 0; i < G; ++i) {
      if (i >= place.live) break;
      Scores s;
      clear(s);
      slots.multiply(s, K::kU + i, K::kV + ring, u(i), query, place.v, key);
#pragma unroll
      for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e)
          s[n][e] = probability[n][e] * static_cast<float>(p.scale) * (s[n][e] - dots[i][e / 2]);
      }
      slots.weigh(sums[i], s, K::kK + ring, place.k, key, place.first_channel);
    }
  }
  wait_copies();
#pragma unroll
  for (int i = 0; i < G; ++i) {
    if (i >= place.live) break;
    write_rows<T, C::W>(place.of_queries(p.dq, i, p.channels), query, place.first_channel, sums[i],
                        [](int, int, int, float sum) { return sum; });
  }
}

// ---- Cotangent: dk and dv ----

// Here rows are keys and columns are queries.
template <typename C>
struct KeyKernel {
  static constexpr const char* kName = "attention_cotangent dk dv";
  static constexpr int G = C::G;
  static constexpr int kK = 0, kV = 1, kQ = 2, kO = kQ + C::kStages, kU = kO + C::kStages,
                       kSlots = C::kWhole ? kU + C::kStages : 2, kFloats = 2 * kTile;
};

template <typename C>
__global__ void __launch_bounds__(kTileThreads) attention_cotangent_keys(Problem p) {
  using T = typename C::T;
  using K = KeyKernel<C>;
  constexpr int G = K::G, kStages = C::kStages;
  const Place<T> place(p, kTile, C::W, G);
  const Slots<C> slots;
  float* lse2 = reinterpret_cast<float*>(slots[K::kSlots]);  // of the tile's queries
  float* dots = lse2 + kTile;                                // u_i.o_i of them
  const int key = place.first_row, first = place.begin_of_queries(key) / kTile;
  const int lane = threadIdx.x % kLanes, row = threadIdx.x / kLanes * 16 + lane / 4;
  const bool has_dk = p.dk.strided.at && place.first_channel < p.channels;
  const bool has_dv = p.dv.strided.at && place.first_channel < p.value_channels;
  auto u = [&](int i) { return place.of_queries(p.u, i, p.value_channels); };
  auto bring = [&](int block, int probe, int number) {
    if (block * kTile >= p.queries) return;
    if (probe == 0) {
      fetch<T, C::W>(slots[K::kQ + block % kStages], place.q, block * kTile, 0);
      if (has_dk) fetch<T, C::W>(slots[K::kO + block % kStages], place.o, block * kTile, 0);
    }
    fetch<T, C::W>(slots[K::kU + number % kStages], u(probe), block * kTile, 0);
  };
  if constexpr (C::kWhole) {
    fetch<T, C::W>(slots[K::kK], place.k, key, 0);
    if (has_dk) fetch<T, C::W>(slots[K::kV], place.v, key, 0);
    if (kStages == 2) bring(first, 0, 0);
  }
  float dk[G][C::W / 8][4] = {}, dv[G][C::W / 8][4] = {};
  for (int block = first, number = 0; block * kTile < p.queries; ++block) {
    const int query = block * kTile, ring = block % kStages;
    Scores probability;
#pragma unroll
    for (int i = 0; i < G; ++i) {
      if (i >= place.live) break;
      if constexpr (C::kWhole) {
        advance<C>([&](int ahead) {
          const int next = i + ahead;
          bring(next < place.live ? block : block + 1, next < place.live ? next : 0, number + ahead);
        });
      } else {
        __syncthreads();  // lse2 and dots are no longer read
      }
      if (i == 0 && threadIdx.x < kTile) lse2[threadIdx.x] = place.lse2(query + threadIdx.x);
      if (has_dk) {
        float own[2];
        slots.row_products(own, K::kU + number % kStages, K::kO + ring, u(i), place.o, query);
        if (lane % 4 == 0) {
          dots[row] = own[0];
          dots[row + 8] = own[1];
        }
      }
      __syncthreads();
      if (i == 0) {
        clear(probability);
        slots.multiply(probability, K::kK, K::kQ + ring, place.k, key, place.q, query);
        to_probabilities<true>(probability, place, query, key, lse2);
      }
      if (has_dk) {
        Scores s;
        clear(s);
        slots.multiply(s, K::kV, K::kU + number % kStages, place.v, key, u(i), query);
#pragma unroll
        for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
          for (int e = 0; e < 4; ++e)
            s[n][e] = probability[n][e] * static_cast<float>(p.scale) * (s[n][e] - dots[n * 8 + lane % 4 * 2 + e % 2]);
        }
        slots.weigh(dk[i], s, K::kQ + ring, place.q, query, place.first_channel);
      }
      if (has_dv) slots.weigh(dv[i], probability, K::kU + number % kStages, u(i), query, place.first_channel);
      ++number;
    }
  }
  wait_copies();
#pragma unroll
  for (int i = 0; i < G; ++i) {
    if (i >= place.live) break;
    auto as_it_is = [](int, int, int, float sum) { return sum; };
    if (has_dk) write_rows<T, C::W>(place.of_keys(p.dk, i, p.channels), key, place.first_channel, dk[i], as_it_is);
    if (has_dv)
      write_rows<T, C::W>(place.of_keys(p.dv, i, p.value_channels), key, place.first_channel, dv[i], as_it_is);
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
  p.scale2 = static_cast<float>(s.scale * 1.44269504088896340736);
  p.causal = s.causal;
  return p;
}

int ceil_div(int a, int b) {
  return (a + b - 1) / b;
}

// `rows` and `channels` of the result, in blocks of tiles.
template <typename C, template <typename> class Kernel>
void launch_tiles(void (*kernel)(Problem), Problem p, int rows, int channels, const Target& to) {
  using K = Kernel<C>;
  p.blocks = ceil_div(rows, kTile);
  p.chunks = C::kWhole ? 1 : ceil_div(channels, C::W);
  p.groups = ceil_div(p.probes, K::G);
  const size_t bytes =
      sizeof(typename C::T) * K::kSlots * Tile<typename C::T, C::W>::kValues + sizeof(float) * K::kFloats;
  const unsigned blocks = to.blocks(p);
  if (blocks == 0) return;
  check(allow_shared(kernel, bytes), K::kName, to.where);
  check(launch(kernel, blocks, kTileThreads, bytes, to.stream, p), K::kName, to.where);
}

template <typename C>
struct Tiles {
  static void primal(const Problem& p, const Target& to) {
    launch_tiles<C, PrimalKernel>(attention_primal_tiles<C>, p, p.queries, p.value_channels, to);
  }
  static void tangent(const Problem& p, const Target& to) {
    launch_tiles<C, TangentKernel>(attention_tangent_tiles<C>, p, p.queries, p.value_channels, to);
  }
  static void cotangent(const Problem& p, const Target& to) {
    if (p.dq.strided.at) launch_tiles<C, QueryKernel>(attention_cotangent_queries<C>, p, p.queries, p.channels, to);
    if (p.dk.strided.at || p.dv.strided.at)
      launch_tiles<C, KeyKernel>(attention_cotangent_keys<C>, p, p.keys, std::max(p.channels, p.value_channels), to);
  }
};

// The kernels that serve these channels; `act` calls one of their functions.
template <typename T, typename Act>
void with_tiles(const Problem& p, const Act& act) {
  const int widest = p.channels > p.value_channels ? p.channels : p.value_channels;
  if (widest <= 64) return act(Tiles<Config<T, 64, true>>());
  if constexpr (sizeof(T) == 2) {
    if (widest <= 128) return act(Tiles<Config<T, 128, true>>());
  }
  act(Tiles<Config<T, 64, false>>());
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
