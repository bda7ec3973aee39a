// A small pool of threads for the launchers, and scratch memory for each thread.
#pragma once

#include <cstddef>
#include <memory>

#include "mafsar/matching.h"

namespace mafsar {

// Calls function(context, task) for every task in [0, tasks), on the calling thread and on the
// helpers that are free. Returns when all tasks are done, and rethrows the first exception.
//
// If the pool is busy with another call, the tasks run on the calling thread alone. A forked child
// starts with its own pool.
void run_tasks(int tasks, void (*function)(void*, int), void* context);

template <class Function>
void parallel_for(int tasks, Function& function) {
  run_tasks(
      tasks, [](void* context, int task) { (*static_cast<Function*>(context))(task); }, &function);
}

// Memory aligned to 64 bytes. The thread keeps it for the next call unless it is large.
class Scratch {
 public:
  explicit Scratch(std::size_t floats);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  float* data() const { return data_; }

 private:
  struct Free {
    void operator()(void* memory) const;
  };
  float* data_;
  std::unique_ptr<void, Free> own_;
};

}  // namespace mafsar
