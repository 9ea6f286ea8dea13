// Softmax attention: primal, tangents and cotangents of many probes.
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
#include "cpu/activation.h"
#include "cpu/product.h"
#include "kernels.h"

namespace latentjac {
namespace cpu {
namespace LATENTJAC_ISA {
namespace {

constexpr int64_t kRows = 64;                // rows of P in work: two such blocks fit the first cache
constexpr int64_t kGroupBytes = 512 * 1024;  // of sums and transposed tangents of the probes in work: the second

inline int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}
inline int64_t larger(int64_t a, int64_t b) {
  return a > b ? a : b;
}
inline int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// Memory of one thread, cut into aligned pieces; what it does not own is taken from it in turn.
template <typename T>
class Scratch {
 public:
  explicit Scratch(int64_t count)
      : memory_(static_cast<T*>(__builtin_malloc(static_cast<size_t>(count + kLanes<T>) * sizeof(T)))),
        next_(memory_ + (-(reinterpret_cast<uintptr_t>(memory_) / sizeof(T))) % kLanes<T>) {}
  ~Scratch() { __builtin_free(memory_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* take(int64_t count) {
    T* taken = next_;
    next_ += ceil_div(count, kLanes<T>) * kLanes<T>;
    return taken;
  }

 private:
  T *memory_, *next_;
};

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

// rows[lane][c] (+)= factor * sums[c, lane]
template <typename T>
inline void transpose_back(const T* sums, int64_t lanes, int64_t channels, T factor, const Rows<T>& rows, int64_t first,
                           bool add) {
  for (int64_t l = 0; l < lanes; ++l) {
    T* row = rows.row(first + l);
    for (int64_t c = 0; c < channels; ++c) {
      const T value = factor * sums[c * kLanes<T> + l];
      row[c] = add ? row[c] + value : value;
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

// ---- Primal ----

template <typename T>
struct Primal {
  const AttentionPrimal& call;

  static int64_t scratch(const AttentionShape& shape) {
    return kLanes<T> * (shape.channels + shape.value_channels + kRows + 8);
  }

  void run(int64_t batch, int64_t number, int64_t query, Scratch<T>& scratch) const {
    const AttentionShape& shape = call.shape;
    const Head<T> head = Head<T>::of(call, batch, number);
    const int64_t lanes = smaller(kLanes<T>, shape.queries - query);
    T* q = scratch.take(shape.channels * kLanes<T>);
    T* p = scratch.take(kRows * kLanes<T>);
    T* sums = scratch.take(shape.value_channels * kLanes<T>);
    T* most = scratch.take(kLanes<T>);
    T* total = scratch.take(kLanes<T>);
    transpose<T>(head.q, query, lanes, shape.channels, head.scale(), q);
    largest_scores(head, q, query, lanes, p, most, total);
    T* lse = static_cast<T*>(call.lse) + (batch * shape.heads + number) * shape.queries + query;
    T* log_sums = most;
    for (int64_t l = 0; l < kLanes<T>; ++l) {
      const bool none = most[l] == -__builtin_inff() && total[l] == T(0);
      const T value = most[l] + static_cast<T>(__builtin_log(static_cast<double>(total[l])));
      if (l < lanes) lse[l] = none ? -__builtin_inff() : value;
      log_sums[l] = none || l >= lanes ? __builtin_inff() : value;
    }
    clear(sums, shape.value_channels * kLanes<T>);
    for (int64_t first = 0; first < shape.keys; first += kRows) {
      if (head.skips(query + lanes - 1, first)) break;
      const int64_t count = smaller(kRows, shape.keys - first);
      probabilities_of_queries(head, q, log_sums, query, lanes, first, count, p);
      product<T>(p, {head.v.row(first), head.v.stride, 1}, count, shape.value_channels, Add<T>{sums, kLanes<T>});
    }
    transpose_back(sums, lanes, shape.value_channels, T(1), rows_of<T>(call.o, 0, batch, number), query, false);
  }

 private:
  // The largest score of each lane, and the sum of exp(score - largest); a NaN makes the sum NaN.
  void largest_scores(const Head<T>& head, const T* q, int64_t query, int64_t lanes, T* p, T* most, T* total) const {
    constexpr T kNone = -__builtin_inff();
    for (int64_t l = 0; l < kLanes<T>; ++l) {
      most[l] = kNone;
      total[l] = T(0);
    }
    for (int64_t first = 0; first < call.shape.keys; first += kRows) {
      if (head.skips(query + lanes - 1, first)) break;
      const int64_t count = smaller(kRows, call.shape.keys - first);
      scores_of_queries(head, q, query, lanes, first, count, p);
      T before[kLanes<T>];
      __builtin_memcpy(before, most, sizeof before);
      for (int64_t j = 0; j < count; ++j) {
        const T* row = p + j * kLanes<T>;
        for (int64_t l = 0; l < kLanes<T>; ++l) most[l] = most[l] < row[l] ? row[l] : most[l];
      }
      for (int64_t l = 0; l < kLanes<T>; ++l) {
        total[l] *= before[l] == kNone ? T(1) : probability(before[l] - most[l]);
      }
      for (int64_t j = 0; j < count; ++j) {
        const T* row = p + j * kLanes<T>;
        for (int64_t l = 0; l < kLanes<T>; ++l) total[l] += row[l] == kNone ? T(0) : probability(row[l] - most[l]);
      }
    }
  }
};

// ---- Tangent, and the cotangent of the queries: lanes are queries ----

template <typename T>
struct Tangent {
  const AttentionTangent& call;

  bool scored() const { return call.dq.at || call.dk.at; }

  // One tangent for all queries: its product with a key is one number for a whole row of R.
  bool uniform() const { return call.dq.at && !call.dk.at && call.dq.row == 0; }

  int64_t group() const {
    const int64_t each = (call.shape.value_channels + 1 + (call.dq.at ? call.shape.channels : 0)) * kLanes<T>;
    return larger(1, smaller(call.probes, kGroupBytes / (each * static_cast<int64_t>(sizeof(T)))));
  }

  int64_t scratch() const {
    const AttentionShape& shape = call.shape;
    return kLanes<T> * (shape.channels + 3 * kRows + 16 + group() * (shape.value_channels + 1 + shape.channels)) +
           2 * kRows * (shape.channels + shape.value_channels);
  }

  void run(int64_t batch, int64_t number, int64_t query, int64_t probe, int64_t probes, Scratch<T>& scratch) const {
    const AttentionShape& shape = call.shape;
    const int64_t d = shape.channels, e = shape.value_channels, lanes = smaller(kLanes<T>, shape.queries - query);
    const Head<T> head = Head<T>::of(call, batch, number);
    T* q = scratch.take(d * kLanes<T>);
    T* log_sums = scratch.take(kLanes<T>);
    T* p = scratch.take(kRows * kLanes<T>);
    T* r = scratch.take(kRows * kLanes<T>);
    T* scores = scratch.take(kRows * kLanes<T>);
    T* sums = scratch.take(probes * (e + 1) * kLanes<T>);  // of a probe: e channels, then the sum of R
    T* dq = scratch.take(call.dq.at ? probes * d * kLanes<T> : 0);
    T *k = scratch.take(kRows * d), *v = scratch.take(kRows * e);
    T *dk = scratch.take(kRows * d), *dv = scratch.take(kRows * e);
    transpose<T>(head.q, query, lanes, d, head.scale(), q);
    for (int64_t l = 0; l < kLanes<T>; ++l) log_sums[l] = l < lanes ? head.log_sum(query + l) : __builtin_inff();
    clear(sums, probes * (e + 1) * kLanes<T>);
    for (int64_t n = 0; n < probes && call.dq.at; ++n) {
      transpose<T>(rows_of<const T>(call.dq, probe + n, batch, number), query, lanes, d, head.scale(),
                   dq + n * d * kLanes<T>);
    }
    for (int64_t first = 0; first < shape.keys; first += kRows) {
      if (head.skips(query + lanes - 1, first)) break;
      const int64_t count = smaller(kRows, shape.keys - first);
      probabilities_of_queries(head, q, log_sums, query, lanes, first, count, p);
      const Scalars<T> keys = gather(head.k, first, count, d, k), values = gather(head.v, first, count, e, v);
      for (int64_t n = 0; n < probes; ++n) {
        T* sum = sums + n * (e + 1) * kLanes<T>;
        T* row_sums = sum + e * kLanes<T>;
        if (call.dk.at) {
          const Scalars<T> rows = gather(rows_of<const T>(call.dk, probe + n, batch, number), first, count, d, dk);
          if (call.dq.at) product<T>(dq + n * d * kLanes<T>, flipped(keys), d, count, Store<T>{scores, kLanes<T>});
          product<T>(q, flipped(rows), d, count,
                     Weigh<T, false, false, true>{r, p, call.dq.at ? scores : nullptr, nullptr, row_sums});
        } else if (uniform()) {
          const T* row = rows_of<const T>(call.dq, probe + n, batch, number).row(query);
          for (int64_t j = 0; j < count; ++j) weigh_row(p, head.scale() * dot(row, k + j * d, d), j, r, row_sums);
        } else if (call.dq.at) {
          product<T>(dq + n * d * kLanes<T>, flipped(keys), d, count,
                     Weigh<T, false, false, true>{r, p, nullptr, nullptr, row_sums});
        }
        if (scored()) product<T>(r, values, count, e, Add<T>{sum, kLanes<T>});
        if (call.dv.at) {
          const Scalars<T> rows = gather(rows_of<const T>(call.dv, probe + n, batch, number), first, count, e, dv);
          product<T>(p, rows, count, e, Add<T>{sum, kLanes<T>});
        }
      }
    }
    for (int64_t n = 0; n < probes; ++n) {
      finish(head, sums + n * (e + 1) * kLanes<T>, query, lanes, rows_of<T>(call.out, probe + n, batch, number));
    }
  }

 private:
  inline void weigh_row(const T* p, T score, int64_t j, T* r, T* row_sums) const {
    for (int64_t l = 0; l < kLanes<T>; ++l) {
      r[j * kLanes<T> + l] = score * p[j * kLanes<T> + l];
      row_sums[l] += r[j * kLanes<T> + l];
    }
  }

  void finish(const Head<T>& head, const T* sums, int64_t query, int64_t lanes, const Rows<T>& out) const {
    const int64_t e = call.shape.value_channels;
    for (int64_t l = 0; l < lanes; ++l) {
      const T row_sum = sums[e * kLanes<T> + l];
      const T* o = head.o.row(query + l);
      T* row = out.row(query + l);
      for (int64_t c = 0; c < e; ++c) {
        const T value = sums[c * kLanes<T> + l] - (scored() ? row_sum * o[c] : T(0));
        row[c] = call.accumulate ? row[c] + value : value;
      }
    }
  }
};

// ---- Cotangents ----

template <typename T>
struct Cotangent {
  const AttentionCotangent& call;
  const T* weights;  // u_i . o_i of every probe, head and query

  bool scored() const { return call.dq.at || call.dk.at; }

  const T* weights_of(int64_t probe, int64_t batch, int64_t number) const {
    return weights + ((probe * call.shape.batch + batch) * call.shape.heads + number) * call.shape.queries;
  }

  void weigh_queries(int64_t probe, int64_t batch, int64_t number, T* out) const {
    const Head<T> head = Head<T>::of(call, batch, number);
    const Rows<const T> u = rows_of<const T>(call.u, probe, batch, number);
    for (int64_t i = 0; i < call.shape.queries; ++i) out[i] = dot(u.row(i), head.o.row(i), call.shape.value_channels);
  }

  int64_t group() const {
    const int64_t each = (call.shape.channels + call.shape.value_channels) * kLanes<T>;
    return larger(1, smaller(call.probes, kGroupBytes / (each * static_cast<int64_t>(sizeof(T)))));
  }

  int64_t scratch() const {
    const AttentionShape& shape = call.shape;
    const int64_t channels = shape.channels + shape.value_channels;
    return kLanes<T> * (channels + 2 * kRows + 16 + group() * channels) + kRows * channels;
  }

  // dk and dv of a block of keys.
  void keys(int64_t batch, int64_t number, int64_t key, int64_t probe, int64_t probes, Scratch<T>& scratch) const {
    const AttentionShape& shape = call.shape;
    const int64_t d = shape.channels, e = shape.value_channels, lanes = smaller(kLanes<T>, shape.keys - key);
    const Head<T> head = Head<T>::of(call, batch, number);
    T* k = scratch.take(d * kLanes<T>);
    T* v = scratch.take(e * kLanes<T>);
    T* p = scratch.take(kRows * kLanes<T>);
    T* r = scratch.take(kRows * kLanes<T>);
    T* sums = scratch.take(probes * (d + e) * kLanes<T>);  // of a probe: dk, then dv
    T *q = scratch.take(kRows * d), *u = scratch.take(kRows * e);
    transpose<T>(head.k, key, lanes, d, head.scale(), k);
    transpose<T>(head.v, key, lanes, e, T(1), v);
    clear(sums, probes * (d + e) * kLanes<T>);
    for (int64_t first = 0; first < shape.queries; first += kRows) {
      const int64_t count = smaller(kRows, shape.queries - first);
      if (head.skips(first + count - 1, key)) continue;
      probabilities_of_keys(head, k, key, lanes, first, count, p);
      const Scalars<T> queries = gather(head.q, first, count, d, q);
      for (int64_t n = 0; n < probes; ++n) {
        T* sum = sums + n * (d + e) * kLanes<T>;
        const Scalars<T> rows = gather(rows_of<const T>(call.u, probe + n, batch, number), first, count, e, u);
        if (call.dk.at) {
          const T* shift = weights_of(probe + n, batch, number) + first;
          product<T>(v, flipped(rows), e, count, Weigh<T, true, false, false>{r, p, nullptr, shift, nullptr});
          product<T>(r, queries, count, d, Add<T>{sum, kLanes<T>});
        }
        if (call.dv.at) product<T>(p, rows, count, e, Add<T>{sum + d * kLanes<T>, kLanes<T>});
      }
    }
    for (int64_t n = 0; n < probes; ++n) {
      const T* sum = sums + n * (d + e) * kLanes<T>;
      if (call.dk.at) {
        transpose_back(sum, lanes, d, head.scale(), rows_of<T>(call.dk, probe + n, batch, number), key, false);
      }
      if (call.dv.at) {
        transpose_back(sum + d * kLanes<T>, lanes, e, T(1), rows_of<T>(call.dv, probe + n, batch, number), key, false);
      }
    }
  }

  // dq of a block of queries.
  void queries(int64_t batch, int64_t number, int64_t query, int64_t probe, int64_t probes, Scratch<T>& scratch) const {
    const AttentionShape& shape = call.shape;
    const int64_t d = shape.channels, e = shape.value_channels, lanes = smaller(kLanes<T>, shape.queries - query);
    const Head<T> head = Head<T>::of(call, batch, number);
    T* q = scratch.take(d * kLanes<T>);
    T* log_sums = scratch.take(kLanes<T>);
    T* shift = scratch.take(kLanes<T>);
    T* p = scratch.take(kRows * kLanes<T>);
    T* r = scratch.take(kRows * kLanes<T>);
    T* u = scratch.take(probes * e * kLanes<T>);
    T* sums = scratch.take(probes * d * kLanes<T>);
    T *k = scratch.take(kRows * d), *v = scratch.take(kRows * e);
    transpose<T>(head.q, query, lanes, d, head.scale(), q);
    for (int64_t l = 0; l < kLanes<T>; ++l) log_sums[l] = l < lanes ? head.log_sum(query + l) : __builtin_inff();
    for (int64_t n = 0; n < probes; ++n) {
      transpose<T>(rows_of<const T>(call.u, probe + n, batch, number), query, lanes, e, T(1), u + n * e * kLanes<T>);
    }
    clear(sums, probes * d * kLanes<T>);
    for (int64_t first = 0; first < shape.keys; first += kRows) {
      if (head.skips(query + lanes - 1, first)) break;
      const int64_t count = smaller(kRows, shape.keys - first);
      probabilities_of_queries(head, q, log_sums, query, lanes, first, count, p);
      const Scalars<T> keys = gather(head.k, first, count, d, k), values = gather(head.v, first, count, e, v);
      for (int64_t n = 0; n < probes; ++n) {
        const T* weight = weights_of(probe + n, batch, number) + query;
        for (int64_t l = 0; l < kLanes<T>; ++l) shift[l] = l < lanes ? weight[l] : T(0);
        product<T>(u + n * e * kLanes<T>, flipped(values), e, count,
                   Weigh<T, false, true, false>{r, p, nullptr, shift, nullptr});
        product<T>(r, keys, count, d, Add<T>{sums + n * d * kLanes<T>, kLanes<T>});
      }
    }
    for (int64_t n = 0; n < probes; ++n) {
      transpose_back(sums + n * d * kLanes<T>, lanes, d, head.scale(), rows_of<T>(call.dq, probe + n, batch, number),
                     query, false);
    }
  }
};

// ---- Tasks ----

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
    const int64_t others = shape.batch * shape.heads * ceil_div(length, kLanes<T>);
    const int64_t wanted = smaller(probes, ceil_div(4 * threads, others));
    return {shape.batch, shape.heads, length, probes, smaller(group, ceil_div(probes, wanted))};
  }
};

template <typename T>
void primal(const AttentionPrimal& call, int threads) {
  const Primal<T> kernel{call};
  const Tasks<T> tasks = Tasks<T>::of(call.shape, call.shape.queries, 1, 1, threads);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (int64_t number = 0; number < tasks.count(); ++number) {
    Scratch<T> scratch(Primal<T>::scratch(call.shape));
    tasks.run(number, [&](int64_t batch, int64_t head, int64_t query, int64_t, int64_t) {
      kernel.run(batch, head, query, scratch);
    });
  }
}

template <typename T>
void tangent(const AttentionTangent& call, int threads) {
  const Tangent<T> kernel{call};
  const Tasks<T> tasks = Tasks<T>::of(call.shape, call.shape.queries, call.probes, kernel.group(), threads);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (int64_t number = 0; number < tasks.count(); ++number) {
    Scratch<T> scratch(kernel.scratch());
    tasks.run(number, [&](int64_t batch, int64_t head, int64_t query, int64_t probe, int64_t probes) {
      kernel.run(batch, head, query, probe, probes, scratch);
    });
  }
}

template <typename T>
void cotangent(const AttentionCotangent& call, int threads) {
  const AttentionShape& shape = call.shape;
  const int64_t heads = shape.batch * shape.heads;
  T* weights =
      static_cast<T*>(__builtin_malloc(static_cast<size_t>(call.probes * heads * shape.queries + 1) * sizeof(T)));
  const Cotangent<T> kernel{call, weights};
  if (kernel.scored()) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t n = 0; n < call.probes * heads; ++n) {
      kernel.weigh_queries(n / heads, n % heads / shape.heads, n % shape.heads, weights + n * shape.queries);
    }
  }
  if (call.dk.at || call.dv.at) {
    const Tasks<T> tasks = Tasks<T>::of(shape, shape.keys, call.probes, kernel.group(), threads);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int64_t number = 0; number < tasks.count(); ++number) {
      Scratch<T> scratch(kernel.scratch());
      tasks.run(number, [&](int64_t batch, int64_t head, int64_t key, int64_t probe, int64_t probes) {
        kernel.keys(batch, head, key, probe, probes, scratch);
      });
    }
  }
  if (call.dq.at) {
    const Tasks<T> tasks = Tasks<T>::of(shape, shape.queries, call.probes, kernel.group(), threads);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int64_t number = 0; number < tasks.count(); ++number) {
      Scratch<T> scratch(kernel.scratch());
      tasks.run(number, [&](int64_t batch, int64_t head, int64_t query, int64_t probe, int64_t probes) {
        kernel.queries(batch, head, query, probe, probes, scratch);
      });
    }
  }
  __builtin_free(weights);
}

}  // namespace

void attention_primal(const AttentionPrimal& call, int threads) {
  call.shape.dtype == DType::kFloat64 ? primal<double>(call, threads) : primal<float>(call, threads);
}

void attention_tangent(const AttentionTangent& call, int threads) {
  call.shape.dtype == DType::kFloat64 ? tangent<double>(call, threads) : tangent<float>(call, threads);
}

void attention_cotangent(const AttentionCotangent& call, int threads) {
  call.shape.dtype == DType::kFloat64 ? cotangent<double>(call, threads) : cotangent<float>(call, threads);
}

}  // namespace LATENTJAC_ISA
}  // namespace cpu
}  // namespace latentjac
