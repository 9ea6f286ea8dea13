// Group, layer and RMS norm fused with an activation: the values, and what the tangents of all probes share.
//
// Compiled once per instruction set (namespace LATENTJAC_ISA).
#include "activation.h"
#include "cpu/norm_pieces.h"
#include "cpu/sums.h"
#include "cpu/vector.h"
#include "kernels.h"
#include "types.h"

namespace latentjac {
namespace cpu {
namespace LATENTJAC_ISA {
namespace {

template <typename T>
struct RunTerms {  // x - mean and its square, one mean for all
  static constexpr int kProbes = 1;
  const T* x;
  T mean;
  template <typename V>
  inline void add(int64_t i, int64_t, V* first, V* second) const {
    const V value = get<V>(x + i) - mean;
    *first += value;
    *second += value * value;
  }
};

template <typename T>
struct ColumnTerms {  // the same with a mean for each column
  static constexpr int kProbes = 1;
  const T *x, *mean;
  template <typename V>
  inline void add(int64_t i, int64_t c, V* first, V* second) const {
    const V value = get<V>(x + i) - get<V>(mean + c);
    *first += value;
    *second += value * value;
  }
};

template <typename T, Activation kAct>
struct Primal {
  const NormPrimal& call;
  const Pieces& pieces;

  // A row of `width` channels from `at`, with mean and rstd per channel (step 1) or one for all (step 0).
  template <int kStep>
  inline void write(int64_t at, int64_t n, int64_t c0, int64_t width, const T* mean, const T* rstd) const {
    const T* x = static_cast<const T*>(call.x) + at;
    T *xhat_out = static_cast<T*>(call.xhat) + at, *a_out = static_cast<T*>(call.a) + at;
    const T* gamma = call.gamma ? static_cast<const T*>(call.gamma) + n * call.gamma_stride + c0 : nullptr;
    const T* beta = call.beta ? static_cast<const T*>(call.beta) + n * call.beta_stride + c0 : nullptr;
    T* y = call.y ? static_cast<T*>(call.y) + at : nullptr;
#pragma GCC ivdep
    for (int64_t c = 0; c < width; ++c) {
      const T scale = gamma ? gamma[c] : T(1), shift = beta ? beta[c] : T(0);
      const T xhat = (x[c] - mean[c * kStep]) * rstd[c * kStep];
      T value, slope;
      activate<kAct, T>(xhat * scale + shift, value, slope);
      xhat_out[c] = xhat;
      // rstd of a group with a NaN is NaN, so slope's NaN-free branches (ReLU) cannot hide it.
      a_out[c] = scale * rstd[c * kStep] * slope;
      if (y) y[c] = value;
    }
  }

  inline T inverse_deviation(double squares, double count) const {
    return static_cast<T>(1.0 / __builtin_sqrt(squares / count + call.eps));
  }

  inline void run(int64_t at, int64_t n, int64_t c0) const {
    const T* x = static_cast<const T*>(call.x) + at;
    const double count = static_cast<double>(pieces.group_width);
    double first, second;
    T mean = 0;
    if (!call.rms) {
      run_sums<T>(RunTerms<T>{x, T(0)}, pieces.group_width, first, second);
      mean = static_cast<T>(first / count);
    }
    run_sums<T>(RunTerms<T>{x, mean}, pieces.group_width, first, second);
    const T rstd = inverse_deviation(second, count);
    // A norm of one group over many positions: gamma repeats every call.channels.
    for (int64_t i = 0; i < pieces.group_width; i += call.channels)
      write<0>(at + i, n, c0, smaller(call.channels, pieces.group_width - i), &mean, &rstd);
  }

  inline void block(int64_t at, int64_t n, int64_t c0, int64_t width, const Sums<T>& s) const {
    const T* x = static_cast<const T*>(call.x) + at;
    const int64_t stride = pieces.channels, rows = pieces.positions, group = pieces.group_width;
    const double count = static_cast<double>(rows * group);
    for (int64_t c = 0; c < width; ++c) s.mean[c] = T(0);
    if (!call.rms) {
      block_sums<T>(ColumnTerms<T>{x, s.mean}, stride, rows, width, s);
      group_means(s, 0, width, group, count, false);
    }
    block_sums<T>(ColumnTerms<T>{x, s.mean}, stride, rows, width, s);
    for (int64_t g = 0; g < width; g += group) {
      double squares = 0;
      for (int64_t c = g; c < g + group; ++c) squares += s.second[c];
      const T rstd = inverse_deviation(squares, count);
      for (int64_t c = g; c < g + group; ++c) s.dot[c] = rstd;
    }
    for (int64_t r = rows - 1; r >= 0; --r) write<1>(at + r * stride, n, c0, width, s.mean, s.dot);
  }

  inline void piece(int64_t item, const Sums<T>& s) const {
    const int64_t c0 = item % pieces.blocks * pieces.block_groups * pieces.group_width;
    const int64_t width = smaller(pieces.block_groups * pieces.group_width, pieces.channels - c0);
    const int64_t begin = item / pieces.blocks * pieces.tile_samples;
    const int64_t end = smaller(begin + pieces.tile_samples, call.samples);
    for (int64_t n = begin; n < end; ++n) {
      const int64_t at = n * pieces.positions * pieces.channels + c0;
      if (pieces.positions > 1) {
        block(at, n, c0, width, s);
      } else {
        for (int64_t c = 0; c < width; c += pieces.group_width) run(at + c, n, c0 + c);
      }
    }
  }
};

template <typename T, Activation kAct>
void primal(const NormPrimal& call, int threads) {
  if (call.samples * call.positions * call.channels == 0) return;
  const Pieces pieces = cut(call.samples, call.positions, call.channels, call.groups, 1, sizeof(T), threads);
  const Primal<T, kAct> kernel{call, pieces};
  const Workspace workspace(threads, Sums<T>::bytes(pieces.width(), 1));
#pragma omp parallel num_threads(threads)
  {
    const Sums<T> sums(pieces.width(), 1, workspace.scratch());
#pragma omp for schedule(dynamic, 1)
    for (int64_t item = 0; item < pieces.count(); ++item) kernel.piece(item, sums);
  }
}

}  // namespace

void norm_act_primal(const NormPrimal& call, int threads) {
  with_types(call.dtype, [&](auto types) {
    with_activation(call.activation, [&](auto activation) {
      primal<typename decltype(types)::value, decltype(activation)::value>(call, threads);
    });
  });
}

}  // namespace LATENTJAC_ISA
}  // namespace cpu
}  // namespace latentjac
