// Rows of many probes, each times a matrix of its own: lanes are the channels of the result, columns the probes.
//
// Every matrix is read once and serves all probes; a batched product of a library treats each as a call of its own.
#include "cpu/product.h"
#include "kernels.h"
#include "types.h"

namespace latentjac {
namespace cpu {
namespace LATENTJAC_ISA {
namespace {

// As many lanes as fit vectors of kBytes, and the rest with shorter ones.
template <int kBytes, typename T>
inline void lanes_from(const RowwiseProduct& call, const T* matrix, const T* t, T* out, int64_t l) {
  using Lanes = Vector<T, kBytes>;
  const int64_t e = call.value_channels;
  const Scalars<T> scalars{t, 1, call.t.probe};
  const Store<T> store{out, call.out.probe};
  if constexpr (kBytes == kVectorBytes) {
    for (; l + 2 * Lanes::kWidth <= e; l += 2 * Lanes::kWidth) {
      product_columns<Lanes, 2>(matrix, e, scalars, call.channels, call.probes, l, store);
    }
  }
  for (; l + Lanes::kWidth <= e; l += Lanes::kWidth) {
    product_columns<Lanes, 1>(matrix, e, scalars, call.channels, call.probes, l, store);
  }
  if constexpr (kBytes > static_cast<int>(sizeof(T))) {
    if (l < e) lanes_from<kBytes / 2>(call, matrix, t, out, l);
  }
}

template <typename T>
void run(const RowwiseProduct& call, int threads) {
  const T* matrices = static_cast<const T*>(call.matrices);
  const T* t = static_cast<const T*>(call.t.at);
  T* out = static_cast<T*>(const_cast<void*>(call.out.at));
  const int64_t size = call.channels * call.value_channels, count = call.batch * call.rows * call.heads;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t n = 0; n < count; ++n) {
    const int64_t head = n % call.heads, row = n / call.heads % call.rows, batch = n / (call.heads * call.rows);
    lanes_from<kVectorBytes>(call, matrices + n * size,
                             t + batch * call.t.batch + head * call.t.head + row * call.t.row,
                             out + batch * call.out.batch + head * call.out.head + row * call.out.row, 0);
  }
}

}  // namespace

void rowwise_product(const RowwiseProduct& call, int threads) {
  with_types(call.dtype, [&](auto types) { run<typename decltype(types)::value>(call, threads); });
}

}  // namespace LATENTJAC_ISA
}  // namespace cpu
}  // namespace latentjac
