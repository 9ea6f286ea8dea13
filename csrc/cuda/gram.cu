// Gram matrices of long rows on CUDA, in float64: see kernels.h.
//
// A block owns a tile of the result and a range of columns, which its warps share; the tiles of one range are
// neighbours in the grid, so that all but the first find their rows in the cache. A second kernel adds the ranges in
// their order: the same bits every time. Values become float64 in registers, products go to the tensor cores.
//
// The sum does not mind the order of columns, so lane 4 g + t of a fragment loads four neighbours at once, columns
// 4 t .. 4 t + 3 of row g, and product v takes the v-th of all lanes: of a and of b the same columns.
#include <algorithm>

#include "cuda/launch.cuh"
#include "cuda/mma.cuh"
#include "cuda/rows.cuh"

namespace latentjac {
namespace cuda {
namespace {

constexpr int kStep = 16;               // columns that a warp takes at once
constexpr int64_t kLeastColumns = 512;  // of a range
constexpr int64_t kBlocks = 1024;       // about so many in all: two for each place on an H200

struct Ranges {
  int64_t tiles_a, tiles_b, count, columns;
};

int64_t tile_columns(int64_t b_rows) {
  return b_rows <= 16 ? 16 : 32;
}

// For a_rows >= b_rows.
Ranges ranges_of(int64_t points, int64_t a_rows, int64_t b_rows, int64_t length) {
  const int64_t tiles_a = tiles_of(a_rows, kTileRows), tiles_b = tiles_of(b_rows, tile_columns(b_rows));
  const int64_t wished = std::max<int64_t>(1, kBlocks / (points * tiles_a * tiles_b));
  const int64_t unit = kStep * kRowWarps;
  const int64_t columns = std::max(kLeastColumns, tiles_of(tiles_of(length, wished), unit) * unit);
  return {tiles_a, tiles_b, tiles_of(length, columns), columns};
}

// Sums of a tile of 32 by 8 kN over the columns of one warp.
template <typename Io, bool kPacked, int kN>
__device__ inline void multiply(const Gram& call, int64_t first_a, int64_t first_b, int64_t column, int64_t end,
                                double (&sums)[4][kN][2]) {
  const int lane = threadIdx.x % kLanes, g = lane / 4, t = lane % 4;
  const Io *a[4], *b[kN];
  // Rows past the last are the last one again; what comes of them is not written.
#pragma unroll
  for (int i = 0; i < 4; ++i)
    a[i] = static_cast<const Io*>(call.a.at) + blockIdx.y * call.a.point +
           min(first_a + 8 * i + g, call.a_rows - 1) * call.a.row;
#pragma unroll
  for (int j = 0; j < kN; ++j)
    b[j] = static_cast<const Io*>(call.b.at) + blockIdx.y * call.b.point +
           min(first_b + 8 * j + g, call.b_rows - 1) * call.b.row;
  for (; column < end; column += kStep * kRowWarps) {
    Pack<Io, 4> left[4], right[kN];
#pragma unroll
    for (int i = 0; i < 4; ++i) left[i] = load_four<kPacked>(a[i], column + 4 * t, end);
#pragma unroll
    for (int j = 0; j < kN; ++j) right[j] = load_four<kPacked>(b[j], column + 4 * t, end);
#pragma unroll
    for (int v = 0; v < 4; ++v) {
      double wide[kN];
#pragma unroll
      for (int j = 0; j < kN; ++j) wide[j] = to_float(right[j].value[v]);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const double value = to_float(left[i].value[v]);
#pragma unroll
        for (int j = 0; j < kN; ++j) mma_double(sums[i][j], value, wide[j]);
      }
    }
  }
}

template <typename Io, bool kPacked, int kN>
__global__ void __launch_bounds__(kRowThreads) gram_ranges(Gram call, Ranges ranges, double* partials) {
  const int64_t tile = blockIdx.x % (ranges.tiles_a * ranges.tiles_b);
  const int64_t range = blockIdx.x / (ranges.tiles_a * ranges.tiles_b);
  const int64_t first_a = tile / ranges.tiles_b * kTileRows, first_b = tile % ranges.tiles_b * (8 * kN);
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const int64_t end = min((range + 1) * ranges.columns, call.length);
  double sums[4][kN][2] = {};
  multiply<Io, kPacked, kN>(call, first_a, first_b, range * ranges.columns + warp * kStep, end, sums);

  constexpr int kEntries = kTileRows * 8 * kN;
  double* shared = reinterpret_cast<double*>(dynamic_shared());  // a tile for each warp
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < kN; ++j) {
      double* at = shared + warp * kEntries + (8 * i + lane / 4) * (8 * kN) + 8 * j + lane % 4 * 2;
      at[0] = sums[i][j][0];
      at[1] = sums[i][j][1];
    }
  }
  __syncthreads();
  double* out = partials + (blockIdx.y * ranges.count + range) * call.a_rows * call.b_rows;
  for (int e = threadIdx.x; e < kEntries; e += kRowThreads) {
    const int64_t row = first_a + e / (8 * kN), column = first_b + e % (8 * kN);
    double total = 0;
#pragma unroll
    for (int w = 0; w < kRowWarps; ++w) total += shared[w * kEntries + e];
    if (row < call.a_rows && column < call.b_rows) out[row * call.b_rows + column] = total;
  }
}

