// The tangent or cotangent of many probes through a norm fused with an activation on CUDA: see kernels.h.
//
// The host sends the probes in batches that fit the second-level cache, so the second read of t does not go to memory:
// one read and one write of each tangent. A block takes several probes at once: a and xhat, which are twice as long as
// t in 16-bit types and read in both kernels, would otherwise be most of what that cache has to deliver.
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
  int64_t probes;
  bool rms, transpose, accumulate;
};

// The probes of a block, at most G: a thread reads its values of a and xhat once for all of them, and their values of t
// before it uses the first.
struct Together {
  int64_t probe, sample, step, own, common;  // own: where the first probe's values of this block begin
  int count;
  __device__ Together(const Place& place, const Sizes& s, int64_t probes, int most) {
    probe = place.item / s.samples * most;
    sample = place.item % s.samples;
    step = s.samples * s.positions * s.channels;
    common = (sample * s.positions + place.first_row) * s.channels + place.first_channel;
    own = probe * step + common;
    count = static_cast<int>(min(static_cast<int64_t>(most), probes - probe));
  }
  __device__ int64_t partial(const Sizes& s, const Place& place, int64_t g, int64_t group, int64_t chunk) const {
    return partial_index(s, (probe + g) * s.samples + sample, place.first_channel / s.group_width + group, chunk);
  }
};

// The same values of several probes: all loads are under way before the first is used.
template <int V, typename Io, int G>
__device__ inline void load_together(const Io* from, int64_t step, int count, Pack<Io, V> (&t)[G]) {
#pragma unroll
  for (int g = 0; g < G; ++g)
    if (g < count) t[g] = load<V>(from + g * step);
}

template <typename Io, typename Co, int V, int G>
__global__ void __launch_bounds__(kThreads) norm_linear_sums(LinearArrays<Io, Co> arrays, Sizes s, Partial* partials) {
  const Place place(s);
  const Together probes(place, s, arrays.probes, G);
  Co* columns = reinterpret_cast<Co*>(dynamic_shared());
  Co* channel_sums = columns + 2 * V * kThreads;
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  for (int64_t base = 0; base < place.width; base += kLanes * V) {
    const int64_t c = base + static_cast<int64_t>(lane) * V;
    Co first[G][V] = {}, second[G][V] = {};
    if (c < place.width) {
      for (int64_t r = warp; r < place.rows; r += kWarps) {
        const auto xhat = load<V>(arrays.xhat + probes.common + r * s.channels + c);
        Pack<Co, V> a;
        if (arrays.transpose) a = load<V>(arrays.a + probes.common + r * s.channels + c);
        Pack<Io, V> t[G] = {};
        load_together<V>(arrays.t + probes.own + r * s.channels + c, probes.step, probes.count, t);
#pragma unroll
        for (int g = 0; g < G; ++g) {
#pragma unroll
          for (int v = 0; v < V; ++v) {
            const Co value = to_float(t[g].value[v]), w = arrays.transpose ? a.value[v] * value : value;
            first[g][v] += w;
            second[g][v] += xhat.value[v] * w;
          }
        }
      }
    }
#pragma unroll
    for (int g = 0; g < G; ++g)  // not up to count, which would index registers
      column_sums<V>(first[g], second[g], base, place.width, columns, channel_sums + 2 * g * place.width);
  }
  const int groups = static_cast<int>(place.width / s.group_width);
  for (int k = threadIdx.x; k < probes.count * groups; k += kThreads) {
    const int g = k / groups, group = k % groups;
    partials[probes.partial(s, place, g, group, place.chunk)] =
        group_sums(channel_sums + 2 * g * place.width, place.width, s.group_width, group);
  }
}

template <typename Co>
__device__ inline Co linear_result(bool transpose, Co t, Co a, Co xhat, Co mean, Co dot) {
  return transpose ? a * t - mean - xhat * dot : a * (t - mean - xhat * dot);
}

