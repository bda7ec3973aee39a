// A persistent pool, because starting a thread costs more than most calls.
//
// Idle threads look for work for a few microseconds, then sleep. The calling thread works from the
// start, so a helper that wakes late costs nothing. Threads take tasks one by one from a counter.
#include "cpu/threads.h"

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "mafsar/matching.h"

namespace mafsar {
namespace {

constexpr int kSpins = 2000;
constexpr std::size_t kKeptFloats = std::size_t{1} << 21;  // 8 MiB a thread

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

int usable_processors() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  const unsigned count = std::thread::hardware_concurrency();
  return count ? static_cast<int>(count) : 1;
}

std::atomic<int>& thread_limit() {
  static std::atomic<int> limit{usable_processors()};
  return limit;
}

// The tasks of one call. The object is on the caller's stack until no helper uses it.
struct Job {
  Job(void (*call)(void*, int), void* with, int count)
      : function(call), context(with), tasks(count) {}

  void (*function)(void*, int);
  void* context;
  int tasks;
  std::atomic<int> next{0};
  std::mutex mutex;
  std::exception_ptr error;

  void work() {
    for (int task = next.fetch_add(1); task < tasks; task = next.fetch_add(1)) {
      try {
        function(context, task);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex);
        if (!error) error = std::current_exception();
      }
    }
  }
};

std::atomic<Team> the_team{nullptr};

class Pool {
 public:
  // False if another call is using the pool.
  bool try_run(Job& job, int helpers) {
    const std::unique_lock<std::mutex> busy(busy_, std::try_to_lock);
    if (!busy.owns_lock()) return false;
    if (const Team team = the_team.load(std::memory_order_acquire)) {
      // Always the same number, even if there are fewer tasks: a team that changes its size starts
      // and ends threads.
      team([](void* with) { static_cast<Job*>(with)->work(); }, &job,
           static_cast<unsigned>(get_num_threads()), 0);
      return true;
    }
    while (static_cast<int>(threads_.size()) < helpers) {
      threads_.emplace_back([this] { serve(); });
    }
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      job_ = &job;
      wanted_ = helpers;
      posted_.fetch_add(1, std::memory_order_release);
    }
    if (helpers == 1) {
      wake_.notify_one();
    } else {
      wake_.notify_all();
    }
    job.work();
    {
      // No helper joins after this; those inside must finish before the job is destroyed.
      const std::lock_guard<std::mutex> lock(mutex_);
      job_ = nullptr;
    }
    while (inside_.load(std::memory_order_acquire) != 0) relax();
    return true;
  }

 private:
  void serve() {
    std::uint64_t seen = 0;
    for (;;) {
      for (int spin = 0; spin < kSpins; ++spin) {
        if (posted_.load(std::memory_order_acquire) != seen) break;
        relax();
      }
      Job* job = nullptr;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return posted_.load(std::memory_order_relaxed) != seen; });
        seen = posted_.load(std::memory_order_relaxed);
        if (job_ && wanted_ > 0) {
          --wanted_;
          job = job_;
          inside_.fetch_add(1, std::memory_order_relaxed);
        }
      }
      if (job) {
        job->work();
        inside_.fetch_sub(1, std::memory_order_release);
      }
    }
  }

  std::mutex busy_, mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> threads_;
  std::atomic<std::uint64_t> posted_{0};
  std::atomic<int> inside_{0};
  Job* job_ = nullptr;
  int wanted_ = 0;
};

// Never destroyed, because its threads sleep in it until the process ends.
std::atomic<Pool*> the_pool{nullptr};

// A forked child has none of these threads, nor those of the team: it ignores both and creates a
// pool of its own.
void forget_at_fork() {
  static std::once_flag once;
  std::call_once(once, [] {
    pthread_atfork(nullptr, nullptr, [] {
      the_pool.store(nullptr);
      the_team.store(nullptr);
    });
  });
}

Pool& pool() {
  Pool* current = the_pool.load(std::memory_order_acquire);
  if (current) return *current;
  forget_at_fork();
  Pool* made = new Pool;
  if (the_pool.compare_exchange_strong(current, made)) return *made;
  delete made;  // another thread was faster; no thread was started in this pool
  return *current;
}

struct Kept {
  void* memory = nullptr;
  std::size_t floats = 0;
  bool taken = false;
  ~Kept() { ::operator delete(memory, std::align_val_t{64}); }
};

thread_local Kept kept;

void* allocate(std::size_t floats) {
  return ::operator new(floats * sizeof(float), std::align_val_t{64});
}

}  // namespace

void run_tasks(int tasks, void (*function)(void*, int), void* context) {
  if (tasks <= 0) return;
  Job job(function, context, tasks);
  const int limit = get_num_threads();
  const int helpers = (tasks < limit ? tasks : limit) - 1;
  if (helpers < 1 || !pool().try_run(job, helpers)) job.work();
  if (job.error) std::rethrow_exception(job.error);
}

void set_num_threads(int count) { thread_limit().store(count < 1 ? 1 : count); }

int get_num_threads() { return thread_limit().load(std::memory_order_relaxed); }

void use_team(Team team) {
  forget_at_fork();
  the_team.store(team, std::memory_order_release);
}

Scratch::Scratch(std::size_t floats) : data_(nullptr) {
  if (kept.taken || floats > kKeptFloats) {
    own_.reset(allocate(floats));
    data_ = static_cast<float*>(own_.get());
    return;
  }
  if (kept.floats < floats) {
    ::operator delete(kept.memory, std::align_val_t{64});
    kept.memory = nullptr;
    kept.floats = 0;
    kept.memory = allocate(floats);
    kept.floats = floats;
  }
  kept.taken = true;
  data_ = static_cast<float*>(kept.memory);
}

Scratch::~Scratch() {
  if (!own_) kept.taken = false;
}

void Scratch::Free::operator()(void* memory) const {
  ::operator delete(memory, std::align_val_t{64});
}

}  // namespace mafsar
