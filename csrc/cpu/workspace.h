// Memory that the threads of a call work in.
//
// It is reserved before they start: an exception may not leave an OpenMP region, and a call that fails for lack of
// memory has written nothing.
#pragma once

#include "cpu/arithmetic.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace latentjac {
namespace cpu {

// Not inline, as instruction sets must not share inline functions; see dispatch.cpp.
void* reserve(int64_t pieces, int64_t bytes);  // aligned to kPieceAlignment; throws std::bad_alloc
void release(void* memory);
int thread_number();  // within the innermost team

constexpr int64_t kPieceAlignment = 128;  // two cache lines, which processors fetch together

namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr int64_t kRedZone = kPieceAlignment;  // behind each array that a thread takes: its neighbours stay apart
#else
constexpr int64_t kRedZone = 0;
#endif
constexpr int64_t kMostArrays = 12;  // that a thread takes

// Memory of one thread, cut into aligned arrays.
class Scratch {
 public:
  Scratch(char* memory, int64_t bytes) : next_(memory), end_(memory + bytes) {}

  template <typename T>
  T* take(int64_t count) {
    char* taken = next_;
    const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
    next_ += ceil_div(bytes, kPieceAlignment) * kPieceAlignment + kRedZone;
#if defined(LATENTJAC_SANITIZE)
    if (next_ > end_) __builtin_trap();
#endif
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(taken, static_cast<size_t>(bytes));
    __asan_poison_memory_region(taken + bytes, static_cast<size_t>(next_ - taken - bytes));
#endif
    return reinterpret_cast<T*>(taken);
  }

 private:
  char *next_, *end_;
};

class Workspace {
 public:
  // `bytes` for each of `threads` threads, in at most kMostArrays arrays.
  Workspace(int threads, int64_t bytes)
      : piece_((ceil_div(bytes, kPieceAlignment) + kMostArrays) * kPieceAlignment + kMostArrays * kRedZone),
        memory_(static_cast<char*>(reserve(threads, piece_))) {}
  ~Workspace() { release(memory_); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  // The calling thread's piece, from its start again.
  Scratch scratch() const { return {memory_ + thread_number() * piece_, piece_}; }

 private:
  int64_t piece_;
  char* memory_;
};

}  // namespace
}  // namespace cpu
}  // namespace latentjac
