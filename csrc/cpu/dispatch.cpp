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

namespace {

// The kernels of one instruction set.
struct Copy {
  const char* isa;
  bool runs_here;
#define LATENTJAC_POINTER(name, Call) void (*name)(const Call&, int threads);
  LATENTJAC_CPU_KERNELS(LATENTJAC_POINTER)
#undef LATENTJAC_POINTER
};

}  // namespace

#define LATENTJAC_DECLARE(name, Call) void name(const Call&, int threads);
#define LATENTJAC_NAME(name, Call) name,
#define LATENTJAC_COPY(isa)                                          \
  namespace isa {                                                    \
  LATENTJAC_CPU_KERNELS(LATENTJAC_DECLARE)                           \
  static Copy copy(bool runs_here) {                                 \
    return {#isa, runs_here, LATENTJAC_CPU_KERNELS(LATENTJAC_NAME)}; \
  }                                                                  \
  }
LATENTJAC_COPY(baseline)
#if defined(LATENTJAC_X86_COPIES)
LATENTJAC_COPY(avx2)
LATENTJAC_COPY(avx512)
#endif
#undef LATENTJAC_COPY
#undef LATENTJAC_NAME
#undef LATENTJAC_DECLARE

namespace {

const Copy& chosen() {
  static const Copy copy = [] {
#if defined(LATENTJAC_X86_COPIES)
    __builtin_cpu_init();
    const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    const Copy copies[] = {avx512::copy(has_avx512), avx2::copy(has_avx2), baseline::copy(true)};
#else
    const Copy copies[] = {baseline::copy(true)};
#endif
    const char* wish = std::getenv("LATENTJAC_ISA");
    for (const Copy& candidate : copies) {
      if (candidate.runs_here && (!wish || !*wish || std::strcmp(wish, candidate.isa) == 0)) return candidate;
    }
    throw std::runtime_error(std::string("LATENTJAC_ISA=") + wish +
                             " is not compiled in or not supported here; compiled: " + isa_compiled());
  }();
  return copy;
}

constexpr std::align_val_t kAlignment{kPieceAlignment};

template <typename Call>
DType dtype_of(const Call& call) {
  return call.dtype;
}
DType dtype_of(const AttentionPrimal& call) {
  return call.shape.dtype;
}
DType dtype_of(const AttentionTangent& call) {
  return call.shape.dtype;
}
DType dtype_of(const AttentionCotangent& call) {
  return call.shape.dtype;
}

// What no array shows: a program that gives another type would have its memory read as float32.
void check_call(const char* name, DType dtype, int threads) {
  const int type = static_cast<int>(dtype);
  if (type < 0 || type >= kCpuTypes) {
    throw std::runtime_error(std::string(name) + ": dtype must be float32 or float64 on the processor, got number " +
                             std::to_string(type));
  }
  if (threads < 1) {
    throw std::runtime_error(std::string(name) + ": threads must be 1 or more, got " + std::to_string(threads));
  }
}

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
  return chosen().isa;
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

#define LATENTJAC_CHOOSE(name, Call)            \
  void name(const Call& call, int threads) {    \
    check_call(#name, dtype_of(call), threads); \
    chosen().name(call, threads);               \
  }
LATENTJAC_CPU_KERNELS(LATENTJAC_CHOOSE)
#undef LATENTJAC_CHOOSE

}  // namespace cpu
}  // namespace latentjac
