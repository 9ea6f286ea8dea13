// Chooses the copy of the CPU kernels compiled for the best instruction set this processor has.
// LATENTJAC_ISA=baseline|avx2|avx512 in the environment asks for an older one (for tests and comparisons).
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "cpu/workspace.h"
#include "kernels.h"

// Defined for the checks in tests/native, which compile one copy for the instruction set that they check.
#if defined(__x86_64__) && !defined(LATENTJAC_BASELINE_ALONE)
#define LATENTJAC_X86_COPIES
#endif

namespace latentjac {
namespace cpu {

#define LATENTJAC_DECLARE(isa)                                  \
  namespace isa {                                               \
  void norm_act_primal(const NormPrimal&, int threads);         \
  void norm_act_linear(const NormLinear&, int threads);         \
  void gated_tangent(const GatedTangent&, int threads);         \
  void gated_cotangent(const GatedCotangent&, int threads);     \
  void attention_primal(const AttentionPrimal&, int threads);   \
  void attention_tangent(const AttentionTangent&, int threads); \
  void attention_cotangent(const AttentionCotangent&, int);     \
  void rowwise_product(const RowwiseProduct&, int threads);     \
  }
LATENTJAC_DECLARE(baseline)
#if defined(LATENTJAC_X86_COPIES)
LATENTJAC_DECLARE(avx2)
LATENTJAC_DECLARE(avx512)
#endif
#undef LATENTJAC_DECLARE

namespace {

struct Copy {
  const char* name;
  bool runs_here;
  void (*norm_act_primal)(const NormPrimal&, int);
  void (*norm_act_linear)(const NormLinear&, int);
  void (*gated_tangent)(const GatedTangent&, int);
  void (*gated_cotangent)(const GatedCotangent&, int);
  void (*attention_primal)(const AttentionPrimal&, int);
  void (*attention_tangent)(const AttentionTangent&, int);
  void (*attention_cotangent)(const AttentionCotangent&, int);
  void (*rowwise_product)(const RowwiseProduct&, int);
};

#define LATENTJAC_COPY(isa, runs_here)                                                                     \
  Copy {                                                                                                   \
    #isa, runs_here, isa::norm_act_primal, isa::norm_act_linear, isa::gated_tangent, isa::gated_cotangent, \
        isa::attention_primal, isa::attention_tangent, isa::attention_cotangent, isa::rowwise_product      \
  }

const Copy& chosen() {
  static const Copy copy = [] {
#if defined(LATENTJAC_X86_COPIES)
    __builtin_cpu_init();
    const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    const Copy copies[] = {LATENTJAC_COPY(avx512, has_avx512), LATENTJAC_COPY(avx2, has_avx2),
                           LATENTJAC_COPY(baseline, true)};
#else
    const Copy copies[] = {LATENTJAC_COPY(baseline, true)};
#endif
    const char* wish = std::getenv("LATENTJAC_ISA");
    for (const Copy& candidate : copies) {
      if (candidate.runs_here && (!wish || !*wish || std::strcmp(wish, candidate.name) == 0)) return candidate;
    }
    throw std::runtime_error(std::string("LATENTJAC_ISA=") + wish +
                             " is not compiled in or not supported here; compiled: " + isa_compiled());
  }();
  return copy;
}

constexpr std::align_val_t kAlignment{kPieceAlignment};

}  // namespace

void* reserve(int64_t pieces, int64_t bytes) {
  int64_t all;
  if (__builtin_mul_overflow(pieces, bytes, &all)) throw std::bad_alloc();
  return ::operator new(static_cast<size_t>(all), kAlignment);
}

void release(void* memory) {
  ::operator delete(memory, kAlignment);
}

int thread_number() {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}

const char* isa() {
  return chosen().name;
}

const char* isa_compiled() {
#if defined(LATENTJAC_X86_COPIES)
  return "baseline avx2 avx512";
#else
  return "baseline";
#endif
}

int max_threads() {
#ifdef _OPENMP
  return omp_get_max_threads();
#else
  return 1;
#endif
}

bool built_openmp() {
#ifdef _OPENMP
  return true;
#else
  return false;
#endif
}

bool end_threads() {
#ifdef _OPENMP
  // Looked up, not linked: an older library would make the whole module fail to load.
  using Pause = int (*)(int);
  static const auto pause = reinterpret_cast<Pause>(dlsym(RTLD_DEFAULT, "omp_pause_resource_all"));
  constexpr int kSoft = 1;  // omp_pause_soft: settings stay
  return pause && pause(kSoft) == 0;
#else
  return true;
#endif
}

void norm_act_primal(const NormPrimal& call, int threads) {
  chosen().norm_act_primal(call, threads);
}
void norm_act_linear(const NormLinear& call, int threads) {
  chosen().norm_act_linear(call, threads);
}
void gated_tangent(const GatedTangent& call, int threads) {
  chosen().gated_tangent(call, threads);
}
void gated_cotangent(const GatedCotangent& call, int threads) {
  chosen().gated_cotangent(call, threads);
}
void attention_primal(const AttentionPrimal& call, int threads) {
  chosen().attention_primal(call, threads);
}
void attention_tangent(const AttentionTangent& call, int threads) {
  chosen().attention_tangent(call, threads);
}
void attention_cotangent(const AttentionCotangent& call, int threads) {
  chosen().attention_cotangent(call, threads);
}
void rowwise_product(const RowwiseProduct& call, int threads) {
  chosen().rowwise_product(call, threads);
}

}  // namespace cpu
}  // namespace latentjac
