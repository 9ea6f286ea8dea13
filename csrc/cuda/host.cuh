// What launches share on the host.
#pragma once

#include <cuda_runtime.h>
#include <stdint.h>

#include <initializer_list>
#include <stdexcept>
#include <string>

namespace latentjac {
namespace cuda {
namespace {

inline void check(cudaError_t error, const char* what, const std::string& where) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string(what) + where + ": " + cudaGetErrorName(error) + ": " +
                           cudaGetErrorString(error));
}

// Makes `device` current, and puts the caller's device back.
class DeviceScope {
 public:
  explicit DeviceScope(int device) {
    check(cudaGetDevice(&before_), "cudaGetDevice", "");
    if (before_ != device) check(cudaSetDevice(device), "cudaSetDevice", " " + std::to_string(device));
  }
  ~DeviceScope() { cudaSetDevice(before_); }
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  int before_ = 0;
};

// Bytes of shared memory that a block can be given.
inline int64_t shared_room(int device) {
  int bytes = 0;
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "cudaDeviceGetAttribute", "");
  return bytes;
}

// Four values a load where every run of channels that a lane walks is a multiple of four and aligned.
inline bool four_fit(int64_t run, std::initializer_list<const void*> arrays) {
  for (const void* p : arrays) {
    if (reinterpret_cast<uintptr_t>(p) % 16 != 0) return false;
  }
  return run % 4 == 0;
}

}  // namespace
}  // namespace cuda
}  // namespace latentjac
