// The tangent or cotangent of many probes through a norm fused with an activation on CUDA: see kernels.h.
//
// The host sends the probes in batches that fit the second-level cache, so the second read of t does not go to memory:
// one read and one write of each tangent.
#include "cuda/host.cuh"
#include "cuda/launch.cuh"
#include "cuda/norm_plan.cuh"
#include "kernels.h"

namespace latentjac {
namespace cuda {
namespace {

constexpr int64_t kBatchBytes = 16 << 20;  // of t between the two kernels: a third of an H200's cache

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
  const Place place(s);
  const Shared<Co, V> shared(dynamic_shared(), s);
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
  const Place place(s);
  const Shared<Co, V> shared(dynamic_shared(), s);
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
      mean[v] = static_cast<Co>(shared.group_first[group_of(c + v, s.group_width)]);
      dot[v] = static_cast<Co>(shared.group_second[group_of(c + v, s.group_width)]);
    }
#pragma unroll 4
    for (int64_t r = warp; r < place.rows; r += kWarps)
      write_linear<Io, Co, V>(arrays, own + r * s.channels + c, common + r * s.channels + c, mean, dot);
  }
}

// ---- Rows: one warp a group of one row ----

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

// ---- Host side ----

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
    return check(launch(norm_linear_rows<Io, Co, V>, blocks, kThreads, 0, stream, arrays, s, segments),
                 "norm_linear_rows", where);
  }
  const size_t bytes = shared_bytes<Co, V>(s, where);
  int64_t batch = kBatchBytes / (probe_size * static_cast<int64_t>(sizeof(Io)));
  batch = batch < 1 ? 1 : batch;
  Partial* partials = static_cast<Partial*>(workspace);
  for (int64_t p = 0; p < call.probes; p += batch) {
    const int64_t probes = p + batch < call.probes ? batch : call.probes - p;
    const unsigned blocks = blocks_of(s, probes * call.samples);
    check(launch(norm_linear_sums<Io, Co, V>, blocks, kThreads, bytes, stream, arrays, s, partials), "norm_linear_sums",
          where);
    check(launch(norm_linear_apply<Io, Co, V>, blocks, kThreads, bytes, stream, arrays, s, partials),
          "norm_linear_apply", where);
    arrays.t += probes * probe_size;
    arrays.out += probes * probe_size;
  }
}

template <typename Io, typename Co>
void linear(const NormLinear& call, void* workspace, cudaStream_t stream, const std::string& where) {
  constexpr int kPack = sizeof(Co) == 8 ? 2 : 4;
  const int64_t run = run_of(call.positions, call.channels, call.groups);
  if (four_fit(run, {call.t, call.a, call.xhat, call.out}))
    return launch_linear<Io, Co, kPack>(call, workspace, stream, where);
  launch_linear<Io, Co, 1>(call, workspace, stream, where);
}

}  // namespace

int64_t norm_act_workspace(int64_t probes, int64_t samples, int64_t positions, int64_t channels, int64_t groups) {
  if (positions == 1) return 0;
  const Sizes s = sizes_of(samples, positions, channels, groups);
  return probes * samples * groups * s.chunks * static_cast<int64_t>(sizeof(Partial));
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
