// OpenMP as far as the kernels use it (GCC's calls for it), made of std::thread.
//
// ThreadSanitizer does not see how GCC's own library synchronizes, and would report what is none. Every wait here is
// one that it sees, so what it reports are races of the kernels. Linked in place of the library, for that sanitizer
// alone.
#include <omp.h>

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace {

// A team, and the loop that its members share: there is one at a time, as each ends with a barrier or the team.
struct Team {
  explicit Team(int members) : size(members) {}
  const int size;
  std::mutex mutex;
  std::condition_variable all_here;
  int waiting = 0;
  long barriers = 0;
  bool in_loop = false;
  int left_loop = 0;
  long next = 0, end = 0, step = 1, chunk = 1;

  void barrier() {
    std::unique_lock<std::mutex> lock(mutex);
    const long mine = barriers;
    if (++waiting == size) {
      waiting = 0;
      ++barriers;
      all_here.notify_all();
    } else {
      all_here.wait(lock, [&] { return barriers != mine; });
    }
  }

  void enter(long from, long to, long by, long at_once) {
    const std::lock_guard<std::mutex> lock(mutex);
    if (in_loop) return;
    in_loop = true;
    left_loop = 0;
    next = from;
    end = to;
    step = by;
    chunk = at_once;
  }

  bool take(long* from, long* to) {
    const std::lock_guard<std::mutex> lock(mutex);
    if (next >= end) return false;
    *from = next;
    next += step * chunk;
    *to = next < end ? next : end;
    return true;
  }

  void leave() {
    const std::lock_guard<std::mutex> lock(mutex);
    if (++left_loop == size) in_loop = false;
  }
};

thread_local Team* team = nullptr;
thread_local int number = 0;

}  // namespace

extern "C" {

void GOMP_parallel(void (*work)(void*), void* data, unsigned threads, unsigned) {
  Team here(threads ? static_cast<int>(threads) : 1);
  Team* const outer = team;
  const int outer_number = number;
  const auto member = [&](int i) {
    team = &here;
    number = i;
    work(data);
  };
  std::vector<std::thread> others;
  for (int i = 1; i < here.size; ++i) others.emplace_back(member, i);
  member(0);
  for (std::thread& other : others) other.join();
  team = outer;
  number = outer_number;
}

bool GOMP_loop_nonmonotonic_dynamic_start(long from, long to, long step, long chunk, long* first, long* last) {
  team->enter(from, to, step, chunk);
  return team->take(first, last);
}

bool GOMP_loop_nonmonotonic_dynamic_next(long* first, long* last) {
  return team->take(first, last);
}

void GOMP_loop_end_nowait() {
  team->leave();
}

void GOMP_loop_end() {
  team->leave();
  team->barrier();
}

void GOMP_barrier() {
  team->barrier();
}

int omp_get_thread_num() {
  return number;
}

int omp_get_num_threads() {
  return team ? team->size : 1;
}

int omp_get_max_threads() {
  return 2;
}
}
