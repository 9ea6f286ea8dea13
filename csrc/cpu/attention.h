// What the kernels of softmax attention have in common: heads, blocks of P, and tasks.
//
// A task owns a block of kLanes queries (or keys) of one head, and all probes. It walks over the other side in blocks
// of kRows: P of the block is formed once, in the first cache, and serves every probe. With R = P o (scores of a
// probe), all work is products out[c, lane] += sum_row X[row, lane] y(row, c), see product.h:
//
//   lanes are queries: tangent           R from Q, dQ, K, dK;    out = R V + P dV - rowsum(R) o O
//                      cotangent of q    R from U, V;            dq  = scale R K
//   lanes are keys:    cotangent of k, v R from V, U;            dk  = scale R^T Q,  dv = P^T U
//
// Each result has one owner, which adds in one order: same bits for any number of threads. Cost per pair of query and
// key: the products of one probe, and 1/probes of a product and an exponential for P.
#pragma once

#include "cpu/arithmetic.h"
#include "cpu/elementary.h"
#include "cpu/product.h"
#include "cpu/workspace.h"
#include "kernels.h"
#include "types.h"

namespace latentjac {
namespace cpu {
namespace LATENTJAC_ISA {
namespace {

constexpr int64_t kRows = 64;  // rows of P in work: two such blocks fit the first cache
// Of sums and transposed tangents of the probes in work: the second.
constexpr int64_t kGroupBytes = 512 * 1024 / kLargeDivisor;

// Rows of one head of one array.
template <typename T>
struct Rows {
  T* at;
  int64_t stride;
  inline T* row(int64_t i) const { return at + i * stride; }
};

template <typename T>
inline Rows<T> rows_of(const Strided& array, int64_t probe, int64_t batch, int64_t head) {
  T* at = static_cast<T*>(const_cast<void*>(array.at));
  return {at + probe * array.probe + batch * array.batch + head * array.head, array.row};
}

template <typename T>
inline void clear(T* values, int64_t count) {
  __builtin_memset(values, 0, static_cast<size_t>(count) * sizeof(T));
}

// Rows in one piece: apart, at a stride of a few KB, they would fall into few sets of the first cache.
template <typename T>
inline Scalars<T> gather(const Rows<const T>& rows, int64_t first, int64_t count, int64_t channels, T* out) {
  using Lanes = Vector<T, 32>;
  for (int64_t i = 0; i < count; ++i) {
    const T* row = rows.row(first + i);
    T* to = out + i * channels;
    int64_t c = 0;
    for (; c + Lanes::kWidth <= channels; c += Lanes::kWidth) Lanes::store(to + c, Lanes::load(row + c));
    for (; c < channels; ++c) to[c] = row[c];
  }
  return {out, channels, 1};
}

// The same rows as columns of a product.
template <typename T>
inline Scalars<T> flipped(const Scalars<T>& rows) {
  return {rows.at, rows.column, rows.inner};
}

// out[c, lane] = factor * rows[lane][c], zeros beyond `lanes`.
template <typename T>
inline void transpose(const Rows<const T>& rows, int64_t first, int64_t lanes, int64_t channels, T factor, T* out) {
  if (lanes < kLanes<T>) clear(out, channels * kLanes<T>);
  for (int64_t l = 0; l < lanes; ++l) {
    const T* row = rows.row(first + l);
    for (int64_t c = 0; c < channels; ++c) out[c * kLanes<T> + l] = factor * row[c];
  }
}

// rows[lane][c] = factor * sums[c, lane]
template <typename T>
inline void transpose_back(const T* sums, int64_t lanes, int64_t channels, T factor, const Rows<T>& rows,
                           int64_t first) {
  for (int64_t l = 0; l < lanes; ++l) {
    T* row = rows.row(first + l);
    for (int64_t c = 0; c < channels; ++c) {
      row[c] = factor * sums[c * kLanes<T> + l];
    }
  }
}

template <typename T>
inline T dot(const T* a, const T* b, int64_t count) {
  typename Vector<T>::type sums = {};
  int64_t c = 0;
  for (; c + Vector<T>::kWidth <= count; c += Vector<T>::kWidth)
    sums += Vector<T>::load(a + c) * Vector<T>::load(b + c);
  T sum = 0;
  for (int k = 0; k < Vector<T>::kWidth; ++k) sum += sums[k];
  for (; c < count; ++c) sum += a[c] * b[c];
  return sum;
}

// One head of the primal, and P of any block of it.
template <typename T>
struct Head {
  const AttentionShape& shape;
  Rows<const T> q, k, v, o;
  const T* lse;
  const T* bias;
  int64_t bias_row, bias_column;

