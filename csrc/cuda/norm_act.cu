// Group, layer and RMS norm fused with an activation on CUDA: see kernels.h for the formulas.
//
// Two shapes of the same work, both without atomics, so every call gives the same bits:
//   positions > 1 ("chunked"): a block owns some rows of one (probe, sample) and all channels of some groups,
//     so a warp reads consecutive channels. A first kernel writes two sums per chunk and group to the workspace,
//     a second adds the chunks up and writes the result. The host sends the probes in batches that fit the
//     second-level cache, so the second read of t does not go to memory: one read and one write of each tangent.
//   positions == 1 ("rows"): a warp owns one group of one row, and needs no workspace.
//
// Only blocks, threads, __syncthreads, shuffles and shared memory are used.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <initializer_list>

#include <stdexcept>
#include <string>

#include "kernels.h"

namespace latentjac {
namespace cuda {
namespace {

constexpr int kLanes = 32;
constexpr int kWarps = 8;
constexpr int kThreads = kLanes * kWarps;
constexpr int64_t kChunkElements = 16384;   // of one block: enough rows to pay for the block's own sums
constexpr int64_t kMaxTileChannels = 2048;  // 2 sums of 4-8 bytes a channel stay under 48 KB of shared memory
constexpr int64_t kBatchBytes = 16 << 20;   // of t between the two kernels: a third of an H200's cache

__device__ inline float to_float(float v) {
  return v;
}
__device__ inline double to_float(double v) {
  return v;
}
__device__ inline float to_float(__nv_bfloat16 v) {
  return __bfloat162float(v);
}
__device__ inline float to_float(__half v) {
  return __half2float(v);
}

template <typename Io, typename Co>
__device__ inline Io from_float(Co v) {
  if constexpr (sizeof(Io) == sizeof(Co))
    return v;
  else if constexpr (__is_same(Io, __half))
    return __float2half(v);
  else
    return __float2bfloat16(v);
}

// V consecutive values in one load.
template <typename T, int V>
struct alignas(sizeof(T) * V) Pack {
  T value[V];
};

template <int V, typename T>
__device__ inline Pack<T, V> load(const T* from) {
  return *reinterpret_cast<const Pack<T, V>*>(from);
}

template <int V, typename T>
__device__ inline void store(T* to, const Pack<T, V>& pack) {
  *reinterpret_cast<Pack<T, V>*>(to) = pack;
}

// ---- Activations ----

__device__ inline float exponential(float x) {
  return expf(x);
}
__device__ inline double exponential(double x) {
  return exp(x);
}
__device__ inline float error_function(float x) {
  return erff(x);
}
__device__ inline double error_function(double x) {
  return erf(x);
}
__device__ inline float hyperbolic_tangent(float x) {
  return tanhf(x);
}
__device__ inline double hyperbolic_tangent(double x) {
  return tanh(x);
}

template <typename T>
__device__ inline void activate(Activation kind, T z, T& value, T& slope) {
  switch (kind) {
    case Activation::kSilu: {
      const T sigmoid = T(1) / (T(1) + exponential(-z));
      value = z * sigmoid;
      slope = sigmoid * (T(1) + z * (T(1) - sigmoid));
      return;
    }
    case Activation::kGelu: {
      const T cdf = T(0.5) * (T(1) + error_function(z * T(0.70710678118654752440)));
      value = z * cdf;
      slope = cdf + z * T(0.39894228040143267794) * exponential(T(-0.5) * z * z);
      return;
    }
    case Activation::kGeluTanh: {
      const T k = T(0.79788456080286535588), cubic = T(0.044715);
      const T t = hyperbolic_tangent(k * (z + cubic * z * z * z));
      value = T(0.5) * z * (T(1) + t);
      slope = T(0.5) * (T(1) + t) + T(0.5) * z * (T(1) - t * t) * k * (T(1) + T(3) * cubic * z * z);
      return;
    }
    case Activation::kRelu:
      value = z <= T(0) ? T(0) : z;
      slope = z <= T(0) ? T(0) : T(1);
      return;
    case Activation::kIdentity:
      value = z;
      slope = T(1);
      return;
  }
}

// ---- What a kernel works on ----

struct Sizes {
  int64_t samples, positions, channels, groups, group_width;
  int64_t tile_channels, tile_groups, tiles;  // channels of a block: whole groups
  int64_t chunk_rows, chunks;                 // positions of a block
};

// The block (chunk, tile, item) of a chunked kernel; item counts probe * samples + sample.
struct Place {
  int64_t item, tile, chunk, first_row, rows, first_channel, width;
  __device__ explicit Place(const Sizes& s) {
    int64_t block = blockIdx.x;
    chunk = block % s.chunks;
    block /= s.chunks;
    tile = block % s.tiles;
    item = block / s.tiles;
    first_row = chunk * s.chunk_rows;
    rows = min(s.chunk_rows, s.positions - first_row);
    first_channel = tile * s.tile_channels;
    width = min(s.tile_channels, s.channels - first_channel);
  }
};

struct Partial {  // one chunk of one group: sums (linear) or mean and squares about it (primal)
  double first, second;
};

__device__ inline int64_t partial_index(const Sizes& s, int64_t item, int64_t group, int64_t chunk) {
  return (item * s.groups + group) * s.chunks + chunk;
}

// ---- Two sums per group over the rows of a block ----

// terms(row, channel, first[V], second[V]) adds V channels of one row. group_sums[g] = {first, second} for the
// groups of this block, in shared memory; `columns` is shared scratch of 2 * kWarps * kLanes * V values.
template <int V, typename Co, typename Terms>
__device__ void block_sums(const Place& place, int64_t group_width, const Terms& terms, Co* columns, Co* channel_sums,
                           double* group_first, double* group_second) {
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  for (int64_t base = 0; base < place.width; base += kLanes * V) {
    const int64_t c = base + static_cast<int64_t>(lane) * V;
    Co first[V] = {}, second[V] = {};
    if (c < place.width) {
#pragma unroll 4
      for (int64_t r = warp; r < place.rows; r += kWarps) terms(r, c, first, second);
    }
#pragma unroll
    for (int v = 0; v < V; ++v) {
      columns[(v * kWarps + warp) * kLanes + lane] = first[v];
      columns[((V + v) * kWarps + warp) * kLanes + lane] = second[v];
    }
    __syncthreads();
    // 2 * V * kLanes column sums of kWarps values each.
    for (int k = threadIdx.x; k < 2 * V * kLanes; k += kThreads) {
      const int l = k % kLanes, v = (k / kLanes) % V, which = k / (kLanes * V);
      Co total = 0;
      for (int w = 0; w < kWarps; ++w) total += columns[((which * V + v) * kWarps + w) * kLanes + l];
      const int64_t channel = base + static_cast<int64_t>(l) * V + v;
      if (channel < place.width) channel_sums[which * place.width + channel] = total;
    }
    __syncthreads();
  }
  for (int64_t g = threadIdx.x; g < place.width / group_width; g += kThreads) {
    double first = 0, second = 0;
    for (int64_t c = g * group_width; c < (g + 1) * group_width; ++c) {
      first += static_cast<double>(channel_sums[c]);
      second += static_cast<double>(channel_sums[place.width + c]);
    }
    group_first[g] = first;
    group_second[g] = second;
  }
  __syncthreads();
}

// Dynamic shared memory of a chunked kernel: group sums (double), column scratch, channel sums.
template <typename Co, int V>
struct Shared {
  double *group_first, *group_second;
  Co *columns, *channel_sums;
  __device__ Shared(unsigned char* memory, const Sizes& s)
      : group_first(reinterpret_cast<double*>(memory)),
        group_second(group_first + s.tile_groups),
        columns(reinterpret_cast<Co*>(group_second + s.tile_groups)),
        channel_sums(columns + 2 * V * kThreads) {}
  static size_t bytes(const Sizes& s) {
    return 2 * sizeof(double) * s.tile_groups + sizeof(Co) * (2 * V * kThreads + 2 * s.tile_channels);
  }
};

// ---- Chunked: tangent and cotangent ----

template <typename Io, typename Co>
struct LinearArrays {
  const Io* t;
  const Co *a, *xhat;
  Io* out;
  bool rms, transpose, accumulate;
};

template <typename Io, typename Co, int V>
__global__ void __launch_bounds__(kThreads) norm_linear_sums(LinearArrays<Io, Co> arrays, Sizes s, Partial* partials) {
  extern __shared__ double dynamic_shared[];
  const Place place(s);
  const Shared<Co, V> shared(reinterpret_cast<unsigned char*>(dynamic_shared), s);
  const int64_t own = (place.item * s.positions + place.first_row) * s.channels + place.first_channel;
  const int64_t common = ((place.item % s.samples) * s.positions + place.first_row) * s.channels + place.first_channel;
  auto terms = [&](int64_t r, int64_t c, Co* first, Co* second) {
    const auto t = load<V>(arrays.t + own + r * s.channels + c);
    const auto xhat = load<V>(arrays.xhat + common + r * s.channels + c);
    Pack<Co, V> a;
    if (arrays.transpose) a = load<V>(arrays.a + common + r * s.channels + c);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const Co w = arrays.transpose ? a.value[v] * to_float(t.value[v]) : Co(to_float(t.value[v]));
      first[v] += w;
      second[v] += xhat.value[v] * w;
    }
  };
  block_sums<V, Co>(place, s.group_width, terms, shared.columns, shared.channel_sums, shared.group_first,
                    shared.group_second);
  for (int64_t g = threadIdx.x; g < place.width / s.group_width; g += kThreads) {
    const int64_t group = place.first_channel / s.group_width + g;
    partials[partial_index(s, place.item, group, place.chunk)] = {shared.group_first[g], shared.group_second[g]};
  }
}

template <typename Co>
__device__ inline Co linear_result(bool transpose, Co t, Co a, Co xhat, Co mean, Co dot) {
  return transpose ? a * t - mean - xhat * dot : a * (t - mean - xhat * dot);
}

template <typename Io, typename Co, int V>
__device__ inline void write_linear(const LinearArrays<Io, Co>& arrays, int64_t own, int64_t common, const Co* mean,
                                    const Co* dot) {
  const auto t = load<V>(arrays.t + own);
  const auto a = load<V>(arrays.a + common);
  const auto xhat = load<V>(arrays.xhat + common);
  Pack<Io, V> out;
  if (arrays.accumulate) out = load<V>(arrays.out + own);
#pragma unroll
  for (int v = 0; v < V; ++v) {
    Co value = linear_result(arrays.transpose, Co(to_float(t.value[v])), a.value[v], xhat.value[v], mean[v], dot[v]);
    if (arrays.accumulate) value += to_float(out.value[v]);
    out.value[v] = from_float<Io>(value);
  }
  store<V>(arrays.out + own, out);
}

template <typename Io, typename Co, int V>
__global__ void __launch_bounds__(kThreads)
    norm_linear_apply(LinearArrays<Io, Co> arrays, Sizes s, const Partial* partials) {
  extern __shared__ double dynamic_shared[];
  const Place place(s);
  const Shared<Co, V> shared(reinterpret_cast<unsigned char*>(dynamic_shared), s);
  const double count = static_cast<double>(s.positions * s.group_width);
  for (int64_t g = threadIdx.x; g < place.width / s.group_width; g += kThreads) {
    double first = 0, second = 0;
    for (int64_t chunk = 0; chunk < s.chunks; ++chunk) {
      const Partial p = partials[partial_index(s, place.item, place.first_channel / s.group_width + g, chunk)];
      first += p.first;
      second += p.second;
    }
    shared.group_first[g] = arrays.rms ? 0.0 : first / count;
    shared.group_second[g] = second / count;
  }
  __syncthreads();
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const int64_t own = (place.item * s.positions + place.first_row) * s.channels + place.first_channel;
  const int64_t common = ((place.item % s.samples) * s.positions + place.first_row) * s.channels + place.first_channel;
  for (int64_t c = static_cast<int64_t>(lane) * V; c < place.width; c += kLanes * V) {
    Co mean[V], dot[V];
#pragma unroll
    for (int v = 0; v < V; ++v) {
      mean[v] = static_cast<Co>(shared.group_first[(c + v) / s.group_width]);
      dot[v] = static_cast<Co>(shared.group_second[(c + v) / s.group_width]);
    }
#pragma unroll 4
    for (int64_t r = warp; r < place.rows; r += kWarps)
      write_linear<Io, Co, V>(arrays, own + r * s.channels + c, common + r * s.channels + c, mean, dot);
  }
}

// ---- Chunked: primal ----

template <typename Io, typename Co>
struct PrimalArrays {
  const Io* x;
  const Co *gamma, *beta;
  Io* y;
  Co *xhat, *a;
  int64_t gamma_stride, beta_stride;
  double eps;
  Activation activation;
  bool rms;
};

// A chunk's mean and its squares about that mean: sums that do not cancel, merged by norm_primal_apply.
template <typename Io, typename Co, int V>
__global__ void __launch_bounds__(kThreads) norm_primal_sums(PrimalArrays<Io, Co> arrays, Sizes s, Partial* partials) {
  extern __shared__ double dynamic_shared[];
  const Place place(s);
  const Shared<Co, V> shared(reinterpret_cast<unsigned char*>(dynamic_shared), s);
  const int64_t own = (place.item * s.positions + place.first_row) * s.channels + place.first_channel;
  const int64_t groups = place.width / s.group_width;
  const double count = static_cast<double>(place.rows * s.group_width);
  double* means = shared.group_first;
  for (int64_t g = threadIdx.x; g < groups; g += kThreads) means[g] = 0;
  __syncthreads();
  // One thread owns a group's entry of the workspace in both rounds, so it may read back what it wrote.
  for (int round = arrays.rms ? 1 : 0; round < 2; ++round) {
    auto terms = [&](int64_t r, int64_t c, Co* first, Co* second) {
      const auto x = load<V>(arrays.x + own + r * s.channels + c);
#pragma unroll
      for (int v = 0; v < V; ++v) {
        const Co mean = round == 0 ? Co(0) : static_cast<Co>(means[(c + v) / s.group_width]);
        const Co value = to_float(x.value[v]) - mean;
        first[v] += value;
        second[v] += value * value;
      }
    };
    // The sums go to the second array first: `means` is still being read.
    double* totals = shared.group_second;
    block_sums<V, Co>(place, s.group_width, terms, shared.columns, shared.channel_sums, shared.group_first, totals);
    for (int64_t g = threadIdx.x; g < groups; g += kThreads) {
      const int64_t at = partial_index(s, place.item, place.first_channel / s.group_width + g, place.chunk);
      if (round == 0) {
        const Co mean = static_cast<Co>(shared.group_first[g] / count);
        means[g] = mean;
        partials[at].first = mean;
      } else {
        // The mean was rounded to Co: the first sum is what rounding left over.
        const double rest = arrays.rms ? 0.0 : shared.group_first[g] / count;
        const double base = arrays.rms ? 0.0 : partials[at].first;
        partials[at] = {base + rest, totals[g] - count * rest * rest};
      }
    }
    __syncthreads();
  }
}

template <typename Io, typename Co, int V>
__device__ inline void write_primal(const PrimalArrays<Io, Co>& arrays, int64_t own, int64_t sample, int64_t channel,
                                    const Co* mean, const Co* rstd) {
  const auto x = load<V>(arrays.x + own);
  Pack<Co, V> xhat, a;
  Pack<Io, V> y;
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const Co scale = arrays.gamma ? arrays.gamma[sample * arrays.gamma_stride + channel + v] : Co(1);
    const Co shift = arrays.beta ? arrays.beta[sample * arrays.beta_stride + channel + v] : Co(0);
    xhat.value[v] = (to_float(x.value[v]) - mean[v]) * rstd[v];
    Co value, slope;
    activate(arrays.activation, xhat.value[v] * scale + shift, value, slope);
    a.value[v] = scale * rstd[v] * slope;
    y.value[v] = from_float<Io>(value);
  }
  store<V>(arrays.xhat + own, xhat);
  store<V>(arrays.a + own, a);
  if (arrays.y) store<V>(arrays.y + own, y);
}

template <typename Io, typename Co, int V>
__global__ void __launch_bounds__(kThreads)
    norm_primal_apply(PrimalArrays<Io, Co> arrays, Sizes s, const Partial* partials) {
  extern __shared__ double dynamic_shared[];
  const Place place(s);
  const Shared<Co, V> shared(reinterpret_cast<unsigned char*>(dynamic_shared), s);
  for (int64_t g = threadIdx.x; g < place.width / s.group_width; g += kThreads) {
    double count = 0, mean = 0, squares = 0;
    for (int64_t chunk = 0; chunk < s.chunks; ++chunk) {
      const Partial p = partials[partial_index(s, place.item, place.first_channel / s.group_width + g, chunk)];
      const int64_t rows = min(s.chunk_rows, s.positions - chunk * s.chunk_rows);
      const double added = static_cast<double>(rows * s.group_width), step = p.first - mean;
      squares += p.second + step * step * count * added / (count + added);
      count += added;
      mean += step * added / count;
    }
    shared.group_first[g] = mean;
    shared.group_second[g] = 1.0 / sqrt(squares / count + arrays.eps);
  }
  __syncthreads();
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const int64_t own = (place.item * s.positions + place.first_row) * s.channels + place.first_channel;
  for (int64_t c = static_cast<int64_t>(lane) * V; c < place.width; c += kLanes * V) {
    Co mean[V], rstd[V];
#pragma unroll
    for (int v = 0; v < V; ++v) {
      mean[v] = static_cast<Co>(shared.group_first[(c + v) / s.group_width]);
      rstd[v] = static_cast<Co>(shared.group_second[(c + v) / s.group_width]);
    }
    for (int64_t r = warp; r < place.rows; r += kWarps)
      write_primal<Io, Co, V>(arrays, own + r * s.channels + c, place.item, place.first_channel + c, mean, rstd);
  }
}

// ---- Rows: one warp a group of one row ----

template <typename Co>
__device__ inline double warp_sum(Co value) {
  double total = static_cast<double>(value);
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) total += __shfl_xor_sync(0xffffffffu, total, step);
  return total;
}

