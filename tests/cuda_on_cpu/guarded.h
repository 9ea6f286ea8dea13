// Memory that ends at a page without access. Its bytes are rounded up to 16; what lies around them is a fence.
#pragma once

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <new>

namespace cuda_on_cpu {

class Guarded {
 public:
  explicit Guarded(size_t bytes) : bytes_(bytes) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), rounded = (bytes + 15) / 16 * 16;
    body_ = (rounded + page) / page * page;  // at least one byte of fence in front
    base_ = static_cast<unsigned char*>(
        mmap(nullptr, body_ + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (base_ == MAP_FAILED || mprotect(base_ + body_, page, PROT_NONE) != 0) throw std::bad_alloc();
    all_ = body_ + page;
    start_ = base_ + body_ - rounded;
    memset(base_, kFence, body_);
  }
  ~Guarded() { munmap(base_, all_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  size_t bytes() const { return bytes_; }
  unsigned char* start() const { return start_; }
  bool intact() const {
    for (const unsigned char* p = base_; p < base_ + body_; ++p) {
      if ((p < start_ || p >= start_ + bytes_) && *p != kFence) return false;
    }
    return true;
  }

 private:
  static constexpr unsigned char kFence = 0xa5;
  size_t bytes_, body_, all_;
  unsigned char *base_, *start_;
};

}  // namespace cuda_on_cpu