  template <typename Call>
  static Head of(const Call& call, int64_t batch, int64_t head) {
    const AttentionShape& shape = call.shape;
    const T* lse = static_cast<const T*>(call.lse) + (batch * shape.heads + head) * shape.queries;
    const T* bias = static_cast<const T*>(call.bias.at);
    if (bias) bias += batch * call.bias.batch + head * call.bias.head;
    return {shape,
            rows_of<const T>(call.q, 0, batch, head),
            rows_of<const T>(call.k, 0, batch, head),
            rows_of<const T>(call.v, 0, batch, head),
            rows_of<const T>(call.o, 0, batch, head),
            lse,
            bias,
            call.bias.row,
            call.bias.column};
  }

  T scale() const { return static_cast<T>(shape.scale); }

  inline bool forbidden(int64_t query, int64_t key) const { return shape.causal && key > query; }

  inline T bias_at(int64_t query, int64_t key) const {
    if (forbidden(query, key)) return -__builtin_inff();
    return bias ? bias[query * bias_row + key * bias_column] : T(0);
  }

  // A row that sees no key has no probabilities: all of them are exp(-inf).
  inline T log_sum(int64_t query) const { return lse[query] == -__builtin_inff() ? __builtin_inff() : lse[query]; }

  // Whether a block of queries x keys has no pair that is allowed.
  inline bool skips(int64_t last_query, int64_t first_key) const { return shape.causal && first_key > last_query; }

