// How a norm is laid out over blocks, and the sums of one block.
//
// Two shapes of the same work, both without atomics, so every call gives the same bits:
//   positions > 1 ("chunked"): a block owns some rows of one (probe, sample) and all channels of some groups,
//     so a warp reads consecutive channels. A first kernel writes two sums per chunk and group to the workspace,
//     a second adds the chunks up and writes the result.
//   positions == 1 ("rows"): a warp owns one group of one row, and needs no workspace.
//
// Only blocks, threads, __syncthreads, shuffles and shared memory are used.
#pragma once

#include <stdexcept>
#include <string>

#include "cuda/device.cuh"

namespace latentjac {
namespace cuda {
namespace {

constexpr int64_t kChunkElements = 8192;    // of one block and probe: enough rows to pay for the block's own sums
constexpr int64_t kMaxTileChannels = 1024;  // 2 sums of 4-8 bytes a channel and probe stay under 48 KB of shared memory

struct Sizes {
  int64_t samples, positions, channels, groups, group_width;
  int64_t tile_channels, tile_groups, tiles;  // channels of a block: whole groups
  int64_t chunk_rows, chunks;                 // positions of a block
};

// The block (chunk, tile, item) of a chunked kernel; item counts samples, of one group of probes after the other.
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

// The group of a channel of a block. Both fit 32 bits; a division of 64 is a call of a long function.
__device__ inline uint32_t group_of(int64_t channel, int64_t group_width) {
  return static_cast<uint32_t>(channel) / static_cast<uint32_t>(group_width);
}

struct Partial {  // one chunk of one group: sums (linear) or mean and squares about it (primal)
  double first, second;
};

__device__ inline int64_t partial_index(const Sizes& s, int64_t item, int64_t group, int64_t chunk) {
  return (item * s.groups + group) * s.chunks + chunk;
}

// ---- Two sums per group over the rows of a block ----

// Adds up what each warp has of the kLanes * V channels from `base`: channel_sums[which * width + channel]. `columns`
// is shared scratch of 2 * kWarps * kLanes * V values.
template <int V, typename Co>
__device__ void column_sums(const Co* first, const Co* second, int64_t base, int64_t width, Co* columns,
                            Co* channel_sums) {
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
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
    if (channel < width) channel_sums[which * width + channel] = total;
  }
  __syncthreads();
}

// The two sums of the channels of group g.
template <typename Co>
__device__ inline Partial group_sums(const Co* channel_sums, int64_t width, int64_t group_width, int64_t g) {
  Partial sums{0, 0};
  for (int64_t c = g * group_width; c < (g + 1) * group_width; ++c) {
    sums.first += static_cast<double>(channel_sums[c]);
    sums.second += static_cast<double>(channel_sums[width + c]);
  }
  return sums;
}

// terms(row, channel, first[V], second[V]) adds V channels of one row. group_first[g], group_second[g]: the sums of the
// groups of this block, in shared memory.
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
    column_sums<V>(first, second, base, place.width, columns, channel_sums);
  }
  for (int64_t g = threadIdx.x; g < place.width / group_width; g += kThreads) {
    const Partial sums = group_sums(channel_sums, place.width, group_width, g);
    group_first[g] = sums.first;
    group_second[g] = sums.second;
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

// ---- Host side ----

inline std::string shapes(int64_t probes, int64_t n, int64_t s, int64_t c, int64_t g) {
  return " (probes=" + std::to_string(probes) + ", samples=" + std::to_string(n) + ", positions=" + std::to_string(s) +
         ", channels=" + std::to_string(c) + ", groups=" + std::to_string(g) + ")";
}

inline Sizes sizes_of(int64_t samples, int64_t positions, int64_t channels, int64_t groups) {
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

inline int64_t workspace_bytes(int64_t items, int64_t positions, int64_t channels, int64_t groups) {
  if (positions == 1) return 0;
  const Sizes s = sizes_of(1, positions, channels, groups);
  return items * groups * s.chunks * static_cast<int64_t>(sizeof(Partial));
}

inline unsigned blocks_of(const Sizes& s, int64_t items) {
  return static_cast<unsigned>(items * s.tiles * s.chunks);
}

constexpr size_t kMostShared = 48 * 1024;

inline std::runtime_error too_wide(const std::string& where) {
  return std::runtime_error(
      "norm_act: a group of more than about 2048 channels over several positions is not "
      "supported on CUDA" +
      where);
}

template <typename Co, int V>
size_t shared_bytes(const Sizes& s, const std::string& where) {
  const size_t bytes = Shared<Co, V>::bytes(s);
  if (bytes > kMostShared) throw too_wide(where);
  return bytes;
}

inline int64_t run_of(int64_t positions, int64_t channels, int64_t groups) {
  const Sizes s = sizes_of(1, positions, channels, groups);
  if (positions == 1) return s.group_width;
  return s.tiles == 1 ? channels : (channels % 4 == 0 ? s.tile_channels : 1);
}

}  // namespace
}  // namespace cuda
}  // namespace latentjac
