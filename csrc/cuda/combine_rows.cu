// Linear combinations of long rows on CUDA, with weights and sums in float64: see kernels.h.
//
// A warp owns 32 results by 32 columns and takes them through all rows, four at a time, on the tensor cores. Warps that
// share columns are neighbours, so each row is read from memory once.
//
// Columns may stand in any order in a fragment: lane 4 g + t loads columns 4 g .. 4 g + 3 of row t, product v takes the
// v-th of all lanes, and of the results the lane then holds columns 8 t .. 8 t + 7: vectors both ways.
#include "cuda/launch.cuh"
#include "cuda/mma.cuh"
#include "cuda/rows.cuh"

namespace latentjac {
namespace cuda {
namespace {

constexpr int kColumns = 32;

// sums += weights times rows, for results from `first` on and columns from `column` on.
template <typename Io, bool kPacked>
__device__ inline void add_rows(const CombineRows& call, const WeightedRows& from, int64_t first, int64_t column,
                                double (&sums)[4][4][2]) {
  const int lane = threadIdx.x % kLanes, g = lane / 4, t = lane % 4;
  const Io* rows = static_cast<const Io*>(from.rows.at) + blockIdx.y * from.rows.point;
  const double* weights = from.weights + blockIdx.y * from.point + (first + g) * from.result;
#pragma unroll 4
  for (int64_t row = t; row < from.count + t; row += 4) {
    const bool inside = row < from.count;
    const auto values = load_four<kPacked>(rows + row * from.rows.row, column + 4 * g, inside ? call.length : 0);
    double weight[4];
#pragma unroll
    for (int i = 0; i < 4; ++i)
      weight[i] = inside && first + 8 * i + g < call.results ? weights[8 * i * from.result + row * from.row] : 0;
#pragma unroll
    for (int v = 0; v < 4; ++v) {
      const double value = to_float(values.value[v]);
#pragma unroll
      for (int i = 0; i < 4; ++i) mma_double(sums[i][v], weight[i], value);
    }
  }
}

template <typename Io, typename Out, bool kPacked>
__global__ void __launch_bounds__(kRowThreads) combine_rows_kernel(CombineRows call, int64_t tiles) {
  const int lane = threadIdx.x % kLanes;
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kRowWarps + threadIdx.x / kLanes;
  const int64_t first = item % tiles * kTileRows, column = item / tiles * kColumns;
  if (column >= call.length) return;  // a whole warp leaves at once
  double sums[4][4][2] = {};
  add_rows<Io, kPacked>(call, call.first, first, column, sums);
  add_rows<Io, kPacked>(call, call.second, first, column, sums);
  Out* out = static_cast<Out*>(call.out) + blockIdx.y * call.results * call.length;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int64_t result = first + 8 * i + lane / 4;
    if (result >= call.results) continue;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      Pack<Out, 4> four;
#pragma unroll
      for (int v = 0; v < 4; ++v) four.value[v] = rounded<Out>(sums[i][v][half]);
      store_four<kPacked>(out + result * call.length, column + 8 * (lane % 4) + 4 * half, call.length, four);
    }
  }
}

// ---- Host side ----

template <typename Io, typename Out>
cudaError_t launch_out(const CombineRows& call, bool packed, cudaStream_t stream) {
  const int64_t tiles = tiles_of(call.results, kTileRows);
  const dim3 blocks(static_cast<unsigned>(tiles_of(tiles * tiles_of(call.length, kColumns), kRowWarps)),
                    static_cast<unsigned>(call.points));
  return packed ? launch(combine_rows_kernel<Io, Out, true>, blocks, kRowThreads, 0, stream, call, tiles)
                : launch(combine_rows_kernel<Io, Out, false>, blocks, kRowThreads, 0, stream, call, tiles);
}

template <typename Io>
cudaError_t launch_typed(const CombineRows& call, bool packed, cudaStream_t stream) {
  return call.wide ? launch_out<Io, double>(call, packed, stream) : launch_out<Io, Io>(call, packed, stream);
}

}  // namespace

void combine_rows(const CombineRows& call, void*, int device, void* stream) {
  const std::string where = " (points=" + std::to_string(call.points) + ", results=" + std::to_string(call.results) +
                            ", rows=" + std::to_string(call.first.count) + " and " + std::to_string(call.second.count) +
                            ", length=" + std::to_string(call.length) + ")";
  const DType out_type = call.wide ? DType::kFloat64 : call.dtype;
  const bool packed = call.length % 4 == 0 && four_fit(call.first.rows, call.dtype) &&
                      (call.second.count == 0 || four_fit(call.second.rows, call.dtype)) &&
                      four_fit(Rows{call.out, 0, 0}, out_type);
  const DeviceScope scope(device);
  const cudaError_t error = with_types(call.dtype, [&](auto types) {
    return launch_typed<typename decltype(types)::value>(call, packed, static_cast<cudaStream_t>(stream));
  });
  check(error, "combine_rows", where);
}

}  // namespace cuda
}  // namespace latentjac