  bool plain() const { return !bias && !shape.causal; }
};

// lse of a block of queries; lanes beyond it see no key.
template <typename T>
inline void log_sums_of(const Head<T>& head, int64_t query, int64_t lanes, T* out) {
  for (int64_t l = 0; l < kLanes<T>; ++l) out[l] = l < lanes ? head.log_sum(query + l) : __builtin_inff();
}

template <typename T>
inline T probability(T log_value) {
  // Below this it vanishes in any sum; -inf has to be 0, and NaN is to stay NaN.
  constexpr T kLeast = sizeof(T) == 4 ? T(-80) : T(-700);
  return log_value < kLeast ? T(0) : exponential(log_value);
}

// Scores [key, lane] of keys [first, first + count) and a block of queries; `q` is scaled and transposed.
template <typename T>
inline void scores_of_queries(const Head<T>& head, const T* q, int64_t query, int64_t lanes, int64_t first,
                              int64_t count, T* scores) {
  product<T>(q, {head.k.row(first), 1, head.k.stride}, head.shape.channels, count, Store<T>{scores, kLanes<T>});
  for (int64_t j = 0; j < count && !head.plain(); ++j) {
    for (int64_t l = 0; l < lanes; ++l) scores[j * kLanes<T> + l] += head.bias_at(query + l, first + j);
  }
}

// P of the same.
template <typename T>
inline void probabilities_of_queries(const Head<T>& head, const T* q, const T* log_sums, int64_t query, int64_t lanes,
                                     int64_t first, int64_t count, T* p) {
  scores_of_queries(head, q, query, lanes, first, count, p);
  for (int64_t j = 0; j < count; ++j) {
    T* row = p + j * kLanes<T>;
    for (int64_t l = 0; l < kLanes<T>; ++l) row[l] = probability(row[l] - log_sums[l]);
  }
}

// P[query, lane] of queries [first, first + count) and a block of keys; `k` is scaled and transposed.
template <typename T>
inline void probabilities_of_keys(const Head<T>& head, const T* k, int64_t key, int64_t lanes, int64_t first,
                                  int64_t count, T* p) {
  product<T>(k, {head.q.row(first), 1, head.q.stride}, head.shape.channels, count, Store<T>{p, kLanes<T>});
  for (int64_t i = 0; i < count; ++i) {
    T* row = p + i * kLanes<T>;
    const T log_sum = head.log_sum(first + i);
    if (!head.plain()) {
      for (int64_t l = 0; l < lanes; ++l) row[l] += head.bias_at(first + i, key + l);
    }
    for (int64_t l = 0; l < kLanes<T>; ++l) row[l] = l < lanes ? probability(row[l] - log_sum) : T(0);
  }
}

// R = (scores - shift) o P, with the shift one for each row or one for each lane; also sums of R over rows.
template <typename T, bool kShiftRows, bool kShiftLanes, bool kSums>
struct Weigh {
  T* r;
  const T *p, *earlier;  // earlier: scores to add to these, or null
  const T* shift;
  T* sums;
  using V = typename Vector<T>::type;
  inline void column(int64_t c, int64_t l, V& score) const {
    const int64_t at = c * kLanes<T> + l;
    if (earlier) score += Vector<T>::load(earlier + at);
    if constexpr (kShiftRows) score -= shift[c];
    if constexpr (kShiftLanes) score -= Vector<T>::load(shift + l);
    score *= Vector<T>::load(p + at);
    Vector<T>::store(r + at, score);
  }
  template <int kWide>
  inline void tile(int64_t l, V (&scores)[kWide]) const {
    if constexpr (kSums) {
      V sum = Vector<T>::load(sums + l);
#pragma GCC unroll 16
      for (int w = 0; w < kWide; ++w) sum += scores[w];
      Vector<T>::store(sums + l, sum);
    }
  }
};

// Heads, blocks of lanes and groups of probes, one task each.
template <typename T>
struct Tasks {
  int64_t batch, heads, length, probes, group;

  int64_t blocks() const { return ceil_div(length, kLanes<T>); }
  int64_t groups() const { return ceil_div(probes, group); }
  int64_t count() const { return batch * heads * blocks() * groups(); }

  // Calls work(batch, head, first lane, first probe, probes) for a number below count().
  template <typename Work>
  inline void run(int64_t number, const Work& work) const {
    const int64_t g = number % groups(), block = number / groups() % blocks();
    const int64_t head = number / (groups() * blocks());
    work(head / heads, head % heads, block * kLanes<T>, g * group, smaller(group, probes - g * group));
  }

  // Smaller groups, where there would be too few tasks for the threads.
  static Tasks of(const AttentionShape& shape, int64_t length, int64_t probes, int64_t group, int threads) {
    const int64_t others = larger(1, shape.batch * shape.heads * ceil_div(length, kLanes<T>));
    const int64_t wanted = larger(1, smaller(probes, ceil_div(4 * threads, others)));
    return {shape.batch, shape.heads, length, probes, larger(1, smaller(group, ceil_div(probes, wanted)))};
  }
};

// All tasks, by any thread, each with the memory of its thread.
template <typename T, typename Work>
inline void run_tasks(const Tasks<T>& tasks, const Workspace& workspace, int threads, const Work& work) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (int64_t number = 0; number < tasks.count(); ++number) {
    tasks.run(number, [&](int64_t batch, int64_t head, int64_t lane, int64_t probe, int64_t probes) {
      work(batch, head, lane, probe, probes, workspace.scratch());
    });
  }
}

}  // namespace
}  // namespace LATENTJAC_ISA
}  // namespace cpu
}  // namespace latentjac
