// Stands in for CUDA's header of this name when the .cu sources are compiled by a host compiler for the tests: the
// language extensions the kernels use, the few runtime calls their host side makes, and the warp operations.
// How threads are run and what is checked stands in emulator.cpp.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <algorithm>
#include <cmath>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

extern uint3 threadIdx, blockIdx;  // of the thread that is running
extern dim3 blockDim, gridDim;

// ---- Host side ----

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorLaunchFailure = 719 };
enum cudaDeviceAttr { cudaDevAttrMaxSharedMemoryPerBlockOptin = 97 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
typedef struct CUstream_st* cudaStream_t;
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
};

const char* cudaGetErrorName(cudaError_t error);
const char* cudaGetErrorString(cudaError_t error);  // what went wrong last, in which thread of which block
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int device) {
  return device == 0 ? cudaSuccess : cudaErrorInvalidValue;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);

// ---- What the emulator offers ----

namespace cuda_on_cpu {

unsigned char* shared_memory();
cudaError_t run(const void* kernel, const cudaLaunchConfig_t& config, const std::function<void()>& thread);
cudaError_t allow_shared(const void* kernel, int bytes);

// All threads of a block, or all lanes of a warp, meet here. `what` has to be the same for all of them. The last lane
// to come calls together(lanes' arguments) before any goes on.
void meet_block();
void meet_warp(const char* what, void* argument = nullptr, void (*together)(void* const arguments[32]) = nullptr);

// Copies that happen at the latest possible moment, or at once when the emulator runs in its second order.
void copy_later(void* to, const void* from, size_t bytes, bool zero);
void wait_copies();

void ldmatrix(uint32_t (&to)[4], const void* row, bool transpose);
// d += A B of mma.sync: kBits 16 is m16n8k16 of T, kBits 32 is m16n8k8 of float cut to tf32.
template <typename T>
void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
void mma_double(double (&d)[2], double a, double b);  // m8n8k4
uint32_t tf32_bits(float value);

template <typename T>
T shuffle_xor(T value, int mask) {
  struct Argument {
    T given, got;
    int mask;
  } own{value, value, mask};
  meet_warp("__shfl_xor_sync", &own, [](void* const lanes[32]) {
    for (int lane = 0; lane < 32; ++lane) {
      Argument* to = static_cast<Argument*>(lanes[lane]);
      to->got = static_cast<Argument*>(lanes[(lane ^ to->mask) % 32])->given;
    }
  });
  return own.got;
}

}  // namespace cuda_on_cpu

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments... arguments) {
  return cuda_on_cpu::run(reinterpret_cast<const void*>(kernel), *config, [=] { kernel(arguments...); });
}

template <typename... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute, int value) {
  return cuda_on_cpu::allow_shared(reinterpret_cast<const void*>(kernel), value);
}

// ---- Device side ----

using std::max;
using std::min;

inline void __syncthreads() {
  cuda_on_cpu::meet_block();
}
inline void __syncwarp(unsigned = 0xffffffffu) {
  cuda_on_cpu::meet_warp("__syncwarp");
}
template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return cuda_on_cpu::shuffle_xor(value, mask);
}
template <typename T>
T __ldg(const T* from) {
  return *from;
}
inline float rsqrtf(float x) {
  return 1.0f / std::sqrt(x);
}
inline float __expf(float x) {
  return std::exp(x);
}
