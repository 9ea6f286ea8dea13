// What the tests set and ask.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace cuda_on_cpu {

void run_backwards(bool backwards);   // the second of the two orders
void limit_shared(size_t kilobytes);  // of a block
int64_t products();                   // calls of mma, by all warps together, since this was last asked
void run_faulty(int fault, float* out, const float* in);  // faults.cu

}  // namespace cuda_on_cpu
