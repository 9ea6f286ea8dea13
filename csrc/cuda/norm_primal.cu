// Group, layer and RMS norm fused with an activation on CUDA, and what the tangents of all probes share: see kernels.h.
#include "activation.h"
#include "cuda/host.cuh"
#include "cuda/launch.cuh"
#include "cuda/norm_plan.cuh"
#include "kernels.h"

namespace latentjac {
namespace cuda {
namespace {

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
  const Place place(s);
  const Shared<Co, V> shared(dynamic_shared(), s);
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
        const Co mean = round == 0 ? Co(0) : static_cast<Co>(means[group_of(c + v, s.group_width)]);
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
    const Co z = xhat.value[v] * scale + shift;
    with_activation(arrays.activation, [&](auto kind) { activate<decltype(kind)::value>(z, value, slope); });
    a.value[v] = scale * rstd[v] * slope;
    y.value[v] = from_float<Io>(value);
  }
  store_whole<V>(arrays.xhat + own, xhat);
  store_whole<V>(arrays.a + own, a);
  if (arrays.y) store_whole<V>(arrays.y + own, y);
}

template <typename Io, typename Co, int V>
__global__ void __launch_bounds__(kThreads)
    norm_primal_apply(PrimalArrays<Io, Co> arrays, Sizes s, const Partial* partials) {
  const Place place(s);
  const Shared<Co, V> shared(dynamic_shared(), s);
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
      mean[v] = static_cast<Co>(shared.group_first[group_of(c + v, s.group_width)]);
      rstd[v] = static_cast<Co>(shared.group_second[group_of(c + v, s.group_width)]);
    }
    for (int64_t r = warp; r < place.rows; r += kWarps)
      write_primal<Io, Co, V>(arrays, own + r * s.channels + c, place.item, place.first_channel + c, mean, rstd);
  }
}

// ---- Rows: one warp a group of one row ----

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
    return check(launch(norm_primal_rows<Io, Co, V>, blocks, kThreads, 0, stream, arrays, s, segments),
                 "norm_primal_rows", where);
  }
  const size_t bytes = shared_bytes<Co, V>(s, where);
  const unsigned blocks = blocks_of(s, call.samples);
  Partial* partials = static_cast<Partial*>(workspace);
  check(launch(norm_primal_sums<Io, Co, V>, blocks, kThreads, bytes, stream, arrays, s, partials), "norm_primal_sums",
        where);
  check(launch(norm_primal_apply<Io, Co, V>, blocks, kThreads, bytes, stream, arrays, s, partials), "norm_primal_apply",
        where);
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

int64_t norm_act_primal_workspace(const NormPrimal& call, int) {
  return workspace_bytes(call.samples, call.positions, call.channels, call.groups);
}

void norm_act_primal(const NormPrimal& call, void* workspace, int device, void* stream_address) {
  const std::string where = shapes(1, call.samples, call.positions, call.channels, call.groups);
  const DeviceScope scope(device);
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_address);
  with_types(call.dtype, [&](auto types) {
    using Of = decltype(types);
    primal<typename Of::value, typename Of::arithmetic>(call, workspace, stream, where);
  });
}

}  // namespace cuda
}  // namespace latentjac
