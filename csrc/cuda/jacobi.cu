// Singular values of small float64 matrices on CUDA: see kernels.h.
//
// One-sided Jacobi (Hestenes 1958; Demmel & Veselic 1992): rotations of pairs of rows make all rows orthogonal; their
// lengths are then the singular values. A block owns a matrix and keeps it in shared memory, and the product of the
// rotations as well where both fit. A sweep meets every pair once, in rounds of disjoint pairs (a round-robin
// tournament), a warp for each pair; nothing but barriers orders it, so there is one launch and no wait for the host.
#include <algorithm>

#include "cuda/device.cuh"
#include "cuda/host.cuh"
#include "cuda/launch.cuh"
#include "kernels.h"

namespace latentjac {
namespace cuda {
namespace {

constexpr int kMostSweeps = 40;          // about 10 are needed
constexpr double kOrthogonal = 2.3e-16;  // a cosine that is rounding
constexpr int kMostThreads = 1024;

struct Pair {
  int first, second;
};

// Pair `i` of round `r` of a tournament of an even number of players: all pairs of a round are disjoint, and after
// players - 1 rounds every two have met.
__device__ inline Pair pair_of(int players, int r, int i) {
  const int others = players - 1;
  if (i == 0) return {others, r};
  return {(r + i) % others, (r - i + others) % others};
}

// x, y -> c x - s y, s x + c y.
__device__ inline void rotate(double* x, double* y, int64_t length, double c, double s) {
  for (int64_t k = threadIdx.x % kLanes; k < length; k += kLanes) {
    const double old_x = x[k], old_y = y[k];
    x[k] = c * old_x - s * old_y;
    y[k] = s * old_x + c * old_y;
  }
}

// Makes two rows orthogonal and does the same to the product of the rotations; the square of their cosine before.
__device__ inline double make_orthogonal(double* x, double* y, int64_t columns, double* left_x, double* left_y,
                                         int64_t rows) {
  double xx = 0, yy = 0, xy = 0;
  for (int64_t k = threadIdx.x % kLanes; k < columns; k += kLanes) {
    xx += x[k] * x[k];
    yy += y[k] * y[k];
    xy += x[k] * y[k];
  }
  xx = warp_sum(xx);
  yy = warp_sum(yy);
  xy = warp_sum(xy);
  const double lengths = sqrt(xx) * sqrt(yy), cosine = lengths == 0 ? 0 : xy / lengths;
  if (fabs(cosine) <= kOrthogonal) return cosine * cosine;  // a NaN goes on, and makes both rows NaN
  const double zeta = (yy - xx) / (2 * xy);
  const double tangent = copysign(1 / (fabs(zeta) + sqrt(1 + zeta * zeta)), zeta);
  const double c = 1 / sqrt(1 + tangent * tangent), s = c * tangent;
  rotate(x, y, columns, c, s);
  rotate(left_x, left_y, rows, c, s);
  return cosine * cosine;
}

// All pairs once; the sum of their squared cosines, in every thread.
__device__ inline double sweep(double* matrix, double* left, double* sums, int rows, int64_t columns) {
  const int warp = threadIdx.x / kLanes, warps = blockDim.x / kLanes, players = rows + rows % 2;
  double off = 0;
  for (int round = 0; round < players - 1; ++round) {
    for (int i = warp; i < players / 2; i += warps) {
      const Pair pair = pair_of(players, round, i);
      if (max(pair.first, pair.second) >= rows) continue;  // the one who rests
      off += make_orthogonal(matrix + pair.first * columns, matrix + pair.second * columns, columns,
                             left + static_cast<int64_t>(pair.first) * rows,
                             left + static_cast<int64_t>(pair.second) * rows, rows);
    }
    __syncthreads();
  }
  if (threadIdx.x % kLanes == 0) sums[warp] = off;
  __syncthreads();
  double total = 0;
  for (int w = 0; w < warps; ++w) total += sums[w];
  return total;  // the next sweep writes its sums behind the barrier of its first round
}

// Place of row i by descending length; equal ones stay in order, a NaN counts as longest.
__device__ inline int place_of(const double* lengths, int rows, int i) {
  const double own = lengths[i];
  int before = 0;
  for (int j = 0; j < rows; ++j) before += lengths[j] > own || (lengths[j] == own && j < i);
  return before;
}

// The rows by descending length, each with its lane of the product of rotations.
__device__ inline void write_results(const Jacobi& call, const double* matrix, const double* left, double* lengths) {
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes, warps = blockDim.x / kLanes;
  const int rows = static_cast<int>(call.rows);
  const double infinity = 1.0 / 0.0;
  for (int i = warp; i < rows; i += warps) {
    double square = 0;
    for (int64_t k = lane; k < call.columns; k += kLanes)
      square += matrix[i * call.columns + k] * matrix[i * call.columns + k];
    const double length = sqrt(warp_sum(square));
    if (lane == 0) lengths[i] = length == length ? length : infinity;
  }
  __syncthreads();
  for (int i = warp; i < rows; i += warps) {
    const int64_t place = blockIdx.x * call.rows + place_of(lengths, rows, i);
    const double* row = matrix + i * call.columns;
    double square = 0;
    for (int64_t k = lane; k < call.columns; k += kLanes) square += row[k] * row[k];
    const double length = sqrt(warp_sum(square));
    if (lane == 0) call.values[place] = length;
    for (int64_t k = lane; k < rows; k += kLanes)
      call.left[place * rows + k] = left[static_cast<int64_t>(i) * rows + k];
    if (call.right == nullptr) continue;
    for (int64_t k = lane; k < call.columns; k += kLanes)
      call.right[place * call.columns + k] = length == 0 ? 0 : row[k] / length;
  }
}

// `products`: where the products of rotations lie, [points, rows, rows]; null: in shared memory.
__global__ void __launch_bounds__(kMostThreads) jacobi_kernel(Jacobi call, double* products) {
  const int64_t size = call.rows * call.columns, square = call.rows * call.rows;
  const int rows = static_cast<int>(call.rows);
  double* sums = reinterpret_cast<double*>(dynamic_shared());  // one for each warp
  double* lengths = sums + kLanes;
  double* matrix = lengths + rows;
  double* left = products ? products + blockIdx.x * square : matrix + size;
  for (int64_t k = threadIdx.x; k < size; k += blockDim.x) matrix[k] = call.matrices[blockIdx.x * size + k];
  for (int64_t k = threadIdx.x; k < square; k += blockDim.x) left[k] = k % (rows + 1) == 0 ? 1 : 0;
  __syncthreads();
  double off = 0;
  for (int count = 0; count < kMostSweeps; ++count) {
    off = sqrt(sweep(matrix, left, sums, rows, call.columns));
    if (off <= rows * kOrthogonal) break;
  }
  write_results(call, matrix, left, lengths);
  if (threadIdx.x == 0) call.off[blockIdx.x] = off;
}

// ---- Host side ----

int64_t bytes_of(int64_t rows, int64_t columns, bool products) {
  return (kLanes + rows + rows * columns + (products ? rows * rows : 0)) * static_cast<int64_t>(sizeof(double));
}

}  // namespace

bool jacobi_fits(int64_t rows, int64_t columns, int device) {
  return bytes_of(rows, columns, false) <= shared_room(device);
}

int64_t jacobi_workspace(const Jacobi& call, int device) {
  if (bytes_of(call.rows, call.columns, true) <= shared_room(device)) return 0;
  return call.points * call.rows * call.rows * static_cast<int64_t>(sizeof(double));
}

void jacobi(const Jacobi& call, void* workspace, int device, void* stream) {
  const std::string where = " (points=" + std::to_string(call.points) + ", rows=" + std::to_string(call.rows) +
                            ", columns=" + std::to_string(call.columns) + ")";
  if (!jacobi_fits(call.rows, call.columns, device))
    throw std::runtime_error("jacobi" + where + ": a matrix must fit the shared memory of a block, " +
                             std::to_string(shared_room(device)) + " bytes here, got " +
                             std::to_string(bytes_of(call.rows, call.columns, false)));
  const DeviceScope scope(device);
  const int64_t bytes = bytes_of(call.rows, call.columns, workspace == nullptr);
  const int64_t pairs = (call.rows + 1) / 2;
  const unsigned threads = static_cast<unsigned>(std::min<int64_t>(kMostThreads, kLanes * pairs));
  check(allow_shared(jacobi_kernel, static_cast<size_t>(bytes)), "jacobi", where);
  check(launch(jacobi_kernel, static_cast<unsigned>(call.points), threads, static_cast<size_t>(bytes),
               static_cast<cudaStream_t>(stream), call, static_cast<double*>(workspace)),
        "jacobi", where);
}

}  // namespace cuda
}  // namespace latentjac
