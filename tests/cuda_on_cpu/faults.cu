// Wrong kernels, each with one fault that the emulator has to find, and one that is right.
#include <cuda_runtime.h>

#include <stdexcept>

#include "cuda/launch.cuh"
#include "emulator.h"

namespace {

using latentjac::cuda::dynamic_shared;

constexpr int kThreads = 64;

__global__ void faulty(int fault, float* out, const float* in) {
  float* shared = reinterpret_cast<float*>(dynamic_shared());
  const int i = static_cast<int>(threadIdx.x);
  switch (fault) {
    case 0:  // right: a reversal through shared memory, then a sum over each warp
      shared[i] = in[i];
      __syncthreads();
      out[i] = shared[kThreads - 1 - i];
      for (int step = 16; step > 0; step /= 2) out[i] += __shfl_xor_sync(0xffffffffu, out[i], step);
      return;
    case 1:  // past the end
      shared[i == 37 ? kThreads + 4 : i] = in[i];
      return;
    case 2:  // in front of the start
      shared[i] = in[i];
      if (i == 3) shared[-1] = 0;
      return;
    case 3:  // half of the threads end before the barrier
      if (i >= 32) return;
      __syncthreads();
      return;
    case 4:  // a lane leaves its warp
      if (i == 40) return;
      __syncwarp();
      return;
    case 5:  // lanes of a warp at different operations
      if (i % 2)
        __syncwarp();
      else
        out[i] = __shfl_xor_sync(0xffffffffu, in[i], 1);
      return;
    case 6:  // never written
      out[i] = shared[i];
      return;
    case 7:  // no barrier between writing and reading
      shared[i] = in[i];
      out[i] = shared[kThreads - 1 - i];
      return;
    case 8:  // a global array read past its end
      out[i] = in[i + 1];
      return;
    case 9:  // an asynchronous copy that nobody waits for
      cuda_on_cpu::copy_later(shared + 4 * i % kThreads, in, 16, false);
      out[i] = shared[4 * i % kThreads];
      return;
  }
}

}  // namespace

namespace cuda_on_cpu {

void run_faulty(int fault, float* out, const float* in) {
  const cudaError_t error =
      latentjac::cuda::launch(faulty, 1, kThreads, kThreads * sizeof(float), nullptr, fault, out, in);
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

}  // namespace cuda_on_cpu
