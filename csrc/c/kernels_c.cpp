// The functions of kernels_c.h: tensors are checked (checked.h) and become the calls of kernels.h.
#include "kernels_c.h"

#include <algorithm>
#include <initializer_list>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>

#include "c/checked.h"
#include "kernels.h"

namespace latentjac {
namespace {

static_assert(LATENTJAC_C_MAJOR == LATENTJAC_INTERFACE_MAJOR && LATENTJAC_C_MINOR == LATENTJAC_INTERFACE_MINOR);

thread_local std::string last_error;

// Keeps the reason of a failure; where there is no memory for that, none.
void remember(const char* reason) noexcept {
  try {
    last_error = reason;
  } catch (const std::bad_alloc&) {
    last_error.clear();
  }
}

struct NeedsWorkspace : std::runtime_error {
  explicit NeedsWorkspace(int64_t needed)
      : std::runtime_error("run: workspace must have " + std::to_string(needed) + " bytes on the device"),
        bytes(needed) {}
  int64_t bytes;
};
struct NotBuilt {};

int threads_of(const latentjac_run& run) {
  if (run.threads < 0) throw Wrong("run: threads must be 0 or more, got " + std::to_string(run.threads));
  const int wanted = run.threads ? run.threads : cpu::max_threads();
  // Threads that cannot be started end the whole process, and more than there are processors serve nobody.
  const auto processors = static_cast<int>(std::thread::hardware_concurrency());
  return processors > 0 ? std::min(wanted, processors) : wanted;
}

#ifdef LATENTJAC_WITH_CUDA
void check_workspace(latentjac_run& run, int64_t bytes) {
  if (bytes > (run.workspace ? run.workspace_bytes : 0)) throw NeedsWorkspace(bytes);
}

#define LATENTJAC_ON_CUDA(name, bytes) \
  check_workspace(run, bytes);         \
  cuda::name(call, run.workspace, device, run.stream)
#else
#define LATENTJAC_ON_CUDA(name, bytes) \
  (void)device;                        \
  throw NotBuilt {}
#endif

// Runs a kernel where its tensors are.
#define LATENTJAC_RUN(name, CallType, bytes)                                                    \
  void launch_##name(const CallType& call, bool on_processor, int device, latentjac_run& run) { \
    if (on_processor) {                                                                         \
      cpu::name(call, threads_of(run));                                                         \
    } else {                                                                                    \
      LATENTJAC_ON_CUDA(name, bytes);                                                           \
    }                                                                                           \
  }
LATENTJAC_RUN(norm_act_primal, NormPrimal, cuda::norm_act_primal_workspace(call, device))
LATENTJAC_RUN(norm_act_linear, NormLinear, cuda::norm_act_linear_workspace(call, device))
LATENTJAC_RUN(gated_tangent, GatedTangent, 0)
LATENTJAC_RUN(gated_cotangent, GatedCotangent, 0)
LATENTJAC_RUN(attention_primal, AttentionPrimal, 0)
LATENTJAC_RUN(attention_tangent, AttentionTangent, 0)
LATENTJAC_RUN(attention_cotangent, AttentionCotangent, 0)
#undef LATENTJAC_RUN

template <typename Body>
int guarded(latentjac_run* given, const Body& body) {
  latentjac_run run = {};
  if (given) run = *given;
  try {
    body(run);
    return LATENTJAC_OK;
  } catch (const NeedsWorkspace& needs) {
    if (given) given->workspace_bytes = needs.bytes;
    remember(needs.what());
    return LATENTJAC_NEEDS_WORKSPACE;
  } catch (const NotBuilt&) {
    remember("this library has no CUDA kernels");
    return LATENTJAC_NOT_BUILT;
  } catch (const std::bad_alloc&) {
    remember("out of memory");
    return LATENTJAC_NO_MEMORY;
  } catch (const Wrong& wrong) {
    remember(wrong.what());
    return LATENTJAC_WRONG_ARGUMENT;
  } catch (const std::exception& error) {
    remember(error.what());
    return LATENTJAC_FAILED;
  }
}

// Elements from one sample's scale or shift to the next: [C] serves all samples, [N, C] has one each.
const void* affine(const Call& c, const char* name, const DLTensor* tensor, int64_t samples, int64_t channels,
                   int64_t* stride) {
  const bool each = tensor && tensor->ndim == 2;
  *stride = each ? channels : 0;
  return c.dense(name, tensor, each ? Sizes{samples, channels} : Sizes{channels}, c.kept());
}

int64_t checked_groups(const Call& c, int64_t groups, int64_t channels) {
  if (groups < 1 || channels % groups != 0) {
    throw Wrong(c.at("groups") + " must divide the channels, " + std::to_string(channels) + ", got " +
                std::to_string(groups));
  }
  return groups;
}

// What primal, tangent and cotangent of attention have in common.
template <typename Attention>
Attention attention(const Call& c, const latentjac_attention& given) {
  Attention call = {};
  const Sizes q = c.sizes("q", given.q, 4), k = c.sizes("k", given.k, 4), v = c.sizes("v", given.v, 4);
  call.shape = {q[0], q[1], q[2], k[2], q[3], v[3], given.scale, c.type, given.causal != 0, given.allow_tf32 != 0};
  call.q = c.strided("q", given.q, q);
  call.k = c.strided("k", given.k, {q[0], q[1], k[2], q[3]});
  call.v = c.strided("v", given.v, {q[0], q[1], k[2], v[3]});
  if (!given.o) throw Wrong(c.at("o") + " must be a tensor, got NULL");
  call.o = c.strided("o", given.o, {q[0], q[1], q[2], v[3]});
  call.lse = c.needed("lse", given.lse, {q[0], q[1], q[2]}, c.kept());
  if (given.bias) {
    call.bias.at = c.address("bias", given.bias, {q[0], q[1], q[2], k[2]}, c.kept());
    const Sizes steps = Call::strides(*given.bias);
    call.bias.batch = steps[0], call.bias.head = steps[1], call.bias.row = steps[2], call.bias.column = steps[3];
  }
  return call;
}

const latentjac_attention& given_primal(const char* kernel, const latentjac_attention* primal) {
  if (!primal) throw Wrong(std::string(kernel) + ": primal must be given, got NULL");
  return *primal;
}

Sizes probed(int64_t probes, std::initializer_list<int64_t> sizes) {
  Sizes all{probes};
  all.insert(all.end(), sizes);
  return all;
}

// Tangents or results of q, k and v; at least one.
template <typename Attention, typename As>
void set_parts(const Call& c, Attention& call, const As& as, const DLTensor* dq, const DLTensor* dk,
               const DLTensor* dv) {
  if (!dq && !dk && !dv) throw Wrong(c.at("dq") + ", dk or dv must be a tensor, got NULL for all");
  const AttentionShape& s = call.shape;
  call.dq = (c.*as)("dq", dq, probed(call.probes, {s.batch, s.heads, s.queries, s.channels}));
  call.dk = (c.*as)("dk", dk, probed(call.probes, {s.batch, s.heads, s.keys, s.channels}));
  call.dv = (c.*as)("dv", dv, probed(call.probes, {s.batch, s.heads, s.keys, s.value_channels}));
}

}  // namespace
}  // namespace latentjac

