// The kernels' host functions for ctypes: an exception becomes a message.
#include <stdio.h>

#include <exception>

#include "kernels.h"

namespace {

template <typename Call>
int guarded_call(char* message, size_t room, const Call& call) {
  try {
    call();
    return 0;
  } catch (const std::exception& error) {
    snprintf(message, room, "%s", error.what());
    return 1;
  }
}

}  // namespace

#define BIND(name, Type)                                                                   \
  int name(const latentjac::Type* call, char* message, size_t room) {                      \
    return guarded_call(message, room, [&] { latentjac::cuda::name(*call, 0, nullptr); }); \
  }
#define BIND_WITH_WORKSPACE(name, Type)                                                               \
  int name(const latentjac::Type* call, void* workspace, char* message, size_t room) {                \
    return guarded_call(message, room, [&] { latentjac::cuda::name(*call, workspace, 0, nullptr); }); \
  }

extern "C" {
int64_t norm_act_workspace(int64_t probes, int64_t samples, int64_t positions, int64_t channels, int64_t groups) {
  return latentjac::cuda::norm_act_workspace(probes, samples, positions, channels, groups);
}
BIND_WITH_WORKSPACE(norm_act_primal, NormPrimal)
BIND_WITH_WORKSPACE(norm_act_linear, NormLinear)
BIND(gated_tangent, GatedTangent)
BIND(gated_cotangent, GatedCotangent)
BIND(attention_primal, AttentionPrimal)
BIND(attention_tangent, AttentionTangent)
BIND(attention_cotangent, AttentionCotangent)
int64_t gram_workspace(int64_t points, int64_t a_rows, int64_t b_rows, int64_t length) {
  return latentjac::cuda::gram_workspace(points, a_rows, b_rows, length);
}
BIND_WITH_WORKSPACE(gram, Gram)
BIND(combine_rows, CombineRows)
int64_t jacobi_needs(int64_t rows, int64_t columns) {
  return latentjac::cuda::jacobi_needs(rows, columns);
}
int64_t jacobi_workspace(int64_t points, int64_t rows, int64_t columns) {
  return latentjac::cuda::jacobi_workspace(points, rows, columns, 0);
}
BIND_WITH_WORKSPACE(jacobi, Jacobi)
}
