// How every kernel is launched, and where it finds its shared memory.
//
// A launch is a function call and all shared memory is dynamic, so that the sources are plain C++: the tests compile
// them with a host compiler and run them on the CPU (tests/cuda_on_cpu), where __CUDACC__ is not defined.
#pragma once

#include <cuda_runtime.h>

#include <stdint.h>

namespace latentjac {
namespace cuda {

__device__ inline unsigned char* dynamic_shared() {
#ifdef __CUDACC__
  extern __shared__ __align__(16) unsigned char memory[];
  return memory;
#else
  return cuda_on_cpu::shared_memory();
#endif
}

// Arguments are converted to the kernel's parameters. `shared` beyond 48 KB has to be allowed first: allow_shared.
template <typename... Parameters, typename... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 blocks, unsigned threads, size_t shared, cudaStream_t stream,
                   Arguments&&... arguments) {
  cudaLaunchConfig_t config = {};
  config.gridDim = blocks;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

template <typename... Parameters>
cudaError_t allow_shared(void (*kernel)(Parameters...), size_t bytes) {
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
}

}  // namespace cuda
}  // namespace latentjac
