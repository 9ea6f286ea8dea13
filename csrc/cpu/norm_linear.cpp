// The tangent or cotangent of many probes through a norm fused with an activation: group, layer and RMS norm.
//
// Compiled once per instruction set (namespace LATENTJAC_ISA). The floor is memory: a pass over P probes has to
// read and write each tangent once, while xhat and a are shared. So up to kProbes probes go through a sample
// together, and each value of xhat and a that is loaded serves all of them. Rows of channels are read whole, because
// the prefetcher follows long runs and gives up on short ones; the second reading of t runs backwards, because its
// end is what the caches still hold.
#include "cpu/norm_pieces.h"
#include "cpu/sums.h"
#include "cpu/vector.h"
#include "kernels.h"
#include "types.h"

namespace latentjac {
namespace cpu {
namespace LATENTJAC_ISA {
namespace {

// w and xhat * w of kCount probes that lie `step` apart, where w = t, or a * t for the transpose.
template <typename T, int kCount, bool kTranspose>
struct LinearTerms {
  static constexpr int kProbes = kCount;
  const T *t, *xhat, *a;
  int64_t step;
  template <typename V>
  inline void add(int64_t i, int64_t, V* first, V* second) const {
    const V shared = get<V>(xhat + i);
    V slope = shared;
    if constexpr (kTranspose) slope = get<V>(a + i);
#pragma GCC unroll 4
    for (int k = 0; k < kCount; ++k) {
      V w = get<V>(t + k * step + i);
      if constexpr (kTranspose) w *= slope;
      first[k] += w;
      second[k] += shared * w;
    }
  }
};

template <typename T, bool kTranspose, bool kAccumulate>
struct Linear {
  const NormLinear& call;
  const Pieces& pieces;
  const bool stream;  // write past the caches

  template <typename V>
  static inline V result(V t, V a, V xhat, V mean, V dot) {
    if constexpr (kTranspose) {
      return a * t - mean - xhat * dot;
    } else {
      return a * (t - mean - xhat * dot);
    }
  }

  // One row of kCount probes: mean and dot are [kCount, s.width].
  template <int kCount, bool kStream>
  static inline void write_row(const T* t, const T* xhat, const T* a, T* out, int64_t step, int64_t width,
                               const Sums<T>& s) {
    using V = typename Vector<T>::type;
    constexpr int64_t kWidth = Vector<T>::kWidth;
    int64_t c = 0;
    for (; c + kWidth <= width; c += kWidth) {
      const V shared = Vector<T>::load(xhat + c), slope = Vector<T>::load(a + c);
#pragma GCC unroll 4
      for (int k = 0; k < kCount; ++k) {
        V value = result<V>(Vector<T>::load(t + k * step + c), slope, shared, Vector<T>::load(s.mean + k * s.width + c),
                            Vector<T>::load(s.dot + k * s.width + c));
        if constexpr (kAccumulate) value += Vector<T>::load(out + k * step + c);
        Vector<T>::template put<kStream>(out + k * step + c, value);
      }
    }
    for (; c < width; ++c) {
      for (int k = 0; k < kCount; ++k) {
        const T value = result<T>(t[k * step + c], a[c], xhat[c], s.mean[k * s.width + c], s.dot[k * s.width + c]);
        out[k * step + c] = kAccumulate ? out[k * step + c] + value : value;
      }
    }
  }

  // A block of columns over all positions, of kCount probes.
  template <int kCount>
  inline void block(const T* t, const T* xhat, const T* a, T* out, int64_t step, int64_t width,
                    const Sums<T>& s) const {
    const int64_t stride = pieces.channels, rows = pieces.positions;
    block_sums<T>(LinearTerms<T, kCount, kTranspose>{t, xhat, a, step}, stride, rows, width, s);
    for (int k = 0; k < kCount; ++k)
      group_means(s, k * s.width, width, pieces.group_width, static_cast<double>(rows * pieces.group_width), call.rms);
    for (int64_t r = rows - 1; r >= 0; --r) {
      const int64_t at = r * stride;
      if (stream) {
        write_row<kCount, true>(t + at, xhat + at, a + at, out + at, step, width, s);
      } else {
        write_row<kCount, false>(t + at, xhat + at, a + at, out + at, step, width, s);
      }
    }
  }