template <typename Io, typename Co, int V>
__global__ void __launch_bounds__(kThreads) norm_linear_rows(LinearArrays<Io, Co> arrays, Sizes s, int64_t segments) {
  const int lane = threadIdx.x % kLanes;
  const int64_t segment = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kLanes;
  if (segment >= segments) return;  // a whole warp leaves at once
  const int64_t own = segment * s.group_width, common = segment % (s.samples * s.groups) * s.group_width;
  Co first = 0, second = 0;
  for (int64_t c = static_cast<int64_t>(lane) * V; c < s.group_width; c += kLanes * V) {
    const auto t = load<V>(arrays.t + own + c);
    const auto xhat = load<V>(arrays.xhat + common + c);
    Pack<Co, V> a;
    if (arrays.transpose) a = load<V>(arrays.a + common + c);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const Co w = arrays.transpose ? a.value[v] * to_float(t.value[v]) : Co(to_float(t.value[v]));
      first += w;
      second += xhat.value[v] * w;
    }
  }
  const double count = static_cast<double>(s.group_width);
  const Co mean_all = static_cast<Co>(warp_sum(first) / count), dot_all = static_cast<Co>(warp_sum(second) / count);
  Co mean[V], dot[V];
#pragma unroll
  for (int v = 0; v < V; ++v) {
    mean[v] = arrays.rms ? Co(0) : mean_all;
    dot[v] = dot_all;
  }
  for (int64_t c = static_cast<int64_t>(lane) * V; c < s.group_width; c += kLanes * V)
    write_linear<Io, Co, V>(arrays, own + c, common + c, mean, dot);
}

