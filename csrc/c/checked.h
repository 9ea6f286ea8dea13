// What tensors of DLPack must be for a kernel: every fault is named before anything is read or written.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels.h"
#include "kernels_c.h"

namespace latentjac {

struct Wrong : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

using Sizes = std::vector<int64_t>;

constexpr int kMostDimensions = 8;  // more are no tensor's: the number itself is not one

inline std::string text(const Sizes& sizes) {
  std::string all = "[";
  for (const int64_t size : sizes) all += (all.size() > 1 ? ", " : "") + std::to_string(size);
  return all + "]";
}

inline DType type_of(const std::string& name, const DLTensor& tensor) {
  const auto [code, bits, lanes] = tensor.dtype;
  if (lanes == 1 && code == kDLFloat && bits == 32) return DType::kFloat32;
  if (lanes == 1 && code == kDLFloat && bits == 64) return DType::kFloat64;
  if (lanes == 1 && code == kDLFloat && bits == 16) return DType::kFloat16;
  if (lanes == 1 && code == kDLBfloat && bits == 16) return DType::kBFloat16;
  throw Wrong(name + " must be float32, float64, bfloat16 or float16, got DLPack's type code " + std::to_string(code) +
              " of " + std::to_string(bits) + " bits and " + std::to_string(lanes) + " lanes");
}

// One call: where it runs, and the checks of its tensors.
class Call {
 public:
  Call(const char* kernel, const char* name, const DLTensor* first) : kernel_(kernel) {
    if (!first) throw Wrong(at(name) + " must be a tensor, got NULL");
    device_ = first->device;
    type = type_of(at(name), *first);
    if (device_.device_type != kDLCPU && device_.device_type != kDLCUDA) {
      throw Wrong(at(name) + " must be on the processor or on CUDA, got DLPack's device " +
                  std::to_string(static_cast<int>(device_.device_type)));
    }
    if (on_processor() && static_cast<int>(type) >= kCpuTypes) {
      throw Wrong(at(name) + " must be float32 or float64 on the processor");
    }
  }

  std::string at(const char* name) const { return std::string(kernel_) + ": " + name; }
  bool on_processor() const { return device_.device_type == kDLCPU; }
  int device() const { return device_.device_id; }
  DType kept() const { return type == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32; }

  static Sizes shape(const DLTensor& tensor) {
    const bool readable = tensor.shape && tensor.ndim > 0 && tensor.ndim <= kMostDimensions;
    return readable ? Sizes(tensor.shape, tensor.shape + tensor.ndim) : Sizes{};
  }

  // Of a tensor whose values can be counted.
  static Sizes strides(const DLTensor& tensor) {
    if (tensor.strides) return Sizes(tensor.strides, tensor.strides + tensor.ndim);
    const Sizes sizes = shape(tensor);
    Sizes dense(sizes.size(), 1);
    for (size_t i = sizes.size(); i-- > 1;) dense[i - 1] = dense[i] * sizes[i];
    return dense;
  }

  // The sizes of a tensor of so many dimensions.
  Sizes sizes(const char* name, const DLTensor* tensor, int ndim) const {
    if (!tensor) throw Wrong(at(name) + " must be a tensor, got NULL");
    const Sizes found = shape(*tensor);
    if (found.size() != static_cast<size_t>(ndim)) {
      throw Wrong(at(name) + " must have " + std::to_string(ndim) + " dimensions, got " + text(found));
    }
    type_of(at(name), *tensor);
    check_reach(name, *tensor);
    return found;
  }

  // The address of a tensor of this shape and type, with strides as they are; NULL for none.
  void* address(const char* name, const DLTensor* tensor, const Sizes& wanted, DType wanted_type) const {
    if (!tensor) return nullptr;
    if (shape(*tensor) != wanted) {
      throw Wrong(at(name) + " must have shape " + text(wanted) + ", got " + text(shape(*tensor)));
    }
    if (type_of(at(name), *tensor) != wanted_type) throw Wrong(at(name) + " has another type than this kernel takes");
    if (tensor->device.device_type != device_.device_type || tensor->device.device_id != device_.device_id) {
      throw Wrong(at(name) + " must be on the device of the first tensor");
    }
    check_reach(name, *tensor);
    if (!tensor->data) {
      for (const int64_t size : wanted) {
        if (size == 0) return nullptr;
      }
      throw Wrong(at(name) + " must have memory, got NULL");
    }
    return static_cast<char*>(tensor->data) + tensor->byte_offset;
  }