using namespace latentjac;

const char* latentjac_error(void) {
  return last_error.c_str();
}

int latentjac_check_interface(int major, int minor) {
  return guarded(nullptr, [&](latentjac_run&) {
    if (major == LATENTJAC_INTERFACE_MAJOR && minor <= LATENTJAC_INTERFACE_MINOR) return;
    throw Wrong("the library has interface " + std::to_string(LATENTJAC_INTERFACE_MAJOR) + "." +
                std::to_string(LATENTJAC_INTERFACE_MINOR) + ", the program was compiled for " + std::to_string(major) +
                "." + std::to_string(minor));
  });
}

int latentjac_norm_primal(const DLTensor* x, const DLTensor* gamma, const DLTensor* beta, int64_t groups, double eps,
                          int activation, int rms, const DLTensor* y, const DLTensor* xhat, const DLTensor* a,
                          latentjac_run* run) {
  return guarded(run, [&](latentjac_run& how) {
    const Call c("latentjac_norm_primal", "x", x);
    const Sizes sizes = c.sizes("x", x, 3);
    if (activation < 0 || activation >= kActivations) {
      throw Wrong(c.at("activation") + " must be in [0, " + std::to_string(kActivations - 1) + "], got " +
                  std::to_string(activation));
    }
    if (!(eps >= 0)) throw Wrong(c.at("eps") + " must be 0 or more");
    NormPrimal call = {};
    call.x = c.dense("x", x, sizes, c.type);
    call.gamma = affine(c, "gamma", gamma, sizes[0], sizes[2], &call.gamma_stride);
    call.beta = affine(c, "beta", beta, sizes[0], sizes[2], &call.beta_stride);
    call.y = c.dense("y", y, sizes, c.type);
    call.xhat = c.needed("xhat", xhat, sizes, c.kept());
    call.a = c.needed("a", a, sizes, c.kept());
    call.samples = sizes[0], call.positions = sizes[1], call.channels = sizes[2];
    call.groups = checked_groups(c, groups, sizes[2]);
    call.eps = eps, call.dtype = c.type, call.activation = static_cast<Activation>(activation), call.rms = rms != 0;
    launch_norm_act_primal(call, c.on_processor(), c.device(), how);
  });
}