template <typename Io, typename Co, int V>
__device__ inline void write_linear(const LinearArrays<Io, Co>& arrays, int64_t own, const Pack<Io, V>& t,
                                    const Pack<Co, V>& a, const Pack<Co, V>& xhat, const Co* mean, const Co* dot) {
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

template <typename Io, typename Co, int V, int G>
__device__ inline void write_together(const LinearArrays<Io, Co>& arrays, int64_t own, int64_t common, int64_t step,
                                      int count, const Co (&mean)[G][V], const Co (&dot)[G][V]) {
  const auto a = load<V>(arrays.a + common);
  const auto xhat = load<V>(arrays.xhat + common);
  Pack<Io, V> t[G] = {};
  load_together<V>(arrays.t + own, step, count, t);
#pragma unroll
  for (int g = 0; g < G; ++g)
    if (g < count) write_linear<Io, Co, V>(arrays, own + g * step, t[g], a, xhat, mean[g], dot[g]);
}

template <typename Io, typename Co, int V, int G>
__global__ void __launch_bounds__(kThreads)
    norm_linear_apply(LinearArrays<Io, Co> arrays, Sizes s, const Partial* partials) {
  const Place place(s);
  const Together probes(place, s, arrays.probes, G);
  double* means = reinterpret_cast<double*>(dynamic_shared());
  double* dots = means + G * s.tile_groups;
  const double total = static_cast<double>(s.positions * s.group_width);
  const int groups = static_cast<int>(place.width / s.group_width);
  for (int k = threadIdx.x; k < probes.count * groups; k += kThreads) {
    const int g = k / groups, group = k % groups;
    double first = 0, second = 0;
    for (int64_t chunk = 0; chunk < s.chunks; ++chunk) {
      const Partial p = partials[probes.partial(s, place, g, group, chunk)];
      first += p.first;
      second += p.second;
    }
    means[g * s.tile_groups + group] = arrays.rms ? 0.0 : first / total;
    dots[g * s.tile_groups + group] = second / total;
  }
  __syncthreads();
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  for (int64_t c = static_cast<int64_t>(lane) * V; c < place.width; c += kLanes * V) {
    Co mean[G][V] = {}, dot[G][V] = {};
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const int64_t group = group_of(c + v, s.group_width);
#pragma unroll
      for (int g = 0; g < G; ++g) {
        if (g >= probes.count) continue;
        mean[g][v] = static_cast<Co>(means[g * s.tile_groups + group]);
        dot[g][v] = static_cast<Co>(dots[g * s.tile_groups + group]);
      }
    }
    for (int64_t r = warp; r < place.rows; r += kWarps) {
      const int64_t at = r * s.channels + c;
      write_together<Io, Co, V, G>(arrays, probes.own + at, probes.common + at, probes.step, probes.count, mean, dot);
    }
  }
}

// ---- Rows: one warp a group of one row, for several probes ----

template <typename Io, typename Co, int V, int G>
__global__ void __launch_bounds__(kThreads) norm_linear_rows(LinearArrays<Io, Co> arrays, Sizes s) {
  const int lane = threadIdx.x % kLanes;
  const int64_t segments = s.samples * s.groups, step = segments * s.group_width;
  const int64_t place = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kLanes;
  const int64_t probe = place / segments * G, common = place % segments * s.group_width;
  if (probe >= arrays.probes) return;  // a whole warp leaves at once
  const int64_t own = probe * step + common;
  const int count = static_cast<int>(min(static_cast<int64_t>(G), arrays.probes - probe));
  Co first[G] = {}, second[G] = {};
  for (int64_t c = static_cast<int64_t>(lane) * V; c < s.group_width; c += kLanes * V) {
    const auto xhat = load<V>(arrays.xhat + common + c);
    Pack<Co, V> a;
    if (arrays.transpose) a = load<V>(arrays.a + common + c);
    Pack<Io, V> t[G] = {};
    load_together<V>(arrays.t + own + c, step, count, t);
#pragma unroll
    for (int g = 0; g < G; ++g) {
#pragma unroll
      for (int v = 0; v < V; ++v) {
        const Co value = to_float(t[g].value[v]), w = arrays.transpose ? a.value[v] * value : value;
        first[g] += w;
        second[g] += xhat.value[v] * w;
      }
    }
  }
  const double total = static_cast<double>(s.group_width);
  Co mean[G][V], dot[G][V];
#pragma unroll
  for (int g = 0; g < G; ++g) {
    const Co mean_all = static_cast<Co>(warp_sum(first[g]) / total),
             dot_all = static_cast<Co>(warp_sum(second[g]) / total);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      mean[g][v] = arrays.rms ? Co(0) : mean_all;
      dot[g][v] = dot_all;
    }
  }
  for (int64_t c = static_cast<int64_t>(lane) * V; c < s.group_width; c += kLanes * V)
    write_together<Io, Co, V, G>(arrays, own + c, common + c, step, count, mean, dot);
}

