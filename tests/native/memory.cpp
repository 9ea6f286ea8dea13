// An allocator that fails on demand: every call of a kernel either gives its result or throws std::bad_alloc.
#include <stdlib.h>

#include <atomic>
#include <utility>

#include "checks.h"

namespace {

std::atomic<int64_t> left{-1};   // allocations until one fails; below 0: none does
std::atomic<int64_t> living{0};  // allocations not yet freed

void* allocate(size_t size, size_t alignment) {
  if (left >= 0 && left-- == 0) throw std::bad_alloc();
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment, size ? size : 1)) throw std::bad_alloc();
  ++living;
  return memory;
}

void release(void* memory) noexcept {
  if (memory) --living;
  free(memory);
}

}  // namespace

// Clang's thread sanitizer has these functions itself; this check does not run under it.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define LATENTJAC_NO_OWN_NEW
#endif
#endif

#if !defined(LATENTJAC_NO_OWN_NEW)
void* operator new(size_t size) {
  return allocate(size, alignof(max_align_t));
}
void* operator new(size_t size, std::align_val_t alignment) {
  return allocate(size, static_cast<size_t>(alignment));
}
void operator delete(void* memory) noexcept {
  release(memory);
}
void operator delete(void* memory, size_t) noexcept {
  release(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
  release(memory);
}
void operator delete(void* memory, size_t, std::align_val_t) noexcept {
  release(memory);
}
#endif

namespace checks {

void check_memory(const std::vector<Problem>& problems) {
  int64_t failures = 0;
  int64_t calls = 0;
  around = [&](const Kernel& kernel) {
    ++calls;
    for (int64_t number = 0;; ++number) {
      const int64_t before = living;
      left = number;
      try {
        kernel();
        const bool all_succeeded = left >= 0;
        left = -1;
        require(all_succeeded, "went on after an allocation had failed", "memory");
        require(living == before, "a call that succeeded keeps memory", "memory");
        return;
      } catch (const std::bad_alloc&) {
        left = -1;
        ++failures;
        require(living == before, "a call that failed keeps memory", "memory");
      }
    }
  };
  for (const Problem& problem : problems) {
    const auto failing = std::exchange(around, [](const Kernel& kernel) { kernel(); });
    const Bits bits = problem.solve(1);
    around = failing;
    // A call that failed has written nothing, so the one that succeeds at last gives what it always gives.
    for (const int threads : {1, 2}) require(problem.solve(threads) == bits, "a failed call wrote", problem.name);
  }
  require(failures > calls / 2, "the kernels allocate elsewhere", "memory");
  std::printf("memory: %lld calls, %lld failed allocations\n", static_cast<long long>(calls),
              static_cast<long long>(failures));
}

}  // namespace checks
