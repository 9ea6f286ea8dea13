// Group, layer and RMS norm fused with an activation: the primal, and the tangent or cotangent of many probes.
//
// Compiled once per instruction set (namespace LATENTJAC_ISA). The floor is memory: a pass over P probes has to
// read and write each tangent once, while xhat and a are shared. So the work is cut into tiles of one sample (or
// a few short ones) and a block of whole groups, small enough that t, xhat and a stay in the second-level cache
// between the sums and the result, and one thread runs all its probes over a tile before it takes the next.
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

constexpr int64_t kRows = 32;            // rows added up in the type itself before float64
constexpr int64_t kRun = 32;             // vectors a lane adds up before float64
constexpr int64_t kTileBytes = 3 << 18;  // t, xhat and a of one tile: 3/4 MB of a 1-2 MB cache
constexpr int64_t kMaxBlock = 1024;      // channels of a block, unless one group alone has more
constexpr int64_t kMinRunBytes = 256;    // of a row of a block: shorter runs starve the prefetcher

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

template <typename T>
struct TangentTerms {  // t and xhat * t
  const T *t, *xhat;
  template <typename V>
  inline void add(int64_t i, int64_t, V& first, V& second) const {
    const V value = get<V>(t + i);
    first += value;
    second += get<V>(xhat + i) * value;
  }
  template <typename V>
  static inline V get(const T* p) {
    if constexpr (sizeof(V) == sizeof(T))
      return *p;
    else
      return Vector<T>::load(p);
  }
};

template <typename T>
struct CotangentTerms {  // w = a * t and xhat * w
  const T *t, *xhat, *a;
  template <typename V>
  inline void add(int64_t i, int64_t, V& first, V& second) const {
    const V w = TangentTerms<T>::template get<V>(a + i) * TangentTerms<T>::template get<V>(t + i);
    first += w;
    second += TangentTerms<T>::template get<V>(xhat + i) * w;
  }
};

template <typename T>
struct RunTerms {  // x - mean and its square, one mean for all
  const T* x;
  T mean;
  template <typename V>
  inline void add(int64_t i, int64_t, V& first, V& second) const {
    const V value = TangentTerms<T>::template get<V>(x + i) - mean;
    first += value;
    second += value * value;
  }
};

template <typename T>
struct ColumnTerms {  // the same with a mean for each column
  const T *x, *mean;
  template <typename V>
  inline void add(int64_t i, int64_t c, V& first, V& second) const {
    const V value = TangentTerms<T>::template get<V>(x + i) - TangentTerms<T>::template get<V>(mean + c);
    first += value;
    second += value * value;
  }
};

// ---- Sums over a contiguous run: layer norm, and any norm of one group. ----

template <typename V, typename T>
inline double lanes_sum(const V& v) {
  double total = 0;
  for (int k = 0; k < Vector<T>::kWidth; ++k) total += static_cast<double>(v[k]);
  return total;
}

template <typename T, typename Terms>
inline void run_sums(const Terms& terms, int64_t begin, int64_t length, double& first, double& second) {
  using V = typename Vector<T>::type;
  constexpr int64_t kWidth = Vector<T>::kWidth;
  const int64_t end = begin + length;
  int64_t i = begin;
  double total0 = 0, total1 = 0;
  while (i + kWidth <= end) {
    V s0 = {}, s1 = {}, s2 = {}, s3 = {}, d0 = {}, d1 = {}, d2 = {}, d3 = {};
    const int64_t stop = smaller(end, i + 4 * kWidth * kRun);
    for (; i + 4 * kWidth <= stop; i += 4 * kWidth) {
      terms.add(i, 0, s0, d0);
      terms.add(i + kWidth, 0, s1, d1);
      terms.add(i + 2 * kWidth, 0, s2, d2);
      terms.add(i + 3 * kWidth, 0, s3, d3);
    }
    for (; i + kWidth <= stop; i += kWidth) terms.add(i, 0, s0, d0);
    total0 += lanes_sum<V, T>((s0 + s1) + (s2 + s3));
    total1 += lanes_sum<V, T>((d0 + d1) + (d2 + d3));
  }
  for (; i < end; ++i) {
    T s = 0, d = 0;
    terms.add(i, 0, s, d);
    total0 += static_cast<double>(s);
    total1 += static_cast<double>(d);
  }
  first = total0;
  second = total1;
}

