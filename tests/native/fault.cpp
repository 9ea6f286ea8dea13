// Faults that the sanitizers have to find; test_sanitizers.py holds that they do.
#include <thread>

#include "checks.h"
#include "cpu/workspace.h"

namespace checks {

// `one` is 1; the compiler does not know.
int run_fault(const std::string& kind, int one) {
  Memory<float> memory(8, 1.0f);
  if (kind == "beyond an array") return static_cast<int>(memory.at()[7 + one]);
  if (kind == "beyond an array of a workspace") {
    const latentjac::cpu::Workspace workspace(1, 400);
    latentjac::cpu::Scratch scratch = workspace.scratch();
    volatile char* const first = scratch.take<char>(100 - one);
    volatile char* const second = scratch.take<char>(200);
    return first[100 - one] + second[0];
  }
  if (kind == "leak") return new int[4] != nullptr ? 0 : 1;
  if (kind == "overflow") return std::numeric_limits<int>::max() + one;
  if (kind == "alignment") {
    const auto* at = reinterpret_cast<const float*>(reinterpret_cast<const char*>(memory.at()) + one);
    return static_cast<int>(*at);
  }
  if (kind == "race") {
    std::thread other([&] { memory.at()[0] += 1.0f; });
    memory.at()[0] += 1.0f;
    other.join();
    return 0;
  }
  fail("unknown fault " + kind);
}

}  // namespace checks
