// Runs checks of the native kernels under a sanitizer: checks shapes|memory|threads COUNT SEED, or checks fault KIND.
//
//   shapes   problems of random, empty and large sizes, with one, two and three threads
//   memory   every allocation of every call fails once (memory.cpp)
//   threads  eight threads solve the same problems at once, each with two threads of its own
#include <atomic>
#include <thread>

#include "checks.h"

namespace checks {

void check_memory(const std::vector<Problem>& problems);
int run_fault(const std::string& kind, int one);

namespace {

std::vector<Problem> random_problems(uint64_t seed, int count, bool empty) {
  std::vector<Problem> problems;
  add_norms(problems, Random(seed), count, empty);
  add_gated(problems, Random(seed + 1), count, empty);
  add_attention(problems, Random(seed + 2), count, empty);
  add_rowwise(problems, Random(seed + 3), count, empty);
  return problems;
}

void check_shapes(uint64_t seed, int count) {
  std::vector<Problem> problems = random_problems(seed, count, false);
  const std::vector<Problem> empty = random_problems(seed + 10, count, true);
  problems.insert(problems.end(), empty.begin(), empty.end());
  add_large_attention(problems, Random(seed + 20));
  add_large(problems, Random(seed + 21));
  for (const Problem& problem : problems) {
    const Bits bits = problem.solve(1);
    for (const int threads : {2, 3})
      require(problem.solve(threads) == bits, "depends on the number of threads", problem.name);
  }
  std::printf("shapes: %zu problems\n", problems.size());
}

void check_threads(uint64_t seed, int count) {
  const std::vector<Problem> problems = random_problems(seed, count, false);
  std::vector<Bits> expected;
  for (const Problem& problem : problems) expected.push_back(problem.solve(1));
  std::atomic<int> ready{0};
  const auto work = [&](size_t first) {
    ++ready;
    while (ready < 8) std::this_thread::yield();
    for (size_t i = 0; i < problems.size(); ++i) {
      const size_t number = (i + first * problems.size() / 8) % problems.size();
      require(problems[number].solve(2) == expected[number], "depends on other calls", problems[number].name);
    }
  };
  std::vector<std::thread> workers;
  for (size_t i = 0; i < 8; ++i) workers.emplace_back(work, i);
  for (std::thread& worker : workers) worker.join();
  std::printf("threads: %zu problems, 8 at once\n", problems.size());
}

}  // namespace
}  // namespace checks

int main(int count, char** arguments) {
  if (count == 3 && arguments[1] == std::string("fault")) return checks::run_fault(arguments[2], count - 2);
  if (count != 4) checks::fail("usage: checks shapes|memory|threads COUNT SEED");
  const std::string what = arguments[1];
  const int problems = std::atoi(arguments[2]);
  const uint64_t seed = std::strtoull(arguments[3], nullptr, 10);
  if (what == "shapes") {
    checks::check_shapes(seed, problems);
  } else if (what == "memory") {
    checks::check_memory(checks::random_problems(seed, problems, false));
  } else if (what == "threads") {
    checks::check_threads(seed, problems);
  } else {
    checks::fail("unknown check " + what);
  }
  return 0;
}