  // One group that is one contiguous run.
  template <bool kStream>
  inline void run(const T* t, const T* xhat, const T* a, T* out) const {
    using V = typename Vector<T>::type;
    constexpr int64_t kWidth = Vector<T>::kWidth;
    const int64_t length = pieces.group_width;
    double first, second;
    run_sums<T>(LinearTerms<T, 1, kTranspose>{t, xhat, a, 0}, length, first, second);
    const T mean = call.rms ? T(0) : static_cast<T>(first / static_cast<double>(length));
    const T dot = static_cast<T>(second / static_cast<double>(length));
    const V zero = {}, mean_v = zero + mean, dot_v = zero + dot;
    int64_t i = 0;
    for (; i + kWidth <= length; i += kWidth) {
      V value = result<V>(Vector<T>::load(t + i), Vector<T>::load(a + i), Vector<T>::load(xhat + i), mean_v, dot_v);
      if constexpr (kAccumulate) value += Vector<T>::load(out + i);
      Vector<T>::template put<kStream>(out + i, value);
    }
    for (; i < length; ++i) {
      const T value = result<T>(t[i], a[i], xhat[i], mean, dot);
      out[i] = kAccumulate ? out[i] + value : value;
    }
  }

  inline void piece(int64_t item, const Sums<T>& s) const {
    const int64_t sample_size = pieces.positions * pieces.channels, step = call.samples * sample_size;
    const int64_t p0 = item % pieces.probe_blocks * pieces.probes, b = item / pieces.probe_blocks % pieces.blocks;
    const int64_t probes = smaller(pieces.probes, call.probes - p0);
    const int64_t c0 = b * pieces.block_groups * pieces.group_width;
    const int64_t width = smaller(pieces.block_groups * pieces.group_width, pieces.channels - c0);
    const int64_t begin = item / pieces.probe_blocks / pieces.blocks * pieces.tile_samples;
    const int64_t end = smaller(begin + pieces.tile_samples, call.samples);
    for (int64_t n = begin; n < end; ++n) {
      const int64_t shared = n * sample_size + c0, own = shared + p0 * step;
      const T *t = static_cast<const T*>(call.t) + own, *a = static_cast<const T*>(call.a) + shared;
      const T* xhat = static_cast<const T*>(call.xhat) + shared;
      T* out = static_cast<T*>(call.out) + own;
      if (pieces.positions > 1) {
        if (probes == 4) {
          block<4>(t, xhat, a, out, step, width, s);
        } else if (probes == 2) {
          block<2>(t, xhat, a, out, step, width, s);
        } else {
          for (int64_t k = 0; k < probes; ++k) block<1>(t + k * step, xhat, a, out + k * step, step, width, s);
        }
        continue;
      }
      for (int64_t k = 0; k < probes; ++k) {
        for (int64_t c = 0; c < width; c += pieces.group_width) {
          if (stream) {
            run<true>(t + k * step + c, xhat + c, a + c, out + k * step + c);
          } else {
            run<false>(t + k * step + c, xhat + c, a + c, out + k * step + c);
          }
        }
      }
    }
  }
};

inline bool streams(const NormLinear& call, const Pieces& pieces, int64_t size) {
  const int64_t bytes = call.probes * call.samples * call.positions * call.channels * size;
  const int64_t run = pieces.positions > 1 ? pieces.width() : pieces.group_width;
  const bool fits = aligned(call.out, run * size) && aligned(call.out, pieces.channels * size);
  return bytes >= kStreamBytes && call.out != call.t && !call.accumulate && fits;
}

template <typename T, bool kTranspose, bool kAccumulate>
void linear(const NormLinear& call, int threads) {
  if (call.probes * call.samples * call.positions * call.channels == 0) return;
  const Pieces pieces = cut(call.samples, call.positions, call.channels, call.groups, call.probes, sizeof(T), threads);
  const Linear<T, kTranspose, kAccumulate> kernel{call, pieces, streams(call, pieces, sizeof(T))};
  const Workspace workspace(threads, Sums<T>::bytes(pieces.width(), pieces.probes));
#pragma omp parallel num_threads(threads)
  {
    const Sums<T> sums(pieces.width(), pieces.probes, workspace.scratch());
#pragma omp for schedule(dynamic, 1)
    for (int64_t item = 0; item < pieces.count(); ++item) kernel.piece(item, sums);
    Vector<T>::fence();
  }
}

template <typename T>
void linear_of(const NormLinear& call, int threads) {
  if (call.transpose) {
    call.accumulate ? linear<T, true, true>(call, threads) : linear<T, true, false>(call, threads);
  } else {
    call.accumulate ? linear<T, false, true>(call, threads) : linear<T, false, false>(call, threads);
  }
}

}  // namespace

void norm_act_linear(const NormLinear& call, int threads) {
  with_types(call.dtype, [&](auto types) { linear_of<typename decltype(types)::value>(call, threads); });
}

}  // namespace LATENTJAC_ISA
}  // namespace cpu
}  // namespace latentjac