int latentjac_norm_linear(const DLTensor* t, const DLTensor* a, const DLTensor* xhat, int64_t groups, int rms,
                          int transpose, int accumulate, const DLTensor* out, latentjac_run* run) {
  return guarded(run, [&](latentjac_run& how) {
    const Call c("latentjac_norm_linear", "t", t);
    const Sizes sizes = c.sizes("t", t, 4), one(sizes.begin() + 1, sizes.end());
    NormLinear call = {};
    call.t = c.dense("t", t, sizes, c.type);
    call.a = c.needed("a", a, one, c.kept());
    call.xhat = c.needed("xhat", xhat, one, c.kept());
    call.out = c.needed("out", out, sizes, c.type);
    call.probes = sizes[0], call.samples = sizes[1], call.positions = sizes[2], call.channels = sizes[3];
    call.groups = checked_groups(c, groups, sizes[3]);
    call.dtype = c.type, call.rms = rms != 0, call.transpose = transpose != 0, call.accumulate = accumulate != 0;
    launch_norm_act_linear(call, c.on_processor(), c.device(), how);
  });
}

int latentjac_gated_tangent(const DLTensor* value, const DLTensor* gate, const DLTensor* a, const DLTensor* b,
                            const DLTensor* out, latentjac_run* run) {
  return guarded(run, [&](latentjac_run& how) {
    const Call c("latentjac_gated_tangent", "value", value);
    const Sizes sizes = c.sizes("value", value, 3), one(sizes.begin() + 1, sizes.end());
    GatedTangent call = {};
    call.value = c.rows("value", value, sizes, &call.value_stride);
    call.gate = c.rows("gate", gate, sizes, &call.gate_stride);
    call.a = c.needed("a", a, one, c.kept());
    call.b = c.needed("b", b, one, c.kept());
    call.out = c.needed("out", out, sizes, c.type);
    call.probes = sizes[0], call.rows = sizes[1], call.channels = sizes[2], call.dtype = c.type;
    launch_gated_tangent(call, c.on_processor(), c.device(), how);
  });
}

int latentjac_gated_cotangent(const DLTensor* u, const DLTensor* a, const DLTensor* b, const DLTensor* value,
                              const DLTensor* gate, latentjac_run* run) {
  return guarded(run, [&](latentjac_run& how) {
    const Call c("latentjac_gated_cotangent", "u", u);
    const Sizes sizes = c.sizes("u", u, 3), one(sizes.begin() + 1, sizes.end());
    GatedCotangent call = {};
    call.u = c.dense("u", u, sizes, c.type);
    call.a = c.needed("a", a, one, c.kept());
    call.b = c.needed("b", b, one, c.kept());
    call.value = c.rows("value", value, sizes, &call.value_stride);
    call.gate = c.rows("gate", gate, sizes, &call.gate_stride);
    call.probes = sizes[0], call.rows = sizes[1], call.channels = sizes[2], call.dtype = c.type;
    launch_gated_cotangent(call, c.on_processor(), c.device(), how);
  });
}

int latentjac_attention_primal(const latentjac_attention* primal, latentjac_run* run) {
  return guarded(run, [&](latentjac_run& how) {
    const auto& given = given_primal("latentjac_attention_primal", primal);
    const Call c("latentjac_attention_primal", "q", given.q);
    auto call = attention<AttentionPrimal>(c, given);
    call.o = c.result("o", given.o, Call::shape(*given.o));
    launch_attention_primal(call, c.on_processor(), c.device(), how);
  });
}

int latentjac_attention_tangent(const latentjac_attention* primal, const DLTensor* dq, const DLTensor* dk,
                                const DLTensor* dv, int accumulate, const DLTensor* out, latentjac_run* run) {
  return guarded(run, [&](latentjac_run& how) {
    const auto& given = given_primal("latentjac_attention_tangent", primal);
    const Call c("latentjac_attention_tangent", "q", given.q);
    auto call = attention<AttentionTangent>(c, given);
    const AttentionShape& s = call.shape;
    call.probes = c.sizes("out", out, 5)[0];
    call.out = c.result("out", out, probed(call.probes, {s.batch, s.heads, s.queries, s.value_channels}));
    set_parts(c, call, &Call::strided, dq, dk, dv);
    call.accumulate = accumulate != 0;
    launch_attention_tangent(call, c.on_processor(), c.device(), how);
  });
}

int latentjac_attention_cotangent(const latentjac_attention* primal, const DLTensor* u, const DLTensor* dq,
                                  const DLTensor* dk, const DLTensor* dv, latentjac_run* run) {
  return guarded(run, [&](latentjac_run& how) {
    const auto& given = given_primal("latentjac_attention_cotangent", primal);
    const Call c("latentjac_attention_cotangent", "q", given.q);
    auto call = attention<AttentionCotangent>(c, given);
    const AttentionShape& s = call.shape;
    call.probes = c.sizes("u", u, 5)[0];
    call.u = c.strided("u", u, probed(call.probes, {s.batch, s.heads, s.queries, s.value_channels}));
    set_parts(c, call, &Call::result, dq, dk, dv);
    launch_attention_cotangent(call, c.on_processor(), c.device(), how);
  });
}