  void* dense(const char* name, const DLTensor* tensor, const Sizes& wanted, DType wanted_type) const {
    void* found = address(name, tensor, wanted, wanted_type);
    if (tensor) {
      int64_t expected = 1;
      const Sizes steps = strides(*tensor);
      for (size_t i = wanted.size(); i-- > 0; expected *= wanted[i]) {
        if (wanted[i] > 1 && steps[i] != expected) {
          throw Wrong(at(name) + " must be contiguous, got strides " + text(steps));
        }
      }
    }
    return found;
  }

  // The same for a tensor that has to be there.
  void* needed(const char* name, const DLTensor* tensor, const Sizes& wanted, DType wanted_type) const {
    if (!tensor) throw Wrong(at(name) + " must be a tensor, got NULL");
    return dense(name, tensor, wanted, wanted_type);
  }

  // [batch, heads, rows, channels], with probes in front for five sizes.
  Strided strided(const char* name, const DLTensor* tensor, const Sizes& wanted) const {
    Strided out = {};
    out.at = address(name, tensor, wanted, type);
    if (!tensor) return out;
    const Sizes steps = strides(*tensor);
    const size_t first = wanted.size() - 4;
    if (wanted.back() > 1 && steps.back() != 1) {
      throw Wrong(at(name) + " must have channels of stride 1, got strides " + text(steps));
    }
    out.probe = first ? steps[0] : 0;
    out.batch = steps[first];
    out.head = steps[first + 1];
    out.row = steps[first + 2];
    return out;
  }

  // The same as a result, in which values may not share a place.
  Strided result(const char* name, const DLTensor* tensor, const Sizes& wanted) const {
    const Strided out = strided(name, tensor, wanted);
    for (size_t i = 0; tensor && i < wanted.size(); ++i) {
      if (wanted[i] > 1 && strides(*tensor)[i] == 0) {
        throw Wrong(at(name) + " must have a place for each value, got strides " + text(strides(*tensor)));
      }
    }
    return out;
  }

  // Rows [P, R, C] that lie one stride apart, also from one probe to the next.
  void* rows(const char* name, const DLTensor* tensor, const Sizes& wanted, int64_t* stride) const {
    if (!tensor) throw Wrong(at(name) + " must be a tensor, got NULL");
    void* found = address(name, tensor, wanted, type);
    const Sizes steps = strides(*tensor);
    *stride = wanted[1] > 1 ? steps[1] : wanted[0] > 1 ? steps[0] : wanted[2];
    if ((wanted[2] > 1 && steps[2] != 1) || *stride < wanted[2] || (wanted[0] > 1 && steps[0] != *stride * wanted[1])) {
      throw Wrong(at(name) + " must have rows one stride apart and channels of stride 1, got strides " + text(steps));
    }
    return found;
  }

  DType type;

 private:
  // That its bytes can be counted, from the first value to the last, and that it begins where its type may lie.
  void check_reach(const char* name, const DLTensor& tensor) const {
    const Sizes sizes = shape(tensor);
    const int64_t bytes = tensor.dtype.bits / 8;
    int64_t values = bytes;
    bool counted = true;
    for (const int64_t size : sizes) {
      if (size < 0) throw Wrong(at(name) + " must have sizes of 0 or more, got " + text(sizes));
      counted = counted && !__builtin_mul_overflow(values, std::max<int64_t>(size, 1), &values);
    }
    int64_t reach = bytes;
    for (size_t i = 0; counted && tensor.strides && i < sizes.size(); ++i) {
      const int64_t last = std::max<int64_t>(sizes[i] - 1, 0), step = tensor.strides[i];
      int64_t far;
      counted = step != INT64_MIN && !__builtin_mul_overflow(last, std::abs(step), &far) &&
                !__builtin_mul_overflow(far, bytes, &far) && !__builtin_add_overflow(reach, far, &reach);
    }
    if (!counted) throw Wrong(at(name) + " must have fewer than 2^63 bytes, got shape " + text(sizes));
    if ((reinterpret_cast<uintptr_t>(tensor.data) + tensor.byte_offset) % static_cast<uintptr_t>(bytes) != 0) {
      throw Wrong(at(name) + " must begin at a multiple of its type's " + std::to_string(bytes) + " bytes");
    }
  }

  const char* kernel_;
  DLDevice device_;
};

}  // namespace latentjac
