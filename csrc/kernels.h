// The whole kernel interface on one page.
//
// Kernels know no torch: they take addresses, sizes and, on CUDA, a stream. Arrays are contiguous (the last
// dimension has stride 1) unless a stride is given. Python checks shapes, types and devices before it calls;
// a kernel that fails throws std::runtime_error naming itself and the shapes. For lack of memory it throws
// std::bad_alloc, and has written nothing. Sizes may be 0. Calls may come from any number of threads at once.
//
// Each kernel is a struct that holds its arguments (a call) and a row in the lists at the end of this page. The
// dispatch by instruction set, the Python module and the emulator of the tests are made of these lists.
//
// Letters: P probes, N samples (attention: queries), S spatial positions, C channels (channels-last: x is [N, S, C]), G
// groups of C/G channels. Layer and RMS norm over the last dimension are N = rows, S = 1, G = 1.
#pragma once

#include <stdint.h>

// What programs may call in the library.
#define LATENTJAC_API __attribute__((visibility("default")))

// The version of this interface: the first number is raised whenever a signature or a meaning on this page changes, the
// second with every addition. Python and the library's CMake package refuse another first one.
#define LATENTJAC_INTERFACE_MAJOR 6
#define LATENTJAC_INTERFACE_MINOR 0

namespace latentjac {

constexpr int kInterface = LATENTJAC_INTERFACE_MAJOR;

enum class DType : int { kFloat32 = 0, kFloat64 = 1, kBFloat16 = 2, kFloat16 = 3 };
constexpr int kCpuTypes = 2, kCudaTypes = 4;  // the first of these that kernels take

enum class Activation : int { kIdentity = 0, kSilu = 1, kGelu = 2, kGeluTanh = 3, kRelu = 4 };
constexpr int kActivations = 5;

// y = act(z), z = gamma * xhat + beta, xhat = (x - mean) * rstd, rstd = 1 / sqrt(mean((x - mean)^2) + eps).
// Statistics are taken per (n, g) over S * C/G values. rms: mean is not subtracted (0 in both formulas).
// A NaN in x makes its whole group (n, g) NaN in xhat, a and y, and nothing else.
struct NormPrimal {
  const void* x;      // [N, S, C]
  const void* gamma;  // [C] (gamma_stride 0) or [N, C] (gamma_stride C); null: ones.  float64 for float64 x,
  const void* beta;   // [C] (beta_stride 0)  or [N, C] (beta_stride C);  null: zeros. else float32
  void* y;            // [N, S, C], type of x; null: not wanted
  void* xhat;         // [N, S, C], float64 for float64 x, else float32
  void* a;            // [N, S, C], as xhat: gamma * rstd * act'(z)
  int64_t gamma_stride, beta_stride;
  int64_t samples, positions, channels, groups;
  double eps;
  DType dtype;  // of x and y
  Activation activation;
  bool rms;
};

// Tangent:   out = a * (t - mean t - xhat * mean(xhat * t))              (transpose = false)
// Cotangent: out = w - mean w - xhat * mean(xhat * w),  w = a * t        (transpose = true)
// Means per (p, n, g); with rms the first mean is left out. xhat and a serve all probes. out may be t itself
// (then each value is read once and written once), but may not overlap it otherwise.
// A NaN in t makes its group (p, n, g) of out NaN, and nothing else.
struct NormLinear {
  const void* t;     // [P, N, S, C]
  const void* a;     // [N, S, C], float64 for float64 t, else float32
  const void* xhat;  // [N, S, C], as a
  void* out;         // [P, N, S, C], type of t
  int64_t probes, samples, positions, channels, groups;
  DType dtype;  // of t and out
  bool rms, transpose;
  bool accumulate;  // out += instead of out =
};

// A gated activation y = value * act(gate), with a = act(gate) and b = value * act'(gate) kept for all probes:
// Tangent:    out = a * value + b * gate, for tangents of both
// Cotangent:  value = a * u, gate = b * u
// Rows of probe p follow those of probe p - 1; the two halves may be halves of one array, with a stride of 2C.
// A NaN in a tangent makes the values computed from it NaN, and nothing else.
struct GatedTangent {
  const void *value, *gate;           // [P, R, C] each, rows `value_stride` and `gate_stride` elements apart
  const void *a, *b;                  // [R, C], float64 for float64 tangents, else float32
  void* out;                          // [P, R, C]; overlaps nothing
  int64_t value_stride, gate_stride;  // C at least
  int64_t probes, rows, channels;
  DType dtype;  // of value, gate and out
};

struct GatedCotangent {
  const void* u;       // [P, R, C]
  const void *a, *b;   // as above
  void *value, *gate;  // results, rows that far apart; overlap nothing
  int64_t value_stride, gate_stride;
  int64_t probes, rows, channels;
  DType dtype;
};

// Softmax attention: O = P V, P = softmax(scale Q K^T + bias), row by row of N queries over M keys, for each of
// `batch` x `heads` heads of D channels (V and O: E channels). One primal serves all probes: P is formed again, tile by
// tile, from Q, K and the logarithm of each row's sum, and never stored whole.
//
// An array is its address and its strides in elements; channels have stride 1. A null address is an array that is
// absent: a tangent that is zero, a bias that is none, a result that is not wanted.
struct Strided {
  const void* at;  // of results too
  int64_t probe, batch, head, row;
};

struct AttentionShape {
  int64_t batch, heads, queries, keys, channels, value_channels;
  double scale;
  DType dtype;      // of all arrays but lse and bias: those are float64 for float64, else float32
  bool causal;      // query i sees keys 0..i only
  bool allow_tf32;  // CUDA, float32: factors of products may be rounded to 11 bits. One value for all calls of a primal
};

struct AttentionBias {
  const void* at;
  int64_t batch, head, row, column;  // strides in elements; 0 where it is broadcast. -inf forbids
};

// o_i = sum_j P_ij v_j,  lse_i = log sum_j exp(scale q_i.k_j + bias_ij). A row that sees no key has o = 0, lse = -inf.
struct AttentionPrimal {
  AttentionShape shape;
  Strided q, k, v;
  AttentionBias bias;
  Strided o;
  void* lse;  // [batch, heads, queries]
};

// Tangent: do_i = sum_j P_ij (ds_ij (v_j - o_i) + dv_j),  ds_ij = scale (dq_i.k_j + q_i.dk_j).
struct AttentionTangent {
  AttentionShape shape;
  Strided q, k, v;
  AttentionBias bias;
  Strided o;
  const void* lse;
  int64_t probes;
  Strided dq, dk, dv;  // [probes, ...]; at least one. A dq with row stride 0, one for all queries, costs less
  Strided out;         // [probes, ...] as o; overlaps nothing
  bool accumulate;     // out += instead of out =
};

// Cotangent: with e_ij = scale P_ij u_i.(v_j - o_i):  dq_i = sum_j e_ij k_j,  dk_j = sum_i e_ij q_i,
// dv_j = sum_i P_ij u_i.
struct AttentionCotangent {
  AttentionShape shape;
  Strided q, k, v;
  AttentionBias bias;
  Strided o;
  const void* lse;
  int64_t probes;
  Strided u;           // [probes, ...] as o
  Strided dq, dk, dv;  // results, [probes, ...]; at least one; overlap nothing
};

// out[p, r] = t[p, r] M[r]: each row of a probe times a matrix of its own, shared by all probes. CPU only.
struct RowwiseProduct {
  const void* matrices;  // [batch, rows, heads, channels, value_channels]
  int64_t probes, batch, heads, rows, channels, value_channels;
  Strided t;    // [probes, batch, heads, rows, channels]
  Strided out;  // [probes, batch, heads, rows, value_channels]; overlaps nothing
  DType dtype;
};

// The rest serves the solver and is CUDA only: many long rows (points x rows x length) and small float64 matrices.
//
// Rows lie `row` elements apart, those of the next point `point` elements further on; along a row the stride is 1.
struct Rows {
  const void* at;
  int64_t point, row;
};

// out[p, i, j] = sum_n a[p, i, n] b[p, j, n], products and sums in float64.
struct Gram {
  Rows a, b;    // a_rows and b_rows of them
  double* out;  // [points, a_rows, b_rows]
  int64_t points, a_rows, b_rows, length;
  DType dtype;  // of a and b
};

// Rows with a matrix of weights for them; strides in elements.
struct WeightedRows {
  const double* weights;  // [points, results, count]
  int64_t point, result, row;
  Rows rows;
  int64_t count;  // 0: absent
};

// out[p, r, n] = sum_i first.weights[p, r, i] first.rows[p, i, n] + the same of second, in float64, rounded once.
struct CombineRows {
  WeightedRows first, second;
  void* out;  // [points, results, length]; overlaps nothing
  int64_t points, results, length;
  DType dtype;  // of the rows
  bool wide;    // out is float64, else of the type of the rows
};

// Singular values of small float64 matrices by one-sided Jacobi rotations: matrix = left^T diag(values) right, with
// values descending. Rows of `right` that belong to a value of zero are zero. A NaN in a matrix makes its results NaN.
struct Jacobi {
  const double* matrices;  // [points, rows, columns], rows <= columns
  double* left;            // [points, rows, rows], orthogonal
  double* values;          // [points, rows]
  double* right;           // [points, rows, columns], rows of length 1; null: not wanted
  double* off;             // [points]: root of the summed squares of all pairs' cosines, before the last sweep
  int64_t points, rows, columns;
};

// ---- The lists ----

// KERNEL(name, its call)
#define LATENTJAC_CPU_KERNELS(KERNEL)             \
  KERNEL(norm_act_primal, NormPrimal)             \
  KERNEL(norm_act_linear, NormLinear)             \
  KERNEL(gated_tangent, GatedTangent)             \
  KERNEL(gated_cotangent, GatedCotangent)         \
  KERNEL(attention_primal, AttentionPrimal)       \
  KERNEL(attention_tangent, AttentionTangent)     \
  KERNEL(attention_cotangent, AttentionCotangent) \
  KERNEL(rowwise_product, RowwiseProduct)

#define LATENTJAC_CUDA_KERNELS(KERNEL)            \
  KERNEL(norm_act_primal, NormPrimal)             \
  KERNEL(norm_act_linear, NormLinear)             \
  KERNEL(gated_tangent, GatedTangent)             \
  KERNEL(gated_cotangent, GatedCotangent)         \
  KERNEL(attention_primal, AttentionPrimal)       \
  KERNEL(attention_tangent, AttentionTangent)     \
  KERNEL(attention_cotangent, AttentionCotangent) \
  KERNEL(gram, Gram)                              \
  KERNEL(combine_rows, CombineRows)               \
  KERNEL(jacobi, Jacobi)

// Those that need scratch memory on the device.
#define LATENTJAC_CUDA_WORKSPACES(KERNEL) \
  KERNEL(norm_act_primal, NormPrimal)     \
  KERNEL(norm_act_linear, NormLinear)     \
  KERNEL(gram, Gram)                      \
  KERNEL(jacobi, Jacobi)

// All structs, those that others hold first, and all fields of each, by which Python names them: STRUCT(name),
// FIELD(name). A list that lacks a field does not compile.
#define LATENTJAC_STRUCTS(STRUCT) \
  STRUCT(NormPrimal)              \
  STRUCT(NormLinear)              \
  STRUCT(GatedTangent)            \
  STRUCT(GatedCotangent)          \
  STRUCT(Strided)                 \
  STRUCT(AttentionShape)          \
  STRUCT(AttentionBias)           \
  STRUCT(AttentionPrimal)         \
  STRUCT(AttentionTangent)        \
  STRUCT(AttentionCotangent)      \
  STRUCT(RowwiseProduct)          \
  STRUCT(Rows)                    \
  STRUCT(Gram)                    \
  STRUCT(WeightedRows)            \
  STRUCT(CombineRows)             \
  STRUCT(Jacobi)

#define LATENTJAC_FIELDS_NormPrimal(FIELD)                                                                           \
  FIELD(x), FIELD(gamma), FIELD(beta), FIELD(y), FIELD(xhat), FIELD(a), FIELD(gamma_stride), FIELD(beta_stride),     \
      FIELD(samples), FIELD(positions), FIELD(channels), FIELD(groups), FIELD(eps), FIELD(dtype), FIELD(activation), \
      FIELD(rms)
#define LATENTJAC_FIELDS_NormLinear(FIELD)                                                                       \
  FIELD(t), FIELD(a), FIELD(xhat), FIELD(out), FIELD(probes), FIELD(samples), FIELD(positions), FIELD(channels), \
      FIELD(groups), FIELD(dtype), FIELD(rms), FIELD(transpose), FIELD(accumulate)
#define LATENTJAC_FIELDS_GatedTangent(FIELD)                                                                         \
  FIELD(value), FIELD(gate), FIELD(a), FIELD(b), FIELD(out), FIELD(value_stride), FIELD(gate_stride), FIELD(probes), \
      FIELD(rows), FIELD(channels), FIELD(dtype)
#define LATENTJAC_FIELDS_GatedCotangent(FIELD)                                                                     \
  FIELD(u), FIELD(a), FIELD(b), FIELD(value), FIELD(gate), FIELD(value_stride), FIELD(gate_stride), FIELD(probes), \
      FIELD(rows), FIELD(channels), FIELD(dtype)
#define LATENTJAC_FIELDS_Strided(FIELD) FIELD(at), FIELD(probe), FIELD(batch), FIELD(head), FIELD(row)
#define LATENTJAC_FIELDS_AttentionShape(FIELD)                                                                   \
  FIELD(batch), FIELD(heads), FIELD(queries), FIELD(keys), FIELD(channels), FIELD(value_channels), FIELD(scale), \
      FIELD(dtype), FIELD(causal), FIELD(allow_tf32)
#define LATENTJAC_FIELDS_AttentionBias(FIELD) FIELD(at), FIELD(batch), FIELD(head), FIELD(row), FIELD(column)
#define LATENTJAC_FIELDS_AttentionPrimal(FIELD) \
  FIELD(shape), FIELD(q), FIELD(k), FIELD(v), FIELD(bias), FIELD(o), FIELD(lse)
#define LATENTJAC_FIELDS_AttentionTangent(FIELD) \
  LATENTJAC_FIELDS_AttentionPrimal(FIELD), FIELD(probes), FIELD(dq), FIELD(dk), FIELD(dv), FIELD(out), FIELD(accumulate)
#define LATENTJAC_FIELDS_AttentionCotangent(FIELD) \
  LATENTJAC_FIELDS_AttentionPrimal(FIELD), FIELD(probes), FIELD(u), FIELD(dq), FIELD(dk), FIELD(dv)
#define LATENTJAC_FIELDS_RowwiseProduct(FIELD)                                                                     \
  FIELD(matrices), FIELD(probes), FIELD(batch), FIELD(heads), FIELD(rows), FIELD(channels), FIELD(value_channels), \
      FIELD(t), FIELD(out), FIELD(dtype)
#define LATENTJAC_FIELDS_Rows(FIELD) FIELD(at), FIELD(point), FIELD(row)
#define LATENTJAC_FIELDS_Gram(FIELD) \
  FIELD(a), FIELD(b), FIELD(out), FIELD(points), FIELD(a_rows), FIELD(b_rows), FIELD(length), FIELD(dtype)
#define LATENTJAC_FIELDS_WeightedRows(FIELD) \
  FIELD(weights), FIELD(point), FIELD(result), FIELD(row), FIELD(rows), FIELD(count)
#define LATENTJAC_FIELDS_CombineRows(FIELD) \
  FIELD(first), FIELD(second), FIELD(out), FIELD(points), FIELD(results), FIELD(length), FIELD(dtype), FIELD(wide)
#define LATENTJAC_FIELDS_Jacobi(FIELD) \
  FIELD(matrices), FIELD(left), FIELD(values), FIELD(right), FIELD(off), FIELD(points), FIELD(rows), FIELD(columns)

namespace cpu {

// The instruction set chosen on this processor, and all those compiled in (fastest last, separated by spaces).
LATENTJAC_API const char* isa();
LATENTJAC_API const char* isa_compiled();
LATENTJAC_API int max_threads();  // what OpenMP would use now; 1 without OpenMP
LATENTJAC_API bool built_openmp();

// Ends the threads that OpenMP keeps for the calling thread; the next call starts them again. Before a fork: its child
// has no threads but would wait for them. False where the OpenMP library cannot (before OpenMP 5.0).
LATENTJAC_API bool end_threads();

// The CPU kernels. `threads` is 1 or more; the bits of a result do not depend on it.
#define LATENTJAC_DECLARE(name, Call) LATENTJAC_API void name(const Call& call, int threads);
LATENTJAC_CPU_KERNELS(LATENTJAC_DECLARE)
#undef LATENTJAC_DECLARE

}  // namespace cpu

namespace cuda {

// Enqueue on `stream` of `device`: no allocation, no synchronisation, no atomics (the same bits every time).
#define LATENTJAC_DECLARE(name, Call) \
  LATENTJAC_API void name(const Call& call, void* workspace, int device, void* stream);
LATENTJAC_CUDA_KERNELS(LATENTJAC_DECLARE)
#undef LATENTJAC_DECLARE

// Bytes of scratch memory on the device that a call needs; the caller keeps it alive until the stream has passed. Null
// where that is 0, and for kernels that have no such function.
#define LATENTJAC_DECLARE(name, Call) LATENTJAC_API int64_t name##_workspace(const Call& call, int device);
LATENTJAC_CUDA_WORKSPACES(LATENTJAC_DECLARE)
#undef LATENTJAC_DECLARE

// Whether a block of the device has the shared memory that jacobi needs.
LATENTJAC_API bool jacobi_fits(int64_t rows, int64_t columns, int device);

}  // namespace cuda

}  // namespace latentjac