// ---- Sums over positions, channel by channel: group norm. ----

// kCount vectors of columns from c stay in registers over the rows.
template <typename T, int kCount, typename Terms>
inline void column_sums(const Terms& terms, int64_t at, int64_t c, int64_t stride, int64_t rows, double* first,
                        double* second) {
  using V = typename Vector<T>::type;
  constexpr int64_t kWidth = Vector<T>::kWidth;
  V s[kCount] = {}, d[kCount] = {};
  for (int64_t r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int k = 0; k < kCount; ++k) terms.add(at + r * stride + k * kWidth, c + k * kWidth, s[k], d[k]);
  }
#pragma GCC unroll 4
  for (int k = 0; k < kCount; ++k) {
    for (int64_t j = 0; j < kWidth; ++j) {
      first[k * kWidth + j] += static_cast<double>(s[k][j]);
      second[k * kWidth + j] += static_cast<double>(d[k][j]);
    }
  }
}

// Sums of each of `width` columns over all rows into first and second.
template <typename T, typename Terms>
inline void block_sums(const Terms& terms, int64_t at, int64_t stride, int64_t rows, int64_t width, double* first,
                       double* second) {
  constexpr int64_t kWidth = Vector<T>::kWidth;
  for (int64_t c = 0; c < width; ++c) first[c] = second[c] = 0;
  for (int64_t r = 0; r < rows; r += kRows) {
    const int64_t count = smaller(kRows, rows - r), base = at + r * stride;
    int64_t c = 0;
    for (; c + 4 * kWidth <= width; c += 4 * kWidth)
      column_sums<T, 4>(terms, base + c, c, stride, count, first + c, second + c);
    for (; c + kWidth <= width; c += kWidth)
      column_sums<T, 1>(terms, base + c, c, stride, count, first + c, second + c);
    for (; c < width; ++c) {
      T s = 0, d = 0;
      for (int64_t k = 0; k < count; ++k) terms.add(base + c + k * stride, c, s, d);
      first[c] += static_cast<double>(s);
      second[c] += static_cast<double>(d);
    }
  }
}

// ---- How a call is cut into tiles. ----

struct Tiles {
  int64_t samples, positions, channels, groups;  // as the kernel sees them (a norm of one group has one position)
  int64_t group_width;                           // channels of a group
  int64_t block_groups, blocks;                  // groups of a block, blocks of a sample
  int64_t tile_samples, sample_tiles;
};

inline Tiles cut(int64_t samples, int64_t positions, int64_t channels, int64_t groups, int64_t size, int64_t items,
                 int threads) {
  Tiles t;
  const bool one_run = groups == 1;  // all positions and channels of a sample are one contiguous group
  t.samples = samples;
  t.positions = one_run ? 1 : positions;
  t.channels = one_run ? positions * channels : channels;
  t.groups = groups;
  t.group_width = t.channels / groups;
  const int64_t group_bytes = 3 * t.positions * t.group_width * size;
  int64_t fit = larger(1, kTileBytes / larger(1, group_bytes));
  fit = larger(fit, ceil_div(kMinRunBytes, t.group_width * size));
  // Few probes and samples: cut finer, so that every thread has about four tiles.
  fit = smaller(fit, larger(1, groups * samples * items / (4 * threads)));
  fit = smaller(fit, larger(1, kMaxBlock / t.group_width));
  t.block_groups = smaller(fit, groups);
  t.blocks = ceil_div(groups, t.block_groups);
  const int64_t block_bytes = group_bytes * t.block_groups;
  t.tile_samples = smaller(samples, larger(1, kTileBytes / larger(1, block_bytes)));
  t.tile_samples = smaller(t.tile_samples, larger(1, samples * items / (4 * threads)));
  t.sample_tiles = ceil_div(samples, t.tile_samples);
  return t;
}