// A lane owns an entry of the result, the warps of a block share its ranges.
__global__ void __launch_bounds__(kThreads) gram_sum(Gram call, int64_t ranges, const double* partials, bool swapped) {
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const int64_t entries = call.a_rows * call.b_rows, entry = static_cast<int64_t>(blockIdx.x) * kLanes + lane;
  const double* from = partials + blockIdx.y * ranges * entries + entry;
  double total = 0;
  if (entry < entries) {
#pragma unroll 8
    for (int64_t range = warp; range < ranges; range += kWarps) total += from[range * entries];
  }
  double* shared = reinterpret_cast<double*>(dynamic_shared());
  shared[threadIdx.x] = total;
  __syncthreads();
  if (warp != 0 || entry >= entries) return;
  total = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) total += shared[w * kLanes + lane];
  const int64_t row = entry / call.b_rows, column = entry % call.b_rows;
  call.out[blockIdx.y * entries + (swapped ? column * call.a_rows + row : entry)] = total;
}

// ---- Host side ----

template <typename Io, bool kPacked, int kN>
cudaError_t launch_ranges(const Gram& call, const Ranges& ranges, double* partials, cudaStream_t stream) {
  const dim3 blocks(static_cast<unsigned>(ranges.tiles_a * ranges.tiles_b * ranges.count),
                    static_cast<unsigned>(call.points));
  constexpr size_t kBytes = kRowWarps * kTileRows * 8 * kN * sizeof(double);
  return launch(gram_ranges<Io, kPacked, kN>, blocks, kRowThreads, kBytes, stream, call, ranges, partials);
}

template <typename Io>
cudaError_t launch_typed(const Gram& call, const Ranges& ranges, double* partials, cudaStream_t stream) {
  const bool packed = call.length % 4 == 0 && four_fit(call.a, call.dtype) && four_fit(call.b, call.dtype);
  if (tile_columns(call.b_rows) == 16)
    return packed ? launch_ranges<Io, true, 2>(call, ranges, partials, stream)
                  : launch_ranges<Io, false, 2>(call, ranges, partials, stream);
  return packed ? launch_ranges<Io, true, 4>(call, ranges, partials, stream)
                : launch_ranges<Io, false, 4>(call, ranges, partials, stream);
}

}  // namespace

int64_t gram_workspace(const Gram& call, int) {
  const int64_t wide = std::max(call.a_rows, call.b_rows), narrow = std::min(call.a_rows, call.b_rows);
  const Ranges ranges = ranges_of(call.points, wide, narrow, call.length);
  return call.points * ranges.count * wide * narrow * static_cast<int64_t>(sizeof(double));
}

void gram(const Gram& given, void* workspace, int device, void* stream_address) {
  Gram call = given;
  const bool swapped = call.a_rows < call.b_rows;  // the narrow side is b: its tiles come in two widths
  if (swapped) {
    std::swap(call.a, call.b);
    std::swap(call.a_rows, call.b_rows);
  }
  const std::string where = " (points=" + std::to_string(given.points) + ", rows=" + std::to_string(given.a_rows) +
                            " and " + std::to_string(given.b_rows) + ", length=" + std::to_string(given.length) + ")";
  const Ranges ranges = ranges_of(call.points, call.a_rows, call.b_rows, call.length);
  const DeviceScope scope(device);
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_address);
  double* partials = static_cast<double*>(workspace);
  const cudaError_t error = with_types(call.dtype, [&](auto types) {
    return launch_typed<typename decltype(types)::value>(call, ranges, partials, stream);
  });
  check(error, "gram_ranges", where);
  const dim3 blocks(static_cast<unsigned>(tiles_of(call.a_rows * call.b_rows, kLanes)),
                    static_cast<unsigned>(call.points));
  check(launch(gram_sum, blocks, kThreads, kThreads * sizeof(double), stream, call, ranges.count, partials, swapped),
        "gram_sum", where);
}

}  // namespace cuda
}  // namespace latentjac
