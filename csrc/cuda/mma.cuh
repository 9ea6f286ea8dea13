// The few machine instructions that CUDA C++ has no function for: tensor cores, matrix loads, asynchronous copies,
// powers of two. Each has a branch that the tests run on the CPU (launch.cuh).
//
// Lane l = 4 g + t of a warp holds, of a 16 x 8 result: rows g (values 0, 1) and g + 8 (values 2, 3), columns 2 t and
// 2 t + 1. A fragment of A for 16-bit types has the same layout, two such tiles side by side; that of tf32 has columns
// t and t + 4.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>
#include <string.h>

namespace latentjac {
namespace cuda {
namespace {

// 2^x; results under 2^-126 are 0.
__device__ inline float exp2_fast(float x) {
#ifdef __CUDACC__
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#else
  return std::exp2(x);
#endif
}

// Starts copying 16 bytes to shared memory, or zeros where `inside` is false (`from` is then not read).
__device__ inline void copy16(void* to, const void* from, bool inside) {
#ifdef __CUDACC__
  const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(inside ? 16 : 0) : "memory");
#else
  cuda_on_cpu::copy_later(to, from, 16, !inside);
#endif
}

// Waits for all copies that this thread has started.
__device__ inline void wait_copies() {
#ifdef __CUDACC__
  asm volatile("cp.async.wait_all;" ::: "memory");
#else
  cuda_on_cpu::wait_copies();
#endif
}

// Four 8 x 8 matrices of 16-bit values; lanes 8 m .. 8 m + 7 give the rows of matrix m.
template <bool kTransposed>
__device__ inline void load_matrices(uint32_t (&to)[4], const void* row) {
#ifdef __CUDACC__
  const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (kTransposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(at)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(at)
                 : "memory");
#else
  cuda_on_cpu::ldmatrix(to, row, kTransposed);
#endif
}

// d += A B: m16n8k16 for bfloat16 and float16, m16n8k8 of tf32 for float.
template <typename T>
__device__ inline void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#ifdef __CUDACC__
  if constexpr (__is_same(T, __nv_bfloat16))
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  else if constexpr (__is_same(T, __half))
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  else
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  cuda_on_cpu::mma<T>(d, a, b0, b1);
#endif
}

// d += A B of 8 x 8 x 4 doubles. Lane 4 g + t holds A[g][t], B[t][g] and, in d, columns 2 t and 2 t + 1 of row g.
__device__ inline void mma_double(double (&d)[2], double a, double b) {
#ifdef __CUDACC__
  asm("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};"
      : "+d"(d[0]), "+d"(d[1])
      : "d"(a), "d"(b));
#else
  cuda_on_cpu::mma_double(d, a, b);
#endif
}

// The 11 leading bits of a float, rounded; a tensor core ignores the rest.
__device__ inline uint32_t tf32_bits(float value) {
#ifdef __CUDACC__
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
#else
  return cuda_on_cpu::tf32_bits(value);
#endif
}

// A float as one tf32 value: 11 bits.
struct Tf32 {
  uint32_t bits;
  Tf32() = default;
  __device__ explicit Tf32(float from) : bits(tf32_bits(from)) {}
  __device__ float value() const {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
  }
};

// A float as the sum of two: 22 bits, so that three products of them are as good as one of floats.
struct Split {
  Tf32 big, small;
  Split() = default;
  __device__ explicit Split(float from) : big(from), small(from - big.value()) {}
};

// d += A B of such factors, four of A and two of B in a lane.
__device__ inline void mma_floats(float (&d)[4], const Tf32 (&a)[4], Tf32 b0, Tf32 b1) {
  const uint32_t bits[4] = {a[0].bits, a[1].bits, a[2].bits, a[3].bits};
  mma<float>(d, bits, b0.bits, b1.bits);
}
__device__ inline void mma_floats(float (&d)[4], const Split (&a)[4], Split b0, Split b1) {
  const Tf32 big[4] = {a[0].big, a[1].big, a[2].big, a[3].big};
  const Tf32 small[4] = {a[0].small, a[1].small, a[2].small, a[3].small};
  mma_floats(d, small, b0.big, b1.big);
  mma_floats(d, big, b0.small, b1.small);
  mma_floats(d, big, b0.big, b1.big);
}

// Two values in one register, the first in its low half.
template <typename T>
__device__ inline uint32_t pair_bits(float low, float high) {
  uint32_t bits;
  if constexpr (__is_same(T, __half)) {
    const __half2 both = __floats2half2_rn(low, high);
    memcpy(&bits, &both, sizeof bits);
  } else {
    const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    memcpy(&bits, &both, sizeof bits);
  }
  return bits;
}

}  // namespace
}  // namespace cuda
}  // namespace latentjac
