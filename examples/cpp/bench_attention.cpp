// Time of attention's tangent for one probe and for many at once: the probes share what is formed from q, k and lse.
#include <benchmark/benchmark.h>

#include "arrays.h"

static void tangent(benchmark::State& state) {
  const int64_t probes = state.range(0);
  const example::Attention attention{1, 4, 256, 256, 32};
  const auto q = example::normal(attention.q_size(), 1), k = example::normal(attention.k_size(), 2),
             v = example::normal(attention.k_size(), 3);
  const auto dq = example::normal(probes * attention.q_size(), 4), dk = example::normal(probes * attention.k_size(), 5),
             dv = example::normal(probes * attention.k_size(), 6);
  example::Array o, lse, out;
  attention.primal(q, k, v, o, lse);
  for (auto _ : state) {
    attention.tangent(q, k, v, o, lse, probes, dq, dk, dv, out);
    benchmark::DoNotOptimize(out.data());
  }
  state.counters["probes/s"] =
      benchmark::Counter(static_cast<double>(probes * state.iterations()), benchmark::Counter::kIsRate);
}
BENCHMARK(tangent)->Arg(1)->Arg(8);
BENCHMARK_MAIN();
