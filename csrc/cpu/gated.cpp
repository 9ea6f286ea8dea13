// Gated activations: the tangent or cotangent of many probes, in one reading and one writing of them.
//
// Compiled once per instruction set (namespace LATENTJAC_ISA). A block of rows goes through all probes before the next
// one, so that a and b come from the first-level cache for all probes but the first.
#include "cpu/arithmetic.h"
#include "cpu/vector.h"
#include "kernels.h"
#include "types.h"

namespace latentjac {
namespace cpu {
namespace LATENTJAC_ISA {
namespace {

constexpr int64_t kBlockBytes = 8 << 10;  // of a and of b, each

template <typename T>
struct Tangent {
  const GatedTangent& call;

  // Row r of probe p, from channel c0 to c1.
  template <bool kStream>
  inline void row(int64_t p, int64_t r, int64_t c0, int64_t c1) const {
    const int64_t at = p * call.rows + r;
    const T* value = static_cast<const T*>(call.value) + at * call.value_stride;
    const T* gate = static_cast<const T*>(call.gate) + at * call.gate_stride;
    const T *a = static_cast<const T*>(call.a) + r * call.channels,
            *b = static_cast<const T*>(call.b) + r * call.channels;
    T* out = static_cast<T*>(call.out) + at * call.channels;
    int64_t c = c0;
    for (; c + Vector<T>::kWidth <= c1; c += Vector<T>::kWidth) {
      using L = Vector<T>;
      L::template put<kStream>(out + c, L::load(a + c) * L::load(value + c) + L::load(b + c) * L::load(gate + c));
    }
    for (; c < c1; ++c) out[c] = a[c] * value[c] + b[c] * gate[c];
  }

  bool streams() const {
    return call.probes * call.rows * call.channels * static_cast<int64_t>(sizeof(T)) >= kStreamBytes &&
           aligned(call.out, call.channels * sizeof(T));
  }
};

template <typename T>
struct Cotangent {
  const GatedCotangent& call;

  template <bool kStream>
  inline void row(int64_t p, int64_t r, int64_t c0, int64_t c1) const {
    const int64_t at = p * call.rows + r;
    const T *a = static_cast<const T*>(call.a) + r * call.channels,
            *b = static_cast<const T*>(call.b) + r * call.channels;
    const T* u = static_cast<const T*>(call.u) + at * call.channels;
    T* value = static_cast<T*>(call.value) + at * call.value_stride;
    T* gate = static_cast<T*>(call.gate) + at * call.gate_stride;
    int64_t c = c0;
    for (; c + Vector<T>::kWidth <= c1; c += Vector<T>::kWidth) {
      const typename Vector<T>::type shared = Vector<T>::load(u + c);
      Vector<T>::template put<kStream>(value + c, Vector<T>::load(a + c) * shared);
      Vector<T>::template put<kStream>(gate + c, Vector<T>::load(b + c) * shared);
    }
    for (; c < c1; ++c) {
      value[c] = a[c] * u[c];
      gate[c] = b[c] * u[c];
    }
  }

  bool streams() const {
    return 2 * call.probes * call.rows * call.channels * static_cast<int64_t>(sizeof(T)) >= kStreamBytes &&
           aligned(call.value, call.value_stride * sizeof(T)) && aligned(call.gate, call.gate_stride * sizeof(T));
  }
};

template <typename T, bool kStream, typename Kernel>
void run(const Kernel& kernel, int threads) {
  const auto& call = kernel.call;
  if (call.probes * call.rows * call.channels == 0) return;
  const int64_t block_channels = smaller(call.channels, kBlockBytes / static_cast<int64_t>(sizeof(T)));
  const int64_t columns = ceil_div(call.channels, block_channels);
  const int64_t block_rows = larger(1, kBlockBytes / (block_channels * static_cast<int64_t>(sizeof(T))));
  const int64_t blocks = ceil_div(call.rows, block_rows) * columns;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t r0 = block / columns * block_rows, r1 = smaller(r0 + block_rows, call.rows);
    const int64_t c0 = block % columns * block_channels, c1 = smaller(c0 + block_channels, call.channels);
    for (int64_t p = 0; p < call.probes; ++p)
      for (int64_t r = r0; r < r1; ++r) kernel.template row<kStream>(p, r, c0, c1);
    if constexpr (kStream) Vector<T>::fence();
  }
}

template <typename T, typename Kernel>
void run_of(const Kernel& kernel, int threads) {
  kernel.streams() ? run<T, true>(kernel, threads) : run<T, false>(kernel, threads);
}

}  // namespace

void gated_tangent(const GatedTangent& call, int threads) {
  with_types(call.dtype, [&](auto types) {
    using T = typename decltype(types)::value;
    run_of<T>(Tangent<T>{call}, threads);
  });
}

void gated_cotangent(const GatedCotangent& call, int threads) {
  with_types(call.dtype, [&](auto types) {
    using T = typename decltype(types)::value;
    run_of<T>(Cotangent<T>{call}, threads);
  });
}

}  // namespace LATENTJAC_ISA
}  // namespace cpu
}  // namespace latentjac