template <typename Io, typename Co, int V>
__global__ void __launch_bounds__(kThreads) norm_primal_rows(PrimalArrays<Io, Co> arrays, Sizes s, int64_t segments) {
  const int lane = threadIdx.x % kLanes;
  const int64_t segment = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kLanes;
  if (segment >= segments) return;
  const int64_t own = segment * s.group_width, channel = segment % s.groups * s.group_width;
  const double count = static_cast<double>(s.group_width);
  Co mean_all = 0;
  if (!arrays.rms) {
    Co total = 0;
    for (int64_t c = lane; c < s.group_width; c += kLanes) total += to_float(arrays.x[own + c]);
    mean_all = static_cast<Co>(warp_sum(total) / count);
  }
  Co squares = 0;
  for (int64_t c = lane; c < s.group_width; c += kLanes) {
    const Co value = to_float(arrays.x[own + c]) - mean_all;
    squares += value * value;
  }
  const Co rstd_all = static_cast<Co>(1.0 / sqrt(warp_sum(squares) / count + arrays.eps));
  Co mean[V], rstd[V];
#pragma unroll
  for (int v = 0; v < V; ++v) {
    mean[v] = mean_all;
    rstd[v] = rstd_all;
  }
  for (int64_t c = static_cast<int64_t>(lane) * V; c < s.group_width; c += kLanes * V)
    write_primal<Io, Co, V>(arrays, own + c, segment / s.groups, channel + c, mean, rstd);
}

