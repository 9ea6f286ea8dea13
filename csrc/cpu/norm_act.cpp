// Group, layer and RMS norm fused with an activation: the primal, and the tangent or cotangent of many probes.
//
// Compiled once per instruction set (namespace LATENTJAC_ISA). The floor is memory: a pass over P probes has to
// read and write each tangent once, while xhat and a are shared. So up to kProbes probes go through a sample
// together, and each value of xhat and a that is loaded serves all of them. Rows of channels are read whole, because
// the prefetcher follows long runs and gives up on short ones; the second reading of t runs backwards, because its
// end is what the caches still hold.
//
// Sums: float32 is added over at most kRows values of one channel (or kRun vectors of a row) in float32, then in
// float64. The order does not depend on the number of threads, so neither does any bit of the result.
#include "cpu/activation.h"
#include "cpu/vector.h"
#include "kernels.h"

namespace latentjac {
namespace cpu {
namespace LATENTJAC_ISA {
namespace {

constexpr int64_t kRows = 32;               // rows added up in the type itself before float64
constexpr int64_t kRun = 32;                // vectors a lane adds up before float64
constexpr int64_t kProbes = 4;              // probes that go through a sample together
constexpr int64_t kMinRunBytes = 1024;      // of a row of a block: shorter runs starve the prefetcher
constexpr int64_t kPieceBytes = 1 << 20;    // of t in a piece of short samples
constexpr int64_t kTileBytes = 8 << 20;     // of t between its two readings: a quarter of a common last-level cache
constexpr int64_t kStreamBytes = 16 << 20;  // of a result too large for any reader to find it in a cache

inline int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}
inline int64_t larger(int64_t a, int64_t b) {
  return a > b ? a : b;
}
inline int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// ---- What is summed: two quantities per element, at flat index i and column c of the block. ----

template <typename V, typename T>
inline V get(const T* from) {
  if constexpr (sizeof(V) == sizeof(T)) {
    return *from;
  } else {
    return Vector<T>::load(from);
  }
}

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

// ---- Sums over a contiguous run: layer norm, and any norm of one group. ----

template <typename T>
inline double lanes_sum(const typename Vector<T>::type& v) {
  double total = 0;
  for (int k = 0; k < Vector<T>::kWidth; ++k) total += static_cast<double>(v[k]);
  return total;
}

template <typename T, typename Terms>
inline void run_sums(const Terms& terms, int64_t length, double& first, double& second) {
  using V = typename Vector<T>::type;
  constexpr int64_t kWidth = Vector<T>::kWidth;
  int64_t i = 0;
  double total0 = 0, total1 = 0;
  while (i + kWidth <= length) {
    V s0 = {}, s1 = {}, s2 = {}, s3 = {}, d0 = {}, d1 = {}, d2 = {}, d3 = {};
    const int64_t stop = smaller(length, i + 4 * kWidth * kRun);
    for (; i + 4 * kWidth <= stop; i += 4 * kWidth) {
      terms.add(i, 0, &s0, &d0);
      terms.add(i + kWidth, 0, &s1, &d1);
      terms.add(i + 2 * kWidth, 0, &s2, &d2);
      terms.add(i + 3 * kWidth, 0, &s3, &d3);
    }
    for (; i + kWidth <= stop; i += kWidth) terms.add(i, 0, &s0, &d0);
    total0 += lanes_sum<T>((s0 + s1) + (s2 + s3));
    total1 += lanes_sum<T>((d0 + d1) + (d2 + d3));
  }
  for (; i < length; ++i) {
    T s = 0, d = 0;
    terms.add(i, 0, &s, &d);
    total0 += static_cast<double>(s);
    total1 += static_cast<double>(d);
  }
  first = total0;
  second = total1;
}

// ---- Sums over positions, column by column: group norm. ----

// What one thread keeps for a block of `width` columns and `probes` probes; each array is [probes, width].
template <typename T>
struct Scratch {
  int64_t width;
  double *first, *second;
  T *part_first, *part_second, *mean, *dot;
  Scratch(int64_t columns, int64_t probes)
      : width(columns),
        first(static_cast<double*>(
            __builtin_malloc(static_cast<size_t>(columns * probes) * (2 * sizeof(double) + 4 * sizeof(T))))),
        second(first + columns * probes),
        part_first(reinterpret_cast<T*>(second + columns * probes)),
        part_second(part_first + columns * probes),
        mean(part_second + columns * probes),
        dot(mean + columns * probes) {}
  ~Scratch() { __builtin_free(first); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
};

// Adds kCount consecutive rows, from flat index `at`, to the column sums in s.part_first and s.part_second.
// Several rows at once, because the sums are read and written once for all of them.
template <typename T, int kCount, typename Terms>
inline void add_rows(const Terms& terms, int64_t at, int64_t stride, int64_t width, const Scratch<T>& s) {
  using V = typename Vector<T>::type;
  constexpr int64_t kWidth = Vector<T>::kWidth;
  constexpr int kProbes = Terms::kProbes;
  int64_t c = 0;
  for (; c + kWidth <= width; c += kWidth) {
    V first[kProbes], second[kProbes];
#pragma GCC unroll 4
    for (int k = 0; k < kProbes; ++k) {
      first[k] = Vector<T>::load(s.part_first + k * s.width + c);
      second[k] = Vector<T>::load(s.part_second + k * s.width + c);
    }
#pragma GCC unroll 4
    for (int r = 0; r < kCount; ++r) terms.template add<V>(at + r * stride + c, c, first, second);
#pragma GCC unroll 4
    for (int k = 0; k < kProbes; ++k) {
      Vector<T>::store(s.part_first + k * s.width + c, first[k]);
      Vector<T>::store(s.part_second + k * s.width + c, second[k]);
    }
  }
  for (; c < width; ++c) {
    T first[kProbes] = {}, second[kProbes] = {};
    for (int r = 0; r < kCount; ++r) terms.template add<T>(at + r * stride + c, c, first, second);
    for (int k = 0; k < kProbes; ++k) {
      s.part_first[k * s.width + c] += first[k];
      s.part_second[k * s.width + c] += second[k];
    }
  }
}

// Sums of each of `width` columns over all rows, in s.first and s.second.
template <typename T, typename Terms>
inline void block_sums(const Terms& terms, int64_t stride, int64_t rows, int64_t width, const Scratch<T>& s) {
  constexpr int kTogether = Terms::kProbes > 2 ? 2 : 4;
  const int64_t count = s.width * Terms::kProbes;
  for (int64_t c = 0; c < count; ++c) s.first[c] = s.second[c] = 0;
  for (int64_t begin = 0; begin < rows; begin += kRows) {
    const int64_t end = smaller(begin + kRows, rows);
    for (int64_t c = 0; c < count; ++c) s.part_first[c] = s.part_second[c] = T(0);
    int64_t r = begin;
    for (; r + kTogether <= end; r += kTogether) add_rows<T, kTogether>(terms, r * stride, stride, width, s);
    for (; r < end; ++r) add_rows<T, 1>(terms, r * stride, stride, width, s);
    for (int64_t c = 0; c < count; ++c) {
      s.first[c] += static_cast<double>(s.part_first[c]);
      s.second[c] += static_cast<double>(s.part_second[c]);
    }
  }
}

// ---- How a call is cut into pieces for the threads. ----

struct Pieces {
  int64_t positions, channels;   // as the kernel sees them: a norm of one group has one position
  int64_t group_width;           // channels of a group
  int64_t block_groups, blocks;  // groups of a block of channels, blocks of a sample
  int64_t tile_samples, tiles;   // samples of a piece, where samples are short
  int64_t probes, probe_blocks;  // probes that go together
  int64_t count() const { return tiles * blocks * probe_blocks; }
  int64_t width() const { return positions > 1 ? block_groups * group_width : 1; }
};

inline Pieces cut(int64_t samples, int64_t positions, int64_t channels, int64_t groups, int64_t probes, int64_t size,
                  int threads) {
  Pieces p;
  const bool one_run = groups == 1;  // all positions and channels of a sample are one contiguous group
  p.positions = one_run ? 1 : positions;
  p.channels = one_run ? positions * channels : channels;
  p.group_width = p.channels / groups;
  // A run is still in the first-level cache when it is read again, and one long stream is read fastest.
  p.probes = p.positions == 1 || probes == 1 ? 1 : (probes >= kProbes ? kProbes : 2);
  p.tile_samples = smaller(samples, larger(1, kPieceBytes / (p.positions * p.channels * size * p.probes)));
  p.block_groups = groups;
  // The tile of t that is read twice should stay in the last-level cache, and every thread should have work.
  const int64_t least_groups = smaller(groups, ceil_div(kMinRunBytes, p.group_width * size));
  for (;;) {
    p.blocks = ceil_div(groups, p.block_groups);
    p.tiles = ceil_div(samples, p.tile_samples);
    p.probe_blocks = ceil_div(probes, p.probes);
    const bool too_few = p.count() < 2 * threads;
    const bool too_large = p.positions > 1 && p.positions * p.width() * size * p.probes > kTileBytes;
    if (!too_few && !too_large) return p;
    if (too_few && p.tile_samples > 1) {
      p.tile_samples = ceil_div(p.tile_samples, 2);
    } else if (p.positions > 1 && p.block_groups >= 2 * least_groups) {
      p.block_groups = ceil_div(p.block_groups, 2);
    } else if (p.probes > 1) {
      p.probes /= 2;
    } else {
      return p;
    }
  }
}

// Column sums -> means of their groups, spread back over the columns.
template <typename T>
inline void group_means(const Scratch<T>& s, int64_t offset, int64_t width, int64_t group_width, double count,
                        bool rms) {
  for (int64_t g = offset; g < offset + width; g += group_width) {
    double first = 0, second = 0;
    for (int64_t c = g; c < g + group_width; ++c) {
      first += s.first[c];
      second += s.second[c];
    }
    const T mean = rms ? T(0) : static_cast<T>(first / count), dot = static_cast<T>(second / count);
    for (int64_t c = g; c < g + group_width; ++c) {
      s.mean[c] = mean;
      s.dot[c] = dot;
    }
  }
}

// ---- The linear kernel. ----

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

