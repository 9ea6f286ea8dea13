// Softmax attention: the output, and the logarithm of the sum of each row.
#include "cpu/attention.h"

namespace latentjac {
namespace cpu {
namespace LATENTJAC_ISA {
namespace {

template <typename T>
struct Primal {
  const AttentionPrimal& call;

  int64_t scratch_bytes() const {
    const AttentionShape& shape = call.shape;
    return kLanes<T> * (shape.channels + shape.value_channels + kRows + 2) * static_cast<int64_t>(sizeof(T));
  }

  void run(int64_t batch, int64_t number, int64_t query, Scratch scratch) const {
    const AttentionShape& shape = call.shape;
    const Head<T> head = Head<T>::of(call, batch, number);
    const int64_t lanes = smaller(kLanes<T>, shape.queries - query);
    T* q = scratch.take<T>(shape.channels * kLanes<T>);
    T* p = scratch.take<T>(kRows * kLanes<T>);
    T* sums = scratch.take<T>(shape.value_channels * kLanes<T>);
    T* most = scratch.take<T>(kLanes<T>);
    T* total = scratch.take<T>(kLanes<T>);
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
    transpose_back(sums, lanes, shape.value_channels, T(1), rows_of<T>(call.o, 0, batch, number), query);
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

template <typename T>
void run(const AttentionPrimal& call, int threads) {
  const Primal<T> kernel{call};
  const Tasks<T> tasks = Tasks<T>::of(call.shape, call.shape.queries, 1, 1, threads);
  const Workspace workspace(threads, kernel.scratch_bytes());
  run_tasks(tasks, workspace, threads,
            [&](int64_t batch, int64_t head, int64_t query, int64_t, int64_t, Scratch scratch) {
              kernel.run(batch, head, query, scratch);
            });
}

}  // namespace

void attention_primal(const AttentionPrimal& call, int threads) {
  with_types(call.shape.dtype, [&](auto types) { run<typename decltype(types)::value>(call, threads); });
}

}  // namespace LATENTJAC_ISA
}  // namespace cpu
}  // namespace latentjac