// ---- Host side ----

std::string shapes(int64_t probes, int64_t n, int64_t s, int64_t c, int64_t g) {
  return " (probes=" + std::to_string(probes) + ", samples=" + std::to_string(n) + ", positions=" + std::to_string(s) +
         ", channels=" + std::to_string(c) + ", groups=" + std::to_string(g) + ")";
}

void check(cudaError_t error, const char* what, const std::string& where) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string(what) + where + ": " + cudaGetErrorName(error) + ": " +
                           cudaGetErrorString(error));
}

// Makes `device` current, and puts the caller's device back.
class DeviceScope {
 public:
  explicit DeviceScope(int device) {
    check(cudaGetDevice(&before_), "cudaGetDevice", "");
    if (before_ != device) check(cudaSetDevice(device), "cudaSetDevice", " " + std::to_string(device));
  }
  ~DeviceScope() { cudaSetDevice(before_); }
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  int before_ = 0;
};

Sizes sizes_of(int64_t samples, int64_t positions, int64_t channels, int64_t groups) {
  Sizes s;
  s.samples = samples;
  s.positions = positions;
  s.channels = channels;
  s.groups = groups;
  s.group_width = channels / groups;
  s.tile_groups = kMaxTileChannels / s.group_width;
  s.tile_groups = s.tile_groups < 1 ? 1 : (s.tile_groups > groups ? groups : s.tile_groups);
  s.tile_channels = s.tile_groups * s.group_width;
  s.tiles = (groups + s.tile_groups - 1) / s.tile_groups;
  s.chunk_rows = kChunkElements / s.tile_channels;
  if (s.chunk_rows < kWarps) s.chunk_rows = kWarps;
  if (s.chunk_rows > positions) s.chunk_rows = positions;
  s.chunks = (positions + s.chunk_rows - 1) / s.chunk_rows;
  return s;
}