template <typename T>
struct Scratch {  // per thread, for one block of at most `width` channels
  double *first, *second;
  T *mean, *dot;
  explicit Scratch(int64_t width)
      : first(
            static_cast<double*>(__builtin_malloc(static_cast<size_t>(width) * (2 * sizeof(double) + 2 * sizeof(T))))),
        second(first + width),
        mean(reinterpret_cast<T*>(second + width)),
        dot(mean + width) {}
  ~Scratch() { __builtin_free(first); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
};

// Channel sums -> means of their groups, spread back over the channels.
template <typename T>
inline void group_means(const Scratch<T>& s, int64_t width, int64_t group_width, double count, bool rms) {
  for (int64_t g = 0; g < width; g += group_width) {
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
  const Tiles& tiles;

  static inline T result(T t, T a, T xhat, T mean, T dot, T before) {
    const T value = kTranspose ? a * t - mean - xhat * dot : a * (t - mean - xhat * dot);
    return kAccumulate ? before + value : value;
  }

  template <typename Use>
  static inline void with_terms(const T* t, const T* xhat, const T* a, const Use& use) {
    if constexpr (kTranspose)
      use(CotangentTerms<T>{t, xhat, a});
    else
      use(TangentTerms<T>{t, xhat});
  }

  // One group that is one run: t, xhat, a, out point at its first element.
  inline void run(const T* t, const T* xhat, const T* a, T* out, int64_t length) const {
    double first, second;
    with_terms(t, xhat, a, [&](const auto& terms) { run_sums<T>(terms, 0, length, first, second); });
    const T mean = call.rms ? T(0) : static_cast<T>(first / static_cast<double>(length));
    const T dot = static_cast<T>(second / static_cast<double>(length));
#pragma GCC ivdep
    for (int64_t i = 0; i < length; ++i) out[i] = result(t[i], a[i], xhat[i], mean, dot, kAccumulate ? out[i] : T(0));
  }

  // A block of channels over all positions: t, xhat, a, out point at its first channel of position 0.
  inline void block(const T* t, const T* xhat, const T* a, T* out, int64_t width, const Scratch<T>& s) const {
    const int64_t stride = tiles.channels, rows = tiles.positions;
    with_terms(t, xhat, a, [&](const auto& terms) { block_sums<T>(terms, 0, stride, rows, width, s.first, s.second); });
    group_means(s, width, tiles.group_width, static_cast<double>(rows * tiles.group_width), call.rms);
    const T *mean = s.mean, *dot = s.dot;
    // Backwards: the rows summed last are the ones still in the first-level cache.
    for (int64_t r = rows - 1; r >= 0; --r) {
      const int64_t at = r * stride;
#pragma GCC ivdep
      for (int64_t c = at; c < at + width; ++c)
        out[c] = result(t[c], a[c], xhat[c], mean[c - at], dot[c - at], kAccumulate ? out[c] : T(0));
    }
  }

  inline void tile(int64_t probe, int64_t sample_tile, int64_t b, const Scratch<T>& s) const {
    const int64_t sample_size = tiles.positions * tiles.channels;
    const int64_t c0 = b * tiles.block_groups * tiles.group_width;
    const int64_t width = smaller(tiles.block_groups * tiles.group_width, tiles.channels - c0);
    const int64_t begin = sample_tile * tiles.tile_samples;
    const int64_t end = smaller(begin + tiles.tile_samples, tiles.samples);
    for (int64_t n = begin; n < end; ++n) {
      const int64_t shared = n * sample_size + c0, own = shared + probe * tiles.samples * sample_size;
      const T *t = static_cast<const T*>(call.t) + own, *a = static_cast<const T*>(call.a) + shared;
      const T* xhat = static_cast<const T*>(call.xhat) + shared;
      T* out = static_cast<T*>(call.out) + own;
      if (tiles.positions > 1) {
        block(t, xhat, a, out, width, s);
        continue;
      }
      for (int64_t c = 0; c < width; c += tiles.group_width) run(t + c, xhat + c, a + c, out + c, tiles.group_width);
    }
  }
};

template <typename T, bool kTranspose, bool kAccumulate>
void linear(const NormLinear& call, int threads) {
  const Tiles tiles = cut(call.samples, call.positions, call.channels, call.groups, sizeof(T), call.probes, threads);
  const Linear<T, kTranspose, kAccumulate> kernel{call, tiles};
  const int64_t tile_count = tiles.sample_tiles * tiles.blocks, items = tile_count * call.probes;
  const int64_t width = tiles.positions > 1 ? tiles.block_groups * tiles.group_width : 1;
#pragma omp parallel num_threads(threads)
  {
    const Scratch<T> scratch(width);
    // Probes run fastest, so a thread meets one tile's xhat and a for all its probes in a row.
#pragma omp for schedule(static)
    for (int64_t item = 0; item < items; ++item) {
      const int64_t tile = item / call.probes;
      kernel.tile(item % call.probes, tile / tiles.blocks, tile % tiles.blocks, scratch);
    }
  }
}

// ---- The primal. ----

template <typename T, Activation kAct>
struct Primal {
  const NormPrimal& call;
  const Tiles& tiles;

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
    const double count = static_cast<double>(tiles.group_width);
    double first, second;
    T mean = 0;
    if (!call.rms) {
      run_sums<T>(RunTerms<T>{x, T(0)}, 0, tiles.group_width, first, second);
      mean = static_cast<T>(first / count);
    }
    run_sums<T>(RunTerms<T>{x, mean}, 0, tiles.group_width, first, second);
    const T rstd = inverse_deviation(second, count);
    // A norm of one group over many positions: gamma repeats every call.channels.
    for (int64_t i = 0; i < tiles.group_width; i += call.channels)
      write<0>(at + i, n, c0, smaller(call.channels, tiles.group_width - i), &mean, &rstd);
  }

  inline void block(int64_t at, int64_t n, int64_t c0, int64_t width, const Scratch<T>& s) const {
    const T* x = static_cast<const T*>(call.x) + at;
    const int64_t stride = tiles.channels, rows = tiles.positions, group = tiles.group_width;
    const double count = static_cast<double>(rows * group);
    for (int64_t c = 0; c < width; ++c) s.mean[c] = T(0);
    if (!call.rms) {
      block_sums<T>(ColumnTerms<T>{x, s.mean}, 0, stride, rows, width, s.first, s.second);
      group_means(s, width, group, count, false);
    }
    block_sums<T>(ColumnTerms<T>{x, s.mean}, 0, stride, rows, width, s.first, s.second);
    for (int64_t g = 0; g < width; g += group) {
      double squares = 0;
      for (int64_t c = g; c < g + group; ++c) squares += s.second[c];
      const T rstd = inverse_deviation(squares, count);
      for (int64_t c = g; c < g + group; ++c) s.dot[c] = rstd;
    }
    for (int64_t r = rows - 1; r >= 0; --r) write<1>(at + r * stride, n, c0, width, s.mean, s.dot);
  }

  inline void tile(int64_t n, int64_t b, const Scratch<T>& s) const {
    const int64_t c0 = b * tiles.block_groups * tiles.group_width;
    const int64_t width = smaller(tiles.block_groups * tiles.group_width, tiles.channels - c0);
    const int64_t at = n * tiles.positions * tiles.channels + c0;
    if (tiles.positions > 1) return block(at, n, c0, width, s);
    for (int64_t c = 0; c < width; c += tiles.group_width) run(at + c, n, c0 + c);
  }
};

template <typename T, Activation kAct>
void primal(const NormPrimal& call, int threads) {
  const Tiles tiles = cut(call.samples, call.positions, call.channels, call.groups, sizeof(T), 1, threads);
  const Primal<T, kAct> kernel{call, tiles};
  const int64_t width = tiles.positions > 1 ? tiles.block_groups * tiles.group_width : 1;
#pragma omp parallel num_threads(threads)
  {
    const Scratch<T> scratch(width);
#pragma omp for schedule(static)
    for (int64_t item = 0; item < tiles.samples * tiles.blocks; ++item)
      kernel.tile(item / tiles.blocks, item % tiles.blocks, scratch);
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
