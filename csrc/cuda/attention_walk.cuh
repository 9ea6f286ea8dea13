// How the attention kernels walk: see kernels.h for the formulas.
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
// Tensor cores throughout: bfloat16 and float16 with float32 sums, float32 as the sum of two tf32 values or, where the
// caller allows it, as one (mma.cuh). float64 is in attention_plain.cuh. Weights of the sums (probabilities times
// slopes) are rounded to a factor: those of float16 are precise from 2e-7 to 255 (kWeight).
#pragma once

#include "cuda/attention_problem.cuh"
#include "cuda/launch.cuh"

namespace latentjac {
namespace cuda {
namespace {

// Sizes of one kernel: M times 16 rows a warp; G probes share the probabilities.
template <typename Kind, int kWidth, bool kIsWhole, int kM, int kG>
struct Config {
  using T = StoredAs<Kind>;
  using Factor = FactorOf<Kind>;
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
  using Factor = typename C::Factor;
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
      multiply_rows<C::M, C::W, Factor>(s, owned(left), walked(right), left_rows.channels);
    } else {
      for (int c = 0; c < left_rows.channels; c += C::W) {
        fetch_two(left_rows, left_first, right_rows, right_first, c);
        multiply_rows<C::M, C::W, Factor>(s, owned(0), walked(0), left_rows.channels - c);
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
    weigh_rows<C::M, C::W, Factor>(sums, weights, walked(right), rows.channels - first_channel);
  }

  // u_i.o_i, with the u_i of u_i.v_j, of rows whose numbers in their tiles are given (less than `rows`): row(r), into
  // sums[r], in the lanes of a row. Whole: the tiles are given.
  template <int kCount, typename RowOf>
  __device__ static void row_products(float (&sums)[kCount], const RowOf& row, int rows, const T* u_tile,
                                      const View<T>& u, const T* o_tile, const View<T>& o, int first) {
#pragma unroll
    for (int r = 0; r < kCount; ++r) sums[r] = 0;
    for (int c = 0; c < u.channels; c += C::W) {
      if constexpr (!C::kWhole) fetch_two(u, first, o, first, c);
#pragma unroll
      for (int r = 0; r < kCount; ++r) {
        if (row(r) < rows) sums[r] += row_product<C::W, Factor>(u_tile, o_tile, row(r), min(C::W, u.channels - c));
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

}  // namespace
}  // namespace cuda
}  // namespace latentjac
