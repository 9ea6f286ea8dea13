/* The kernels of kernels.h in plain C, on tensors of DLPack: shapes, strides, types and devices are read from them.
 *
 * Every function returns LATENTJAC_OK or one of the numbers below, and latentjac_error() tells what was wrong. Tensors
 * are all on the processor, or all on one CUDA device; then work is queued on the stream of `run` and must have been
 * waited for before results are read. Nothing is allocated that outlives a call. Calls may come from any threads.
 *
 * float32 and float64, on CUDA also bfloat16 and float16. "Kept" tensors (xhat, a, b, lse) and gamma, beta and bias are
 * float64 where the others are, else float32. Tensors that may be NULL are marked so. Sizes may be 0, strides of what
 * is read negative or 0. A result overlaps nothing but where that is said, and begins at a multiple of its type's size,
 * as every tensor does. */
#ifndef LATENTJAC_KERNELS_C_H
#define LATENTJAC_KERNELS_C_H

#include <stdint.h>

/* The real dlpack.h, where it was included before or is on the include path; else the same layout. */
#if !defined(DLPACK_DLPACK_H_)
#if defined(__has_include)
#if __has_include(<dlpack/dlpack.h>)
#include <dlpack/dlpack.h>
#endif
#endif
#endif
#if !defined(DLPACK_DLPACK_H_)
#include "dltensor.h"
#endif

#define LATENTJAC_C_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

enum {
  LATENTJAC_OK = 0,
  LATENTJAC_WRONG_ARGUMENT = 1,
  LATENTJAC_NO_MEMORY = 2,       /* nothing has been written */
  LATENTJAC_NEEDS_WORKSPACE = 3, /* run->workspace_bytes now holds how much; nothing has been written */
  LATENTJAC_NOT_BUILT = 4,       /* no CUDA in this library */
  LATENTJAC_FAILED = 5
};

enum { LATENTJAC_IDENTITY = 0, LATENTJAC_SILU = 1, LATENTJAC_GELU = 2, LATENTJAC_GELU_TANH = 3, LATENTJAC_RELU = 4 };

/* How a kernel runs. NULL in its place: as all zeros. */
typedef struct {
  int threads;             /* on the processor, at most one a core; 0: as many as OpenMP would use */
  void* stream;            /* of CUDA; NULL: the default stream */
  void* workspace;         /* of CUDA: scratch memory on the device, kept alive until the stream has passed */
  int64_t workspace_bytes; /* its size */
} latentjac_run;

/* The reason for the last number other than LATENTJAC_OK in this thread. */
LATENTJAC_C_API const char* latentjac_error(void);

/* LATENTJAC_OK if the library has the interface that a program was compiled for (LATENTJAC_INTERFACE_MAJOR and
 * _MINOR of kernels.h, LATENTJAC_C_MAJOR and _MINOR here): the same first number and no smaller second one. */
#define LATENTJAC_C_MAJOR 6
#define LATENTJAC_C_MINOR 0
LATENTJAC_C_API int latentjac_check_interface(int major, int minor);

/* y = act(gamma * xhat + beta) of x [N, S, C], statistics over S * C/groups values; xhat and a are kept for tangents.
 * gamma and beta are [C] or [N, C], or NULL; y may be NULL. */
LATENTJAC_C_API int latentjac_norm_primal(const DLTensor* x, const DLTensor* gamma, const DLTensor* beta,
                                          int64_t groups, double eps, int activation, int rms, const DLTensor* y,
                                          const DLTensor* xhat, const DLTensor* a, latentjac_run* run);

/* Tangents (transpose = 0) or cotangents of it: t and out are [P, N, S, C], for P probes; out may be t. */
LATENTJAC_C_API int latentjac_norm_linear(const DLTensor* t, const DLTensor* a, const DLTensor* xhat, int64_t groups,
                                          int rms, int transpose, int accumulate, const DLTensor* out,
                                          latentjac_run* run);

/* y = value * act(gate): out = a * value + b * gate, with value, gate and out [P, R, C], a and b [R, C]. */
LATENTJAC_C_API int latentjac_gated_tangent(const DLTensor* value, const DLTensor* gate, const DLTensor* a,
                                            const DLTensor* b, const DLTensor* out, latentjac_run* run);

/* Its transpose: value = a * u and gate = b * u, of u [P, R, C]. */
LATENTJAC_C_API int latentjac_gated_cotangent(const DLTensor* u, const DLTensor* a, const DLTensor* b,
                                              const DLTensor* value, const DLTensor* gate, latentjac_run* run);

/* Attention o = softmax(scale q k^T + bias) v and the tensors that its tangents share. */
typedef struct {
  const DLTensor *q, *k, *v; /* [B, H, N, D], [B, H, M, D], [B, H, M, E]; channels of stride 1 */
  const DLTensor* bias;      /* [B, H, N, M], any strides; NULL: none */
  const DLTensor* o;         /* [B, H, N, E] */
  const DLTensor* lse;       /* [B, H, N], contiguous */
  double scale;
  int causal, allow_tf32;
} latentjac_attention;

/* Writes o and lse. */
LATENTJAC_C_API int latentjac_attention_primal(const latentjac_attention* primal, latentjac_run* run);

/* out [P, B, H, N, E] of tangents dq, dk and dv, as q, k and v with P probes in front; NULL: zero, at least one is not.
 * accumulate: out += instead of out =. */
LATENTJAC_C_API int latentjac_attention_tangent(const latentjac_attention* primal, const DLTensor* dq,
                                                const DLTensor* dk, const DLTensor* dv, int accumulate,
                                                const DLTensor* out, latentjac_run* run);

/* dq, dk and dv of u [P, B, H, N, E]; NULL: not wanted, at least one is. */
LATENTJAC_C_API int latentjac_attention_cotangent(const latentjac_attention* primal, const DLTensor* u,
                                                  const DLTensor* dq, const DLTensor* dk, const DLTensor* dv,
                                                  latentjac_run* run);

#ifdef __cplusplus
}
#endif

#endif
