// Random arrays and the calls of attention on them, for the programs of this folder.
#pragma once

#include <latentjac/kernels.h>

#include <cstdint>
#include <random>
#include <vector>

namespace example {

using Array = std::vector<double>;

inline Array normal(int64_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> draw;
  Array values(static_cast<size_t>(count));
  for (double& value : values) value = draw(generator);
  return values;
}

// One array of the shape [batch, heads, rows, channels], with probes in front.
inline latentjac::Strided strided(const void* at, int64_t batch, int64_t heads, int64_t rows, int64_t channels) {
  return {at, batch * heads * rows * channels, heads * rows * channels, rows * channels, channels};
}

// Attention of float64 arrays, and its tangents.
struct Attention {
  int64_t batch, heads, queries, keys, channels;
  int64_t q_size() const { return batch * heads * queries * channels; }
  int64_t k_size() const { return batch * heads * keys * channels; }

  latentjac::Strided of_queries(const Array& x) const { return strided(x.data(), batch, heads, queries, channels); }
  latentjac::Strided of_keys(const Array& x) const { return strided(x.data(), batch, heads, keys, channels); }

  latentjac::AttentionShape shape() const {
    return {batch, heads, queries, keys, channels, channels, 0.3, latentjac::DType::kFloat64, false, false};
  }

  void primal(const Array& q, const Array& k, const Array& v, Array& o, Array& lse, int threads = 1) const {
    o.resize(q.size());
    lse.resize(static_cast<size_t>(batch * heads * queries));
    latentjac::AttentionPrimal call = {};
    call.shape = shape();
    call.q = of_queries(q), call.k = of_keys(k), call.v = of_keys(v), call.o = of_queries(o);
    call.lse = lse.data();
    latentjac::cpu::attention_primal(call, threads);
  }

  // do [probes, ...] of dq, dk and dv.
  void tangent(const Array& q, const Array& k, const Array& v, const Array& o, const Array& lse, int64_t probes,
               const Array& dq, const Array& dk, const Array& dv, Array& out, int threads = 1) const {
    out.resize(static_cast<size_t>(probes) * q.size());
    latentjac::AttentionTangent call = {};
    call.shape = shape();
    call.q = of_queries(q), call.k = of_keys(k), call.v = of_keys(v), call.o = of_queries(o);
    call.lse = lse.data();
    call.probes = probes;
    call.dq = of_queries(dq), call.dk = of_keys(dk), call.dv = of_keys(dv), call.out = of_queries(out);
    latentjac::cpu::attention_tangent(call, threads);
  }

  // dq, dk and dv [probes, ...] of u.
  void cotangent(const Array& q, const Array& k, const Array& v, const Array& o, const Array& lse, int64_t probes,
                 const Array& u, Array& dq, Array& dk, Array& dv, int threads = 1) const {
    dq.resize(static_cast<size_t>(probes) * q.size());
    dk.resize(static_cast<size_t>(probes) * k.size());
    dv.resize(dk.size());
    latentjac::AttentionCotangent call = {};
    call.shape = shape();
    call.q = of_queries(q), call.k = of_keys(k), call.v = of_keys(v), call.o = of_queries(o);
    call.lse = lse.data();
    call.probes = probes;
    call.u = of_queries(u), call.dq = of_queries(dq), call.dk = of_keys(dk), call.dv = of_keys(dv);
    latentjac::cpu::attention_cotangent(call, threads);
  }
};

}  // namespace example
