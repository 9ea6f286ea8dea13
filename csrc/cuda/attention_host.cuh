// Host side of the attention kernels: what a call becomes, and which kernel serves it.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <string>

#include "cuda/attention_plain.cuh"
#include "cuda/attention_walk.cuh"
#include "cuda/host.cuh"
#include "cuda/launch.cuh"

namespace latentjac {
namespace cuda {
namespace {

inline std::string shapes(const AttentionShape& s, int64_t probes) {
  return " (probes=" + std::to_string(probes) + ", batch=" + std::to_string(s.batch) +
         ", heads=" + std::to_string(s.heads) + ", queries=" + std::to_string(s.queries) +
         ", keys=" + std::to_string(s.keys) + ", channels=" + std::to_string(s.channels) +
         ", value_channels=" + std::to_string(s.value_channels) + ")";
}

inline Array array_of(const Strided& s, int64_t channels, int64_t value_bytes) {
  const int64_t odd = reinterpret_cast<intptr_t>(s.at) | (s.probe * value_bytes) | (s.batch * value_bytes) |
                      (s.head * value_bytes) | (s.row * value_bytes) | (channels * value_bytes);
  return {s, odd % 16 == 0};
}

// What all calls have in common.
template <typename Call>
Problem problem_of(const Call& call, int64_t probes, const std::string& where) {
  const AttentionShape& s = call.shape;
  for (const int64_t size : {s.queries, s.keys, s.channels, s.value_channels, probes}) {
    if (size < 0 || size > (int64_t{1} << 30)) throw std::runtime_error("attention: a size is out of range" + where);
  }
  Problem p = {};
  const int64_t bytes = value_bytes(s.dtype);
  p.q = array_of(call.q, s.channels, bytes);
  p.k = array_of(call.k, s.channels, bytes);
  p.v = array_of(call.v, s.value_channels, bytes);
  p.o = array_of(call.o, s.value_channels, bytes);
  p.bias = call.bias;
  p.lse = call.lse;
  p.heads = s.heads;
  p.queries = static_cast<int>(s.queries);
  p.keys = static_cast<int>(s.keys);
  p.channels = static_cast<int>(s.channels);
  p.value_channels = static_cast<int>(s.value_channels);
  p.probes = static_cast<int>(probes);
  p.scale = s.scale;
  p.scale1 = static_cast<float>(s.scale);
  p.scale2 = static_cast<float>(s.scale * 1.44269504088896340736);
  p.causal = s.causal;
  return p;
}

struct Target {
  int64_t heads;  // all of them, over the batch
  int64_t room;   // bytes of shared memory of a block
  cudaStream_t stream;
  const std::string& where;

  unsigned blocks(const Problem& p) const {
    const int64_t count = heads * p.blocks * p.chunks * p.groups;
    if (count >= int64_t{1} << 31) throw std::runtime_error("attention: too many blocks of work" + where);
    return static_cast<unsigned>(count);
  }
};

inline int ceil_div(int a, int b) {
  return (a + b - 1) / b;
}

// One launch, for `rows` and `channels` of a result.
template <typename C, template <typename> class Tiles>
void launch_tiles(void (*kernel)(Problem), const char* name, Problem p, int rows, int channels, const Target& to) {
  p.blocks = ceil_div(rows, kRows<C::M>);
  p.chunks = C::kWhole ? 1 : ceil_div(channels, C::W);
  p.groups = ceil_div(p.probes, C::G);
  const unsigned blocks = to.blocks(p);
  if (blocks == 0) return;
  check(allow_shared(kernel, Tiles<C>::kBytes), name, to.where);
  check(launch(kernel, blocks, kTileThreads, Tiles<C>::kBytes, to.stream, p), name, to.where);
}

// float64: a block a row.
inline void launch_plain(void (*kernel)(Problem), const char* name, Problem p, int rows, const Target& to) {
  p.blocks = rows;
  p.chunks = 1;
  p.groups = p.probes;
  if (const unsigned blocks = to.blocks(p))
    check(launch(kernel, blocks, kPlain, kPlain * sizeof(double), to.stream, p), name, to.where);
}

// M and G of the kernels for up to W channels, or for any number: the largest that 255 registers hold. float32 splits
// its values, which takes more of them, and its tiles leave room for two blocks on a multiprocessor with G = 1.
template <typename Kind, int W, bool kWhole>
struct Fit {
  static constexpr int M = kWhole ? 2 : 1, G = W == 64 && sizeof(Kind) == 2 ? 2 : 1;
};

// Runs Tiled<Kind, W, kWhole>::run(p, to) with what serves the kind, the channels and the device, or plain(p, to).
// Tiles of whole rows take up to 104 KB, which consumer GPUs do not have.
template <typename Kind, template <typename, int, bool> class Tiled>
void run_tiled(const Problem& p, const Target& to) {
  const int widest = std::max(p.channels, p.value_channels);
  if (widest <= 64 && Tiled<Kind, 64, true>::kBytes <= to.room) return Tiled<Kind, 64, true>::run(p, to);
  if constexpr (sizeof(Kind) == 2) {
    if (widest > 64 && widest <= 128 && Tiled<Kind, 128, true>::kBytes <= to.room)
      return Tiled<Kind, 128, true>::run(p, to);
  }
  Tiled<Kind, 64, false>::run(p, to);
}

template <template <typename, int, bool> class Tiled>
void run_kernels(const AttentionShape& shape, const Problem& p, const Target& to,
                 void (*plain)(const Problem&, const Target&)) {
  if (shape.dtype == DType::kFloat32 && shape.allow_tf32) return run_tiled<Tf32, Tiled>(p, to);
  with_types(shape.dtype, [&](auto types) {
    using Value = typename decltype(types)::value;
    if constexpr (__is_same(Value, double)) {
      plain(p, to);
    } else {
      run_tiled<Value, Tiled>(p, to);
    }
  });
}

}  // namespace
}  // namespace cuda
}  // namespace latentjac
