// Cotangents of softmax attention, of many probes: lanes are keys for dk and dv, queries for dq.
#include "cpu/attention.h"

namespace latentjac {
namespace cpu {
namespace LATENTJAC_ISA {
namespace {

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

  int64_t scratch_bytes() const {
    const int64_t channels = call.shape.channels + call.shape.value_channels;
    const int64_t lanes = channels + 2 + 2 * kRows + group() * channels;
    return (kLanes<T> * lanes + kRows * channels) * static_cast<int64_t>(sizeof(T));
  }

  // dk and dv of a block of keys.
  void keys(int64_t batch, int64_t number, int64_t key, int64_t probe, int64_t probes, Scratch scratch) const {
    const AttentionShape& shape = call.shape;
    const int64_t d = shape.channels, e = shape.value_channels, lanes = smaller(kLanes<T>, shape.keys - key);
    const Head<T> head = Head<T>::of(call, batch, number);
    T* k = scratch.take<T>(d * kLanes<T>);
    T* v = scratch.take<T>(e * kLanes<T>);
    T* p = scratch.take<T>(kRows * kLanes<T>);
    T* r = scratch.take<T>(kRows * kLanes<T>);
    T* sums = scratch.take<T>(probes * (d + e) * kLanes<T>);  // of a probe: dk, then dv
    T *q = scratch.take<T>(kRows * d), *u = scratch.take<T>(kRows * e);
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
        transpose_back(sum, lanes, d, head.scale(), rows_of<T>(call.dk, probe + n, batch, number), key);
      }
      if (call.dv.at) {
        transpose_back(sum + d * kLanes<T>, lanes, e, T(1), rows_of<T>(call.dv, probe + n, batch, number), key);
      }
    }
  }

  // dq of a block of queries.
  void queries(int64_t batch, int64_t number, int64_t query, int64_t probe, int64_t probes, Scratch scratch) const {
    const AttentionShape& shape = call.shape;
    const int64_t d = shape.channels, e = shape.value_channels, lanes = smaller(kLanes<T>, shape.queries - query);
    const Head<T> head = Head<T>::of(call, batch, number);
    T* q = scratch.take<T>(d * kLanes<T>);
    T* log_sums = scratch.take<T>(kLanes<T>);
    T* shift = scratch.take<T>(kLanes<T>);
    T* p = scratch.take<T>(kRows * kLanes<T>);
    T* r = scratch.take<T>(kRows * kLanes<T>);
    T* u = scratch.take<T>(probes * e * kLanes<T>);
    T* sums = scratch.take<T>(probes * d * kLanes<T>);
    T *k = scratch.take<T>(kRows * d), *v = scratch.take<T>(kRows * e);
    transpose<T>(head.q, query, lanes, d, head.scale(), q);
    log_sums_of(head, query, lanes, log_sums);
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
                     query);
    }
  }
};

template <typename T>
void run(const AttentionCotangent& call, int threads) {
  const AttentionShape& shape = call.shape;
  const int64_t heads = shape.batch * shape.heads, rows = call.probes * heads * shape.queries;
  Workspace shared(1, rows * static_cast<int64_t>(sizeof(T)));
  T* weights = shared.scratch().take<T>(rows);
  const Cotangent<T> kernel{call, weights};
  const Workspace workspace(threads, kernel.scratch_bytes());
  if (kernel.scored()) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t n = 0; n < call.probes * heads; ++n) {
      kernel.weigh_queries(n / heads, n % heads / shape.heads, n % shape.heads, weights + n * shape.queries);
    }
  }
  if (call.dk.at || call.dv.at) {
    const Tasks<T> tasks = Tasks<T>::of(shape, shape.keys, call.probes, kernel.group(), threads);
    run_tasks(tasks, workspace, threads,
              [&](int64_t batch, int64_t head, int64_t key, int64_t probe, int64_t probes, Scratch scratch) {
                kernel.keys(batch, head, key, probe, probes, scratch);
              });
  }
  if (call.dq.at) {
    const Tasks<T> tasks = Tasks<T>::of(shape, shape.queries, call.probes, kernel.group(), threads);
    run_tasks(tasks, workspace, threads,
              [&](int64_t batch, int64_t head, int64_t query, int64_t probe, int64_t probes, Scratch scratch) {
                kernel.queries(batch, head, query, probe, probes, scratch);
              });
  }
}

}  // namespace

void attention_cotangent(const AttentionCotangent& call, int threads) {
  with_types(call.shape.dtype, [&](auto types) { run<typename decltype(types)::value>(call, threads); });
}

}  // namespace LATENTJAC_ISA
}  // namespace cpu
}  // namespace latentjac
