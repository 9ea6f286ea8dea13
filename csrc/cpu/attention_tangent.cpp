// Tangents of softmax attention, of many probes: lanes are queries.
#include "cpu/attention.h"

namespace latentjac {
namespace cpu {
namespace LATENTJAC_ISA {
namespace {

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

  int64_t scratch_bytes() const {
    const int64_t d = call.shape.channels, e = call.shape.value_channels;
    const int64_t probes = group() * (e + 1 + (call.dq.at ? d : 0));
    return (kLanes<T> * (d + 1 + 3 * kRows + probes) + 2 * kRows * (d + e)) * static_cast<int64_t>(sizeof(T));
  }

  void run(int64_t batch, int64_t number, int64_t query, int64_t probe, int64_t probes, Scratch scratch) const {
    const AttentionShape& shape = call.shape;
    const int64_t d = shape.channels, e = shape.value_channels, lanes = smaller(kLanes<T>, shape.queries - query);
    const Head<T> head = Head<T>::of(call, batch, number);
    T* q = scratch.take<T>(d * kLanes<T>);
    T* log_sums = scratch.take<T>(kLanes<T>);
    T* p = scratch.take<T>(kRows * kLanes<T>);
    T* r = scratch.take<T>(kRows * kLanes<T>);
    T* scores = scratch.take<T>(kRows * kLanes<T>);
    T* sums = scratch.take<T>(probes * (e + 1) * kLanes<T>);  // of a probe: e channels, then the sum of R
    T* dq = scratch.take<T>(call.dq.at ? probes * d * kLanes<T> : 0);
    T *k = scratch.take<T>(kRows * d), *v = scratch.take<T>(kRows * e);
    T *dk = scratch.take<T>(kRows * d), *dv = scratch.take<T>(kRows * e);
    transpose<T>(head.q, query, lanes, d, head.scale(), q);
    log_sums_of(head, query, lanes, log_sums);
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

template <typename T>
void run(const AttentionTangent& call, int threads) {
  const Tangent<T> kernel{call};
  const Tasks<T> tasks = Tasks<T>::of(call.shape, call.shape.queries, call.probes, kernel.group(), threads);
  const Workspace workspace(threads, kernel.scratch_bytes());
  run_tasks(tasks, workspace, threads,
            [&](int64_t batch, int64_t head, int64_t query, int64_t probe, int64_t probes, Scratch scratch) {
              kernel.run(batch, head, query, probe, probes, scratch);
            });
}

}  // namespace

void attention_tangent(const AttentionTangent& call, int threads) {
  with_types(call.shape.dtype, [&](auto types) { run<typename decltype(types)::value>(call, threads); });
}

}  // namespace LATENTJAC_ISA
}  // namespace cpu
}  // namespace latentjac
