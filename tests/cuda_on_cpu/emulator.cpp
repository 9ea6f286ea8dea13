// Runs a kernel on the CPU: blocks one after another, each thread of a block on a stack of its own, switched where
// threads meet (__syncthreads and warp operations). A run fails, naming block and thread, when
//   - some threads of a block wait at a barrier that others never reach, or lanes of a warp meet at different places;
//   - memory outside the block's shared memory, or outside a guarded array of the test, is touched (both end at a page
//     that may not be read, and start after bytes that may not be written);
//   - shared memory is misaligned or larger than sm_80 allows.
// Shared memory starts as NaN. Two orders: the second runs threads backwards and copies asynchronous copies at once
// instead of when they are waited for; a missing barrier gives other results in one of them.
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "cuda_runtime.h"
#include "emulator.h"
#include "guarded.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace cuda_on_cpu {
namespace {

constexpr int kMaxThreads = 1024, kLanes = 32;
constexpr size_t kStackBytes = 128 << 10;
size_t shared_limit = 163 << 10;  // of a block on sm_80
struct Copy {
  void* to;
  const void* from;
  size_t bytes;
  bool zero;
  void make() const {
    if (zero)
      memset(to, 0, bytes);
    else
      memcpy(to, from, bytes);
  }
};

enum class State { kReady, kAtBlock, kAtWarp, kDone };

struct Thread {
  jmp_buf here;
  ucontext_t start;
  State state;
  bool started = false;
  const char* what;
  void* argument;
  void (*together)(void* const[kLanes]);
  std::vector<Copy> copies;  // that wait_copies will make
};

// One emulator in the process: the tests call it from one thread.
struct {
  std::vector<std::unique_ptr<Thread>> threads;
  unsigned char* stacks = nullptr;
  jmp_buf scheduler;
  int running = -1, count = 0;
  bool backwards = false;
  const std::function<void()>* body = nullptr;
  Guarded* shared = nullptr;
  std::map<const void*, int> allowed;
  std::string message = "no error";
  int64_t products = 0;
} self;

std::string place(int thread) {
  return "block " + std::to_string(blockIdx.x) + ", thread " + std::to_string(thread);
}

void back_to_scheduler() {
  if (_setjmp(self.threads[self.running]->here) == 0) _longjmp(self.scheduler, 1);
}

// Ends the run from inside a thread, whose stack is abandoned.
[[noreturn]] void fail(const std::string& message) {
  self.message = message;
  _longjmp(self.scheduler, 2);
}

void thread_loop() {
  for (;;) {
    (*self.body)();
    if (!self.threads[self.running]->copies.empty())
      fail(place(self.running) + " ends with asynchronous copies that nobody waited for");
    self.threads[self.running]->state = State::kDone;
    back_to_scheduler();
  }
}

void on_fault(int, siginfo_t* info, void*) {
  const auto shared = reinterpret_cast<intptr_t>(self.shared->start());
  fail(place(self.running) + " touches memory it may not, " +
       std::to_string(reinterpret_cast<intptr_t>(info->si_addr) - shared) +
       " bytes from the start of shared memory (a small number: past its end; else a global array)");
}

void resume(int thread) {
  self.running = thread;
  const unsigned x = static_cast<unsigned>(thread);
  threadIdx = {x % blockDim.x, x / blockDim.x % blockDim.y, x / blockDim.x / blockDim.y};
  Thread& t = *self.threads[thread];
  if (t.started) _longjmp(t.here, 1);
  t.started = true;
  setcontext(&t.start);
}

// Runs one thread until it meets others, ends, or fails (false).
bool step(int thread) {
  const int reason = _setjmp(self.scheduler);
  if (reason == 0) resume(thread);
  return reason == 1;
}

void abandon_stacks() {
  for (auto& thread : self.threads) thread->started = false;
}

void make_threads(int count) {
  if (!self.stacks) {
    self.stacks = static_cast<unsigned char*>(
        mmap(nullptr, kMaxThreads * kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (self.stacks == MAP_FAILED) throw std::bad_alloc();
  }
  while (static_cast<int>(self.threads.size()) < count) self.threads.push_back(std::make_unique<Thread>());
  for (int i = 0; i < count; ++i) {
    Thread& t = *self.threads[i];
    t.state = State::kReady;
    t.copies.clear();
    if (t.started) continue;
    getcontext(&t.start);
    t.start.uc_stack.ss_sp = self.stacks + i * kStackBytes;
    t.start.uc_stack.ss_size = kStackBytes;
    t.start.uc_link = nullptr;
    makecontext(&t.start, thread_loop, 0);
  }
}

// Lets the lanes of a warp go on when all have come to the same operation. False: they never will.
bool release_warp(int first) {
  Thread& leader = *self.threads[first];
  void* arguments[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) {
    const Thread& t = *self.threads[first + lane];
    if (t.state != State::kAtWarp || (t.what != leader.what && strcmp(t.what, leader.what) != 0)) {
      self.message = "block " + std::to_string(blockIdx.x) + ", warp " + std::to_string(first / kLanes) +
                     ": lane 0 is at " + (leader.state == State::kAtWarp ? leader.what : "another place or its end") +
                     ", lane " + std::to_string(lane) + " at " +
                     (t.state == State::kAtWarp ? t.what : "another place or its end");
      return false;
    }
    arguments[lane] = t.argument;
  }
  if (leader.together) leader.together(arguments);
  for (int lane = 0; lane < kLanes; ++lane) self.threads[first + lane]->state = State::kReady;
  return true;
}

// Runs a warp until all its lanes wait for the block or are done.
bool run_warp(int first) {
  for (;;) {
    bool waiting = false;
    for (int k = 0; k < kLanes; ++k) {
      const int thread = first + (self.backwards ? kLanes - 1 - k : k);
      if (self.threads[thread]->state == State::kReady && !step(thread)) return false;
      waiting = waiting || self.threads[thread]->state == State::kAtWarp;
    }
    if (!waiting) return true;
    if (!release_warp(first)) return false;
  }
}

bool run_block() {
  for (;;) {
    const int warps = self.count / kLanes;
    for (int w = 0; w < warps; ++w) {
      if (!run_warp((self.backwards ? warps - 1 - w : w) * kLanes)) return false;
    }
    int waiting = 0;
    for (int i = 0; i < self.count; ++i) waiting += self.threads[i]->state == State::kAtBlock;
    if (waiting == 0) return true;
    if (waiting < self.count) {
      self.message = "block " + std::to_string(blockIdx.x) + ": " + std::to_string(waiting) + " of " +
                     std::to_string(self.count) + " threads wait at __syncthreads, the others have ended";
      return false;
    }
    for (int i = 0; i < self.count; ++i) self.threads[i]->state = State::kReady;
  }
}

bool run_grid(size_t shared_bytes) {
  Guarded shared(shared_bytes);
  self.shared = &shared;
  for (unsigned i = 0; i < gridDim.x * gridDim.y * gridDim.z; ++i) {
    const unsigned b = self.backwards ? gridDim.x * gridDim.y * gridDim.z - 1 - i : i;
    blockIdx = {b % gridDim.x, b / gridDim.x % gridDim.y, b / gridDim.x / gridDim.y};
    memset(shared.start(), 0xff, shared_bytes);
    make_threads(self.count);
    if (!run_block()) return false;
    if (!shared.intact()) {
      self.message = "block " + std::to_string(blockIdx.x) + " wrote in front of its shared memory";
      return false;
    }
  }
  return true;
}

struct ToFloat {
  template <typename T>
  static float of(uint32_t word, int half) {
    const uint16_t bits = static_cast<uint16_t>(word >> (16 * half));
    if constexpr (__is_same(T, __half))
      return half_value(bits);
    else
      return bits_float(static_cast<uint32_t>(bits) << 16);
  }
};

struct MmaLane {
  float* d;
  const uint32_t* a;
  uint32_t b[2];
};

// The fragment layout of PTX: lane = 4 g + t holds rows g and g + 8 of A and D, column g of B.
template <typename T>
void mma_together(void* const lanes[kLanes]) {
  constexpr bool kTf32 = sizeof(T) == 4;
  constexpr int kDepth = kTf32 ? 8 : 16;
  float a[16][kDepth], b[kDepth][8];
  for (int lane = 0; lane < kLanes; ++lane) {
    const MmaLane& own = *static_cast<const MmaLane*>(lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    if constexpr (kTf32) {
      // The tensor core reads no more than the 19 bits of tf32.
      for (int i = 0; i < 4; ++i) a[g + 8 * (i % 2)][t + 4 * (i / 2)] = bits_float(own.a[i] & 0xffffe000u);
      for (int i = 0; i < 2; ++i) b[t + 4 * i][g] = bits_float(own.b[i] & 0xffffe000u);
    } else {
      for (int i = 0; i < 4; ++i) {
        for (int h = 0; h < 2; ++h) a[g + 8 * (i % 2)][2 * t + h + 8 * (i / 2)] = ToFloat::of<T>(own.a[i], h);
      }
      for (int i = 0; i < 2; ++i) {
        for (int h = 0; h < 2; ++h) b[2 * t + h + 8 * i][g] = ToFloat::of<T>(own.b[i], h);
      }
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    const MmaLane& own = *static_cast<const MmaLane*>(lanes[lane]);
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
      float total = 0;
      for (int k = 0; k < kDepth; ++k) total += a[row][k] * b[k][column];
      own.d[i] += total;
    }
  }
}

struct MmaDoubleLane {
  double* d;
  double a, b;
};

// Lane 4 g + t holds A[g][t] and B[t][g], and of the result columns 2 t and 2 t + 1 of row g.
void mma_double_together(void* const lanes[kLanes]) {
  const auto lane_at = [&](int g, int t) { return static_cast<const MmaDoubleLane*>(lanes[4 * g + t]); };
  for (int g = 0; g < 8; ++g) {
    for (int column = 0; column < 8; ++column) {
      double& total = lane_at(g, column / 2)->d[column % 2];
      for (int k = 0; k < 4; ++k) total += lane_at(g, k)->a * lane_at(column, k)->b;
    }
  }
}

struct LdmatrixLane {
  uint32_t* to;
  const unsigned char* row;
  bool transpose;
};

// Lanes 8 m .. 8 m + 7 give the rows of matrix m; each lane gets two neighbours of row (transposed: column) lane / 4.
void ldmatrix_together(void* const lanes[kLanes]) {
  for (int lane = 0; lane < kLanes; ++lane) {
    const LdmatrixLane& own = *static_cast<const LdmatrixLane*>(lanes[lane]);
    for (int m = 0; m < 4; ++m) {
      uint16_t pair[2];
      for (int h = 0; h < 2; ++h) {
        const int along = 2 * (lane % 4) + h, across = lane / 4;
        const int row = own.transpose ? along : across, column = own.transpose ? across : along;
        memcpy(&pair[h], static_cast<const LdmatrixLane*>(lanes[8 * m + row])->row + 2 * column, 2);
      }
      own.to[m] = pair[0] | static_cast<uint32_t>(pair[1]) << 16;
    }
  }
}

}  // namespace

unsigned char* shared_memory() {
  return self.shared->start();
}

void meet_block() {
  self.threads[self.running]->state = State::kAtBlock;
  back_to_scheduler();
}

void meet_warp(const char* what, void* argument, void (*together)(void* const arguments[32])) {
  Thread& t = *self.threads[self.running];
  t.state = State::kAtWarp;
  t.what = what;
  t.argument = argument;
  t.together = together;
  back_to_scheduler();
}

void copy_later(void* to, const void* from, size_t bytes, bool zero) {
  if (reinterpret_cast<uintptr_t>(to) % bytes || (!zero && reinterpret_cast<uintptr_t>(from) % bytes))
    fail(place(self.running) + " makes an asynchronous copy of " + std::to_string(bytes) + " misaligned bytes");
  const Copy copy{to, from, bytes, zero};
  if (self.backwards)
    copy.make();
  else
    self.threads[self.running]->copies.push_back(copy);
}

void wait_copies() {
  auto& copies = self.threads[self.running]->copies;
  for (const Copy& copy : copies) copy.make();
  copies.clear();
}

void ldmatrix(uint32_t (&to)[4], const void* row, bool transpose) {
  if (reinterpret_cast<uintptr_t>(row) % 16) fail(place(self.running) + " gives ldmatrix a misaligned row");
  LdmatrixLane own{to, static_cast<const unsigned char*>(row), transpose};
  meet_warp("ldmatrix", &own, ldmatrix_together);
}

template <typename T>
void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  if (threadIdx.x % kLanes == 0) ++self.products;
  MmaLane own{d, a, {b0, b1}};
  meet_warp("mma", &own, mma_together<T>);
}
template void mma<__nv_bfloat16>(float (&)[4], const uint32_t (&)[4], uint32_t, uint32_t);
template void mma<__half>(float (&)[4], const uint32_t (&)[4], uint32_t, uint32_t);
template void mma<float>(float (&)[4], const uint32_t (&)[4], uint32_t, uint32_t);

void mma_double(double (&d)[2], double a, double b) {
  MmaDoubleLane own{d, a, b};
  meet_warp("mma_double", &own, mma_double_together);
}

uint32_t tf32_bits(float value) {
  const uint32_t bits = float_bits(value);
  return value - value == 0 ? (bits + 0x1000u) & 0xffffe000u : bits;
}

cudaError_t allow_shared(const void* kernel, int bytes) {
  if (bytes < 0 || static_cast<size_t>(bytes) > shared_limit) {
    self.message = std::to_string(bytes) + " bytes of shared memory, more than sm_80 has";
    return cudaErrorInvalidValue;
  }
  self.allowed[kernel] = bytes;
  return cudaSuccess;
}

cudaError_t run(const void* kernel, const cudaLaunchConfig_t& config, const std::function<void()>& thread) {
  const size_t threads = size_t(config.blockDim.x) * config.blockDim.y * config.blockDim.z;
  const auto found = self.allowed.find(kernel);
  const size_t allowed = found == self.allowed.end() ? 48 << 10 : static_cast<size_t>(found->second);
  if (config.dynamicSmemBytes > allowed || threads == 0 || threads > kMaxThreads || threads % kLanes ||
      config.gridDim.x * config.gridDim.y * config.gridDim.z == 0) {
    self.message = "grid " + std::to_string(config.gridDim.x) + ", block " + std::to_string(threads) + ", shared " +
                   std::to_string(config.dynamicSmemBytes) + ": not a launch that this emulator takes";
    return cudaErrorInvalidValue;
  }
  gridDim = config.gridDim;
  blockDim = config.blockDim;
  self.count = static_cast<int>(threads);
  self.body = &thread;
  struct sigaction handler = {}, before[2];
  handler.sa_sigaction = on_fault;
  handler.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGSEGV, &handler, &before[0]);
  sigaction(SIGBUS, &handler, &before[1]);
  const bool good = run_grid(config.dynamicSmemBytes);
  sigaction(SIGSEGV, &before[0], nullptr);
  sigaction(SIGBUS, &before[1], nullptr);
  if (!good) abandon_stacks();
  return good ? cudaSuccess : cudaErrorLaunchFailure;
}

}  // namespace cuda_on_cpu

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = static_cast<int>(cuda_on_cpu::shared_limit);
  return cudaSuccess;
}
const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaSuccess             ? "cudaSuccess"
         : error == cudaErrorInvalidValue ? "cudaErrorInvalidValue"
                                          : "cudaErrorLaunchFailure";
}
const char* cudaGetErrorString(cudaError_t) {
  return cuda_on_cpu::self.message.c_str();
}

// ---- For the tests ----

namespace cuda_on_cpu {

void run_backwards(bool backwards) {
  self.backwards = backwards;
}
void limit_shared(size_t kilobytes) {
  shared_limit = kilobytes << 10;
}
int64_t products() {
  return std::exchange(self.products, 0);
}

}  // namespace cuda_on_cpu
