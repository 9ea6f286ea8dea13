// What the checks of the native kernels share: random numbers, arrays of exactly their size, and problems.
//
// A problem is one call of a kernel with its inputs. Solving it gives the bits of all results, which must not depend on
// the number of threads, on where rows lie, or on what else runs at the same time.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "kernels.h"

namespace checks {

[[noreturn]] inline void fail(const std::string& what) {
  std::fprintf(stderr, "FAILED: %s\n", what.c_str());
  std::exit(1);
}

inline void require(bool right, const char* what, const std::string& name) {
  if (!right) fail(name + ": " + what);
}

// Splitmix64: cheap without optimisation, too.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t operator()() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  int64_t below(int64_t limit) { return static_cast<int64_t>((*this)() % static_cast<uint64_t>(limit)); }
  int64_t pick(std::initializer_list<int64_t> values) {
    return values.begin()[below(static_cast<int64_t>(values.size()))];
  }
  double value() { return static_cast<double>((*this)() >> 11) * 0x1p-51 - 2; }  // in [-2, 2)

 private:
  uint64_t state_;
};

// A hash of the bits of all results.
class Bits {
 public:
  template <typename T>
  void add(T value) {
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    hash_ = (hash_ ^ bits) * 0x100000001b3 + 1;
  }
  bool operator==(const Bits& other) const { return hash_ == other.hash_; }

 private:
  uint64_t hash_ = 0xcbf29ce484222325;
};

// What surrounds the call of a kernel: nothing, or an allocator that fails (memory.cpp).
using Kernel = std::function<void()>;
inline std::function<void(const Kernel&)> around = [](const Kernel& kernel) { kernel(); };

struct Problem {
  std::string name;
  std::function<Bits(int threads)> solve;
};

template <typename T>
constexpr T kUntouched = T(-123.5);  // what results hold before
template <typename T>
constexpr T kForbidden = std::numeric_limits<T>::quiet_NaN();  // what lies between the rows of inputs

// Memory on the heap that ends where the array ends, so that a sanitizer sees each access beyond it. `shift` elements
// lie in front: odd addresses, as those of views.
template <typename T>
class Memory {
 public:
  Memory(int64_t count, T fill, int64_t shift = 0)
      : count_(count), shift_(shift), memory_(static_cast<T*>(::operator new(bytes(), kAlignment))) {
    for (int64_t i = 0; i < count_ + shift_; ++i) memory_[i] = fill;
  }
  ~Memory() { ::operator delete(memory_, kAlignment); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  T* at() const { return memory_ + shift_; }
  int64_t count() const { return count_; }
  void require_front_untouched(const std::string& name) const {
    for (int64_t i = 0; i < shift_; ++i) require(memory_[i] == kUntouched<T>, "wrote in front of a result", name);
  }

 private:
  static constexpr std::align_val_t kAlignment{64};
  size_t bytes() const { return static_cast<size_t>(count_ + shift_) * sizeof(T); }
  int64_t count_, shift_;
  T* memory_;
};

template <typename T>
using Shared = std::shared_ptr<Memory<T>>;

template <typename T>
Shared<T> draw(Random& random, int64_t count) {
  auto memory = std::make_shared<Memory<T>>(count, T(0), random.below(3));
  for (int64_t i = 0; i < count; ++i) memory->at()[i] = static_cast<T>(random.value());
  return memory;
}

// One entry of a result, which has to be written. A logarithm of nothing is -inf.
template <typename T>
void add_entry(Bits& bits, T value, const std::string& name) {
  require(!std::isnan(value) && value != kUntouched<T>, "an entry of a result is missing or NaN", name);
  bits.add(value);
}

template <typename T>
void add_all(Bits& bits, const Memory<T>& result, const std::string& name) {
  result.require_front_untouched(name);
  for (int64_t i = 0; i < result.count(); ++i) add_entry(bits, result.at()[i], name);
}

template <typename T>
constexpr latentjac::DType dtype_of() {
  return sizeof(T) == 8 ? latentjac::DType::kFloat64 : latentjac::DType::kFloat32;
}

template <typename T>
std::string type_name() {
  return sizeof(T) == 8 ? " float64" : " float32";
}

// Adds `count` problems of each kernel and type; the same numbers give the same problems. `empty`: one size is zero.
void add_norms(std::vector<Problem>& problems, Random random, int count, bool empty);
void add_gated(std::vector<Problem>& problems, Random random, int count, bool empty);
void add_attention(std::vector<Problem>& problems, Random random, int count, bool empty);
void add_rowwise(std::vector<Problem>& problems, Random random, int count, bool empty);
// What only happens to large arrays: results written past the caches, samples cut into blocks, probes into groups.
void add_large(std::vector<Problem>& problems, Random random);
void add_large_attention(std::vector<Problem>& problems, Random random);

}  // namespace checks