unsigned blocks_of(const Sizes& s, int64_t items) {
  return static_cast<unsigned>(items * s.tiles * s.chunks);
}

template <typename Co, int V>
size_t shared_bytes(const Sizes& s, const std::string& where) {
  const size_t bytes = Shared<Co, V>::bytes(s);
  if (bytes > 48 * 1024)
    throw std::runtime_error(
        "norm_act: a group of more than about 2048 channels over several positions is not "
        "supported on CUDA" +
        where);
  return bytes;
}

template <typename Io, typename Co, int V>
void launch_linear(const NormLinear& call, void* workspace, cudaStream_t stream, const std::string& where) {
  const Sizes s = sizes_of(call.samples, call.positions, call.channels, call.groups);
  const int64_t probe_size = call.samples * call.positions * call.channels;
  LinearArrays<Io, Co> arrays{static_cast<const Io*>(call.t),
                              static_cast<const Co*>(call.a),
                              static_cast<const Co*>(call.xhat),
                              static_cast<Io*>(call.out),
                              call.rms,
                              call.transpose,
                              call.accumulate};
  if (call.positions == 1) {
    const int64_t segments = call.probes * call.samples * call.groups;
    const unsigned blocks = static_cast<unsigned>((segments + kWarps - 1) / kWarps);
    norm_linear_rows<Io, Co, V><<<blocks, kThreads, 0, stream>>>(arrays, s, segments);
    return check(cudaGetLastError(), "norm_linear_rows", where);
  }
  const size_t bytes = shared_bytes<Co, V>(s, where);
  int64_t batch = kBatchBytes / (probe_size * static_cast<int64_t>(sizeof(Io)));
  batch = batch < 1 ? 1 : batch;
  Partial* partials = static_cast<Partial*>(workspace);
  for (int64_t p = 0; p < call.probes; p += batch) {
    const int64_t probes = p + batch < call.probes ? batch : call.probes - p;
    const unsigned blocks = blocks_of(s, probes * call.samples);
    norm_linear_sums<Io, Co, V><<<blocks, kThreads, bytes, stream>>>(arrays, s, partials);
    check(cudaGetLastError(), "norm_linear_sums", where);
    norm_linear_apply<Io, Co, V><<<blocks, kThreads, bytes, stream>>>(arrays, s, partials);
    check(cudaGetLastError(), "norm_linear_apply", where);
    arrays.t += probes * probe_size;
    arrays.out += probes * probe_size;
  }
}

