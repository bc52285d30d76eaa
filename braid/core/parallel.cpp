#include "braid/core/parallel.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#ifdef BRAID_STD_THREADS
#include <thread>
#include <vector>
#else
#include <omp.h>
#endif

namespace braid {
namespace {

#ifdef BRAID_STD_THREADS
// More than one thread is at least as many as this, or a range would share its thread with the one
// after the next.
constexpr int kFewest = 4;

// This backend has no OpenMP; libraries that do read OMP_NUM_THREADS (which ctest sets to 1).
int library_threads() { return 1; }
void set_library_threads(int) {}
#else
constexpr int kFewest = 1;
int library_threads() { return omp_get_max_threads(); }
void set_library_threads(int n) { omp_set_num_threads(n); }
#endif

// Set while this thread runs a range, so that nested calls and the libraries below stay serial.
thread_local bool inside_range = false;

// While it lives, oneDNN and other OpenMP code called by this thread stays on it. (A region of one
// thread is not an "active" one: without this a product in it would run on all cores, and sum in
// another order than with -t 2.)
class SerialLibraries {
 public:
  SerialLibraries() : saved_(library_threads()) { set_library_threads(1); }
  ~SerialLibraries() { set_library_threads(saved_); }
  SerialLibraries(const SerialLibraries&) = delete;
  SerialLibraries& operator=(const SerialLibraries&) = delete;

 private:
  int saved_;
};

class FirstException {
 public:
  void keep() {
    const std::lock_guard lock(mutex_);
    if (!first_) first_ = std::current_exception();
  }
  void rethrow() const {
    if (first_) std::rethrow_exception(first_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr first_;
};

#ifdef BRAID_STD_THREADS
// This backend is there to find races: neighbouring ranges run on different threads, and no thread
// takes another's, or the first would be through a small loop before the others have begun.
class Shares {
 public:
  Shares(int64_t ranges, int threads) : ranges_(ranges), threads_(threads) {}
  template <typename Body>
  void run(int thread, Body&& body) {
    for (int64_t r = thread; r < ranges_ && !stopped_; r += threads_) body(r);
  }
  void stop() { stopped_ = true; }

 private:
  int64_t ranges_;
  int threads_;
  std::atomic<bool> stopped_{false};
};
#else
// Every thread first takes the ranges of a share of its own, one behind the other: a thread that
// reads memory then reads one stream, where the machine fetches ahead (taken in turn, a range of
// 300 KB costs 2 us more). A thread that is done helps the others.
class Shares {
 public:
  Shares(int64_t ranges, int threads) : count_(std::min(threads, kMost)) {
    for (int s = 0; s < count_; ++s) {
      shares_[s].next.store(ranges * s / count_, std::memory_order_relaxed);
      shares_[s].end = ranges * (s + 1) / count_;
    }
  }
  template <typename Body>
  void run(int thread, Body&& body) {
    for (int i = 0; i < count_; ++i) {
      Share& s = shares_[(thread + i) % count_];
      for (int64_t r; (r = s.next.fetch_add(1, std::memory_order_relaxed)) < s.end;) body(r);
    }
  }
  void stop() {
    for (int s = 0; s < count_; ++s)
      shares_[s].next.store(shares_[s].end, std::memory_order_relaxed);
  }

 private:
  static constexpr int kMost = 64;  // more threads share shares
  struct alignas(64) Share {
    std::atomic<int64_t> next;
    int64_t end;
  };
  int count_;
  Share shares_[kMost];
};
#endif

}  // namespace

int machine_threads() {
  static const int n = [] {
    cpu_set_t set;
    CPU_ZERO(&set);
    return sched_getaffinity(0, sizeof set, &set) == 0 ? std::max(1, CPU_COUNT(&set)) : 1;
  }();
  return n;
}

int effective_threads(const Context& c) {
  const int n = c.threads > 0 ? c.threads : machine_threads();
  return n > 1 ? std::max(n, kFewest) : n;
}

void give_threads_to_libraries(const Context& c) { set_library_threads(effective_threads(c)); }

void parallel_for(const Context& ctx, int64_t n, int64_t grain,
                  FunctionRef<void(int64_t begin, int64_t end)> body) {
  if (n <= 0 || ctx.dry()) return;
  const int64_t ranges = (n + grain - 1) / grain;
  const int threads = static_cast<int>(std::min<int64_t>(effective_threads(ctx), ranges));
  FirstException error;
  const bool serial = inside_range || threads == 1;
  Shares shares(ranges, serial ? 1 : threads);
  const auto work = [&](int thread) {
    const SerialLibraries libraries;
    const bool outer = inside_range;
    inside_range = true;
    try {
      shares.run(thread, [&](int64_t r) { body(r * grain, std::min(n, (r + 1) * grain)); });
    } catch (...) {
      error.keep();
      shares.stop();
    }
    inside_range = outer;
  };
  if (serial) {
    work(0);
    error.rethrow();
    return;
  }
#ifdef BRAID_STD_THREADS
  std::vector<std::thread> pool;
  for (int t = 1; t < threads; ++t) pool.emplace_back(work, t);
  work(0);
  for (std::thread& t : pool) t.join();
#else
#pragma omp parallel num_threads(threads)
  work(omp_get_thread_num());
#endif
  error.rethrow();
}

}  // namespace braid
