// Small matrix products with lanes: out[c, l] (+)= sum_k a[k, l] * b(k, c), where a and out hold kLanes<T> values of l
// side by side (a block that stays in the first cache) and b is read one value at a time, with any strides.
//
// This one form serves every product of attention: what runs along the lanes (queries, keys, channels) is up to the
// caller. A tile of kColumns x kTileVectors sums stays in registers.
#pragma once

#include "cpu/vector.h"

namespace latentjac {
namespace {

template <typename T>
constexpr int64_t kLanes = 128 / static_cast<int64_t>(sizeof(T));

template <typename T>
constexpr int kTileVectors = kLanes<T> / Vector<T>::kWidth < 2 ? 1 : 2;

// AVX-512: 16 sums in 32 registers, enough to hide the latency of a multiplication. Else 8 sums in 16 registers.
constexpr int kColumns = kVectorBytes == 64 ? 8 : 4;

// What happens to finished sums: column c, lanes from l; then, once for all columns of a tile, what is left of them.
template <typename T>
struct Store {
  T* out;
  int64_t stride;  // from column to column
  template <typename V>
  inline void column(int64_t c, int64_t l, V& sum) const {
    Vector<T, sizeof(V)>::store(out + c * stride + l, sum);
  }
  template <typename V, int kWide>
  inline void tile(int64_t, V (&)[kWide]) const {}
};

template <typename T>
struct Add {
  T* out;
  int64_t stride;
  template <typename V>
  inline void column(int64_t c, int64_t l, V& sum) const {
    Vector<T>::store(out + c * stride + l, Vector<T>::load(out + c * stride + l) + sum);
  }
  template <typename V, int kWide>
  inline void tile(int64_t, V (&)[kWide]) const {}
};

// b(k, c) = at[k * inner + c * column]
template <typename T>
struct Scalars {
  const T* at;
  int64_t inner, column;
};

template <typename Lanes, int kWide, int kTall, typename T, typename Finish>
inline void product_tile(const T* a, int64_t a_stride, const Scalars<T>& b, int64_t length, int64_t c, int64_t l,
                         const Finish& finish) {
  using V = typename Lanes::type;
  V sums[kTall][kWide] = {};
  const T* lanes = a + l;
  const T* scalars = b.at + c * b.column;
  for (int64_t k = 0; k < length; ++k, lanes += a_stride, scalars += b.inner) {
    V values[kTall];
#pragma GCC unroll 4
    for (int v = 0; v < kTall; ++v) values[v] = Lanes::load(lanes + v * Lanes::kWidth);
#pragma GCC unroll 16
    for (int w = 0; w < kWide; ++w) {
      const T scalar = scalars[w * b.column];
#pragma GCC unroll 4
      for (int v = 0; v < kTall; ++v) sums[v][w] += values[v] * scalar;
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < kTall; ++v) {
#pragma GCC unroll 16
    for (int w = 0; w < kWide; ++w) finish.column(c + w, l + v * Lanes::kWidth, sums[v][w]);
    finish.tile(l + v * Lanes::kWidth, sums[v]);
  }
}

// All columns of lanes [l, l + kTall vectors).
template <typename Lanes, int kTall, typename T, typename Finish>
inline void product_columns(const T* a, int64_t a_stride, const Scalars<T>& b, int64_t length, int64_t columns,
                            int64_t l, const Finish& finish) {
  int64_t c = 0;
  for (; c + kColumns <= columns; c += kColumns) {
    product_tile<Lanes, kColumns, kTall>(a, a_stride, b, length, c, l, finish);
  }
  if constexpr (kColumns > 4) {
    if (c + 4 <= columns) {
      product_tile<Lanes, 4, kTall>(a, a_stride, b, length, c, l, finish);
      c += 4;
    }
  }
  for (; c < columns; ++c) product_tile<Lanes, 1, kTall>(a, a_stride, b, length, c, l, finish);
}

// out = a b for all kLanes<T> lanes; a is [length, kLanes<T>].
template <typename T, typename Finish>
inline void product(const T* a, const Scalars<T>& b, int64_t length, int64_t columns, const Finish& finish) {
  constexpr int kTall = kTileVectors<T>;
  for (int64_t l = 0; l < kLanes<T>; l += kTall * Vector<T>::kWidth) {
    product_columns<Vector<T>, kTall>(a, kLanes<T>, b, length, columns, l, finish);
  }
}

}  // namespace
}  // namespace latentjac
