/* The layout of a DLPack tensor, for programs without dlpack.h. Those that have it include it first. */
#ifndef LATENTJAC_DLTENSOR_H
#define LATENTJAC_DLTENSOR_H

#include <stdint.h>

enum { kDLCPU = 1, kDLCUDA = 2 };
enum { kDLFloat = 2, kDLBfloat = 4 };

typedef struct {
  int32_t device_type;
  int32_t device_id;
} DLDevice;

typedef struct {
  uint8_t code, bits;
  uint16_t lanes;
} DLDataType;

typedef struct {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t* shape;
  int64_t* strides; /* in elements; NULL: contiguous */
  uint64_t byte_offset;
} DLTensor;

#endif
