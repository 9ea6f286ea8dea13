// Gated activations on CUDA: see kernels.h for the formulas.
//
// A thread owns some channels of one row and takes up to kProbes probes through them, so that a and b are read once for
// all of these. Every value is read once and written once.
#include "cuda/device.cuh"
#include "cuda/host.cuh"
#include "cuda/launch.cuh"
#include "kernels.h"

namespace latentjac {
namespace cuda {
namespace {

constexpr int64_t kProbes = 8;  // more would leave too few threads for short rows

// Where a thread works: a pack of V channels of one row, and the probes of its block row.
struct Place {
  int64_t row, channel, first, last;
  bool outside;
  __device__ Place(int64_t probes, int64_t rows, int64_t packs, int width) {
    const int64_t pack = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    outside = pack >= rows * packs;
    row = pack / packs;
    channel = pack % packs * width;
    first = blockIdx.y * kProbes;
    last = min(first + kProbes, probes);
  }
};

template <typename Io, typename Co, int V>
__global__ void __launch_bounds__(kThreads) gated_tangent_kernel(GatedTangent call) {
  const Place place(call.probes, call.rows, call.channels / V, V);
  if (place.outside) return;
  const int64_t shared = place.row * call.channels + place.channel;
  const auto a = load<V>(static_cast<const Co*>(call.a) + shared);
  const auto b = load<V>(static_cast<const Co*>(call.b) + shared);
#pragma unroll 4
  for (int64_t p = place.first; p < place.last; ++p) {
    const int64_t at = p * call.rows + place.row;
    const auto value = load<V>(static_cast<const Io*>(call.value) + at * call.value_stride + place.channel);
    const auto gate = load<V>(static_cast<const Io*>(call.gate) + at * call.gate_stride + place.channel);
    Pack<Io, V> out;
#pragma unroll
    for (int v = 0; v < V; ++v)
      out.value[v] =
          from_float<Io>(a.value[v] * Co(to_float(value.value[v])) + b.value[v] * Co(to_float(gate.value[v])));
    store<V>(static_cast<Io*>(call.out) + at * call.channels + place.channel, out);
  }
}

template <typename Io, typename Co, int V>
__global__ void __launch_bounds__(kThreads) gated_cotangent_kernel(GatedCotangent call) {
  const Place place(call.probes, call.rows, call.channels / V, V);
  if (place.outside) return;
  const int64_t shared = place.row * call.channels + place.channel;
  const auto a = load<V>(static_cast<const Co*>(call.a) + shared);
  const auto b = load<V>(static_cast<const Co*>(call.b) + shared);
#pragma unroll 4
  for (int64_t p = place.first; p < place.last; ++p) {
    const int64_t at = p * call.rows + place.row;
    const auto u = load<V>(static_cast<const Io*>(call.u) + at * call.channels + place.channel);
    Pack<Io, V> value, gate;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      value.value[v] = from_float<Io>(a.value[v] * Co(to_float(u.value[v])));
      gate.value[v] = from_float<Io>(b.value[v] * Co(to_float(u.value[v])));
    }
    store<V>(static_cast<Io*>(call.value) + at * call.value_stride + place.channel, value);
    store<V>(static_cast<Io*>(call.gate) + at * call.gate_stride + place.channel, gate);
  }
}

// ---- Host side ----

template <typename Call>
std::string shapes(const Call& call) {
  return " (probes=" + std::to_string(call.probes) + ", rows=" + std::to_string(call.rows) +
         ", channels=" + std::to_string(call.channels) + ")";
}

template <typename Call>
dim3 grid(const Call& call, int width) {
  const int64_t packs = call.rows * (call.channels / width), groups = (call.probes + kProbes - 1) / kProbes;
  return dim3(static_cast<unsigned>((packs + kThreads - 1) / kThreads), static_cast<unsigned>(groups));
}

template <typename Io, typename Co, int V>
cudaError_t launch_of(const GatedTangent& call, cudaStream_t stream) {
  return launch(gated_tangent_kernel<Io, Co, V>, grid(call, V), kThreads, 0, stream, call);
}

template <typename Io, typename Co, int V>
cudaError_t launch_of(const GatedCotangent& call, cudaStream_t stream) {
  return launch(gated_cotangent_kernel<Io, Co, V>, grid(call, V), kThreads, 0, stream, call);
}

template <typename Io, typename Co, typename Call>
cudaError_t launch_packed(const Call& call, bool packed, cudaStream_t stream) {
  constexpr int kPack = sizeof(Co) == 8 ? 2 : 4;
  return packed ? launch_of<Io, Co, kPack>(call, stream) : launch_of<Io, Co, 1>(call, stream);
}

// Packs of four (float64: two) where all rows of all arrays begin at a multiple of them.
template <typename Call>
void launch_on(const Call& call, bool packed, int device, void* stream, const char* what) {
  const DeviceScope scope(device);
  const cudaError_t error = with_types(call.dtype, [&](auto types) {
    using Of = decltype(types);
    return launch_packed<typename Of::value, typename Of::arithmetic>(call, packed, static_cast<cudaStream_t>(stream));
  });
  check(error, what, shapes(call));
}

}  // namespace

void gated_tangent(const GatedTangent& call, void*, int device, void* stream) {
  const bool strides = call.value_stride % 4 == 0 && call.gate_stride % 4 == 0;
  const bool packed = strides && four_fit(call.channels, {call.value, call.gate, call.a, call.b, call.out});
  launch_on(call, packed, device, stream, "gated_tangent");
}

void gated_cotangent(const GatedCotangent& call, void*, int device, void* stream) {
  const bool strides = call.value_stride % 4 == 0 && call.gate_stride % 4 == 0;
  const bool packed = strides && four_fit(call.channels, {call.u, call.a, call.b, call.value, call.gate});
  launch_on(call, packed, device, stream, "gated_cotangent");
}

}  // namespace cuda
}  // namespace latentjac