template <typename Io, typename Co, int V>
void launch_primal(const NormPrimal& call, void* workspace, cudaStream_t stream, const std::string& where) {
  const Sizes s = sizes_of(call.samples, call.positions, call.channels, call.groups);
  const PrimalArrays<Io, Co> arrays{static_cast<const Io*>(call.x),
                                    static_cast<const Co*>(call.gamma),
                                    static_cast<const Co*>(call.beta),
                                    static_cast<Io*>(call.y),
                                    static_cast<Co*>(call.xhat),
                                    static_cast<Co*>(call.a),
                                    call.gamma_stride,
                                    call.beta_stride,
                                    call.eps,
                                    call.activation,
                                    call.rms};
  if (call.positions == 1) {
    const int64_t segments = call.samples * call.groups;
    const unsigned blocks = static_cast<unsigned>((segments + kWarps - 1) / kWarps);
    norm_primal_rows<Io, Co, V><<<blocks, kThreads, 0, stream>>>(arrays, s, segments);
    return check(cudaGetLastError(), "norm_primal_rows", where);
  }
  const size_t bytes = shared_bytes<Co, V>(s, where);
  Partial* partials = static_cast<Partial*>(workspace);
  norm_primal_sums<Io, Co, V><<<blocks_of(s, call.samples), kThreads, bytes, stream>>>(arrays, s, partials);
  check(cudaGetLastError(), "norm_primal_sums", where);
  norm_primal_apply<Io, Co, V><<<blocks_of(s, call.samples), kThreads, bytes, stream>>>(arrays, s, partials);
  check(cudaGetLastError(), "norm_primal_apply", where);
}