// ---- Host side ----

// Shared memory: scratch and the sums of every channel and probe; the sums of every group and probe.
template <typename Co, int V, int G>
size_t sums_bytes(const Sizes& s) {
  return sizeof(Co) * static_cast<size_t>(2 * V * kThreads + 2 * G * s.tile_channels);
}

template <int G>
size_t apply_bytes(const Sizes& s) {
  return 2 * sizeof(double) * static_cast<size_t>(G * s.tile_groups);
}

template <typename Co, int V, int G>
bool fits(const Sizes& s) {
  return sums_bytes<Co, V, G>(s) <= kMostShared && apply_bytes<G>(s) <= kMostShared;
}

template <typename Io, typename Co, int V, int G>
void launch_linear(const NormLinear& call, void* workspace, cudaStream_t stream, const std::string& where) {
  const Sizes s = sizes_of(call.samples, call.positions, call.channels, call.groups);
  const int64_t probe_size = call.samples * call.positions * call.channels;
  LinearArrays<Io, Co> arrays{static_cast<const Io*>(call.t),
                              static_cast<const Co*>(call.a),
                              static_cast<const Co*>(call.xhat),
                              static_cast<Io*>(call.out),
                              0,
                              call.rms,
                              call.transpose,
                              call.accumulate};
  if (call.positions == 1) {
    const int64_t warps = (call.probes + G - 1) / G * call.samples * call.groups;
    const unsigned blocks = static_cast<unsigned>((warps + kWarps - 1) / kWarps);
    arrays.probes = call.probes;
    return check(launch(norm_linear_rows<Io, Co, V, G>, blocks, kThreads, 0, stream, arrays, s), "norm_linear_rows",
                 where);
  }
  if (!fits<Co, V, G>(s)) throw too_wide(where);
  int64_t batch = kBatchBytes / (probe_size * static_cast<int64_t>(sizeof(Io))) / G * G;
  batch = batch < G ? G : batch;
  Partial* partials = static_cast<Partial*>(workspace);
  for (int64_t p = 0; p < call.probes; p += batch) {
    arrays.probes = p + batch < call.probes ? batch : call.probes - p;
    const unsigned blocks = blocks_of(s, (arrays.probes + G - 1) / G * call.samples);
    check(
        launch(norm_linear_sums<Io, Co, V, G>, blocks, kThreads, sums_bytes<Co, V, G>(s), stream, arrays, s, partials),
        "norm_linear_sums", where);
    check(launch(norm_linear_apply<Io, Co, V, G>, blocks, kThreads, apply_bytes<G>(s), stream, arrays, s, partials),
          "norm_linear_apply", where);
    arrays.t += arrays.probes * probe_size;
    arrays.out += arrays.probes * probe_size;
  }
}

template <typename Io, typename Co>
void linear(const NormLinear& call, void* workspace, cudaStream_t stream, const std::string& where) {
  constexpr int kPack = sizeof(Co) == 8 ? 2 : 4, kTogether = kPack;
  const int64_t run = run_of(call.positions, call.channels, call.groups);
  const bool room = call.positions == 1 ||
                    fits<Co, kPack, kTogether>(sizes_of(call.samples, call.positions, call.channels, call.groups));
  if (room && four_fit(run, {call.t, call.a, call.xhat, call.out}))
    return launch_linear<Io, Co, kPack, kTogether>(call, workspace, stream, where);
  launch_linear<Io, Co, 1, 1>(call, workspace, stream, where);
}

}  // namespace

int64_t norm_act_linear_workspace(const NormLinear& call, int) {
  return workspace_bytes(call.probes * call.samples, call.positions, call.channels, call.groups);
}

void norm_act_linear(const NormLinear& call, void* workspace, int device, void* stream_address) {
  const std::string where = shapes(call.probes, call.samples, call.positions, call.channels, call.groups);
  const DeviceScope scope(device);
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_address);
  with_types(call.dtype, [&](auto types) {
    using Of = decltype(types);
    linear<typename Of::value, typename Of::arithmetic>(call, workspace, stream, where);
  });
}

}  // namespace cuda
}  // namespace latentjac