  template <bool kStream>
  static inline void put(T* to, const typename Vector<T>::type& value) {
    if constexpr (kStream) {
      Vector<T>::stream(to, value);
    } else {
      Vector<T>::store(to, value);
    }
  }

  // One row of kCount probes: mean and dot are [kCount, s.width].
  template <int kCount, bool kStream>
  static inline void write_row(const T* t, const T* xhat, const T* a, T* out, int64_t step, int64_t width,
                               const Scratch<T>& s) {
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
        put<kStream>(out + k * step + c, value);
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
                    const Scratch<T>& s) const {
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
      put<kStream>(out + i, value);
    }
    for (; i < length; ++i) {
      const T value = result<T>(t[i], a[i], xhat[i], mean, dot);
      out[i] = kAccumulate ? out[i] + value : value;
    }
  }

  inline void piece(int64_t item, const Scratch<T>& s) const {
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

// A result larger than the caches is out of them again before anyone reads it: write past them, which saves reading
// each line before it is written. Not in place, where the lines are there already, and only where every store is
// aligned.
inline bool streams(const NormLinear& call, const Pieces& pieces, int64_t size) {
  const int64_t bytes = call.probes * call.samples * call.positions * call.channels * size;
  const int64_t run = pieces.positions > 1 ? pieces.width() : pieces.group_width;
  const bool aligned = reinterpret_cast<uintptr_t>(call.out) % kVectorBytes == 0 && run * size % kVectorBytes == 0 &&
                       pieces.channels * size % kVectorBytes == 0;
  return bytes >= kStreamBytes && call.out != call.t && !call.accumulate && aligned;
}

template <typename T, bool kTranspose, bool kAccumulate>
void linear(const NormLinear& call, int threads) {
  const Pieces pieces = cut(call.samples, call.positions, call.channels, call.groups, call.probes, sizeof(T), threads);
  const Linear<T, kTranspose, kAccumulate> kernel{call, pieces, streams(call, pieces, sizeof(T))};
#pragma omp parallel num_threads(threads)
  {
    const Scratch<T> scratch(pieces.width(), pieces.probes);
#pragma omp for schedule(dynamic, 1)
    for (int64_t item = 0; item < pieces.count(); ++item) kernel.piece(item, scratch);
    Vector<T>::fence();
  }
}

// ---- The primal. ----

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

  inline void block(int64_t at, int64_t n, int64_t c0, int64_t width, const Scratch<T>& s) const {
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

  inline void piece(int64_t item, const Scratch<T>& s) const {
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
  const Pieces pieces = cut(call.samples, call.positions, call.channels, call.groups, 1, sizeof(T), threads);
  const Primal<T, kAct> kernel{call, pieces};
#pragma omp parallel num_threads(threads)
  {
    const Scratch<T> scratch(pieces.width(), 1);
#pragma omp for schedule(dynamic, 1)
    for (int64_t item = 0; item < pieces.count(); ++item) kernel.piece(item, scratch);
  }
}

template <typename T>
void primal_of(const NormPrimal& call, int threads) {
  switch (call.activation) {
    case Activation::kIdentity:
      return primal<T, Activation::kIdentity>(call, threads);
    case Activation::kSilu:
      return primal<T, Activation::kSilu>(call, threads);
    case Activation::kGelu:
      return primal<T, Activation::kGelu>(call, threads);
    case Activation::kGeluTanh:
      return primal<T, Activation::kGeluTanh>(call, threads);
    case Activation::kRelu:
      return primal<T, Activation::kRelu>(call, threads);
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

void norm_act_primal(const NormPrimal& call, int threads) {
  call.dtype == DType::kFloat64 ? primal_of<double>(call, threads) : primal_of<float>(call, threads);
}

void norm_act_linear(const NormLinear& call, int threads) {
  call.dtype == DType::kFloat64 ? linear_of<double>(call, threads) : linear_of<float>(call, threads);
}

}  // namespace LATENTJAC_ISA
}  // namespace cpu
}  // namespace latentjac