// Four values a load where every run of channels that a lane walks is a multiple of four and aligned.
bool four_fit(int64_t run, std::initializer_list<const void*> arrays) {
  for (const void* p : arrays) {
    if (reinterpret_cast<uintptr_t>(p) % 16 != 0) return false;
  }
  return run % 4 == 0;
}

int64_t run_of(int64_t positions, int64_t channels, int64_t groups) {
  const Sizes s = sizes_of(1, positions, channels, groups);
  if (positions == 1) return s.group_width;
  return s.tiles == 1 ? channels : (channels % 4 == 0 ? s.tile_channels : 1);
}

template <typename Io, typename Co>
void linear(const NormLinear& call, void* workspace, cudaStream_t stream, const std::string& where) {
  constexpr int kPack = sizeof(Co) == 8 ? 2 : 4;
  const int64_t run = run_of(call.positions, call.channels, call.groups);
  if (four_fit(run, {call.t, call.a, call.xhat, call.out}))
    return launch_linear<Io, Co, kPack>(call, workspace, stream, where);
  launch_linear<Io, Co, 1>(call, workspace, stream, where);
}

template <typename Io, typename Co>
void primal(const NormPrimal& call, void* workspace, cudaStream_t stream, const std::string& where) {
  constexpr int kPack = sizeof(Co) == 8 ? 2 : 4;
  const int64_t run = run_of(call.positions, call.channels, call.groups);
  if (four_fit(run, {call.x, call.y, call.xhat, call.a}))
    return launch_primal<Io, Co, kPack>(call, workspace, stream, where);
  launch_primal<Io, Co, 1>(call, workspace, stream, where);
}

}  // namespace

int64_t norm_act_workspace(int64_t probes, int64_t samples, int64_t positions, int64_t channels, int64_t groups) {
  if (positions == 1) return 0;
  const Sizes s = sizes_of(samples, positions, channels, groups);
  return probes * samples * groups * s.chunks * static_cast<int64_t>(sizeof(Partial));
}

void norm_act_primal(const NormPrimal& call, void* workspace, int device, void* stream_address) {
  const std::string where = shapes(1, call.samples, call.positions, call.channels, call.groups);
  const DeviceScope scope(device);
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_address);
  switch (call.dtype) {
    case DType::kFloat32:
      return primal<float, float>(call, workspace, stream, where);
    case DType::kFloat64:
      return primal<double, double>(call, workspace, stream, where);
    case DType::kBFloat16:
      return primal<__nv_bfloat16, float>(call, workspace, stream, where);
    case DType::kFloat16:
      return primal<__half, float>(call, workspace, stream, where);
  }
}

void norm_act_linear(const NormLinear& call, void* workspace, int device, void* stream_address) {
  const std::string where = shapes(call.probes, call.samples, call.positions, call.channels, call.groups);
  const DeviceScope scope(device);
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_address);
  switch (call.dtype) {
    case DType::kFloat32:
      return linear<float, float>(call, workspace, stream, where);
    case DType::kFloat64:
      return linear<double, double>(call, workspace, stream, where);
    case DType::kBFloat16:
      return linear<__nv_bfloat16, float>(call, workspace, stream, where);
    case DType::kFloat16:
      return linear<__half, float>(call, workspace, stream, where);
  }
}

}  // namespace cuda
}  // namespace latentjac
