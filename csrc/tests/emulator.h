// The threads of a GPU block as fibers on a CPU, to run the kernel bodies of csrc/device in tests.
//
// Each thread runs until it reaches a barrier, then the next thread runs; a barrier opens when all
// threads have reached it. `order` is the order of the threads: if the result of a body depends on
// it, a barrier is missing. It is an error if a thread ends while others wait, or waits at another
// barrier than its warp. Shared memory is filled with NaN at the start and ends at a protected
// page.
//
// A copy to shared memory happens as late as it may, in the wait for its group, or at once in the
// order `kBackward`: a result that depends on it shows a missing wait, or memory that is filled
// again while it is read. What nothing waits for is not copied.
#pragma once

#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cassert>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <stdexcept>
#include <vector>

#include "device/team.h"

namespace mafsar {

// Memory that is followed by a protected page: reading or writing after its end ends the process.
class GuardedMemory {
 public:
  explicit GuardedMemory(std::size_t bytes) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t rounded = (bytes + 15) / 16 * 16;
    whole_ = (rounded + page - 1) / page * page + page;
    base_ = static_cast<char*>(
        mmap(nullptr, whole_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (base_ == MAP_FAILED) throw std::runtime_error("no memory");
    mprotect(base_ + whole_ - page, page, PROT_NONE);
    data_ = base_ + whole_ - page - rounded;
    size_ = rounded;
  }
  ~GuardedMemory() { munmap(base_, whole_); }
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;
  void* data() const { return data_; }
  void poison() { std::memset(data_, 0xff, size_); }

 private:
  char *base_, *data_;
  std::size_t whole_, size_;
};

enum class Order { kForward = 0, kBackward = 1, kOddFirst = 2 };

class BlockOfFibers {
 public:
  BlockOfFibers(portable::Launch launch, Order order)
      : launch_(launch), order_(order), shared_(launch.shared_bytes), fibers_(launch.threads) {
    for (Fiber& fiber : fibers_) fiber.stack.reset(new char[kStack]);
    slots_.resize(fibers_.size());
    copies_.resize(fibers_.size());
  }

  // body(thread) for every thread of block (x, y).
  void run(std::int64_t x, std::int64_t y, const std::function<void(int)>& body) {
    x_ = x;
    y_ = y;
    body_ = &body;
    shared_.poison();
    for (Copies& of_thread : copies_) of_thread = Copies();
    for (int i = 0; i < threads(); ++i) start(i);
    int left = threads();
    while (left > 0) {
      bool moved = false;
      for (int turn = 0; turn < threads(); ++turn) {
        const int i = in_turn(turn);
        if (fibers_[i].state != State::kReady) continue;
        moved = true;
        current_ = i;
        swapcontext(&scheduler_, &fibers_[i].context);
        if (fibers_[i].state == State::kDone) --left;
      }
      if (!moved && !open_barriers())
        throw std::runtime_error("threads wait at different barriers");
    }
  }

  int threads() const { return static_cast<int>(fibers_.size()); }
  int current() const { return current_; }
  std::int64_t x() const { return x_; }
  std::int64_t y() const { return y_; }
  void* shared() const { return shared_.data(); }

  void sync() { wait(State::kAtBlock); }
  void sync_warp() { wait(State::kAtWarp); }
  float sum_warp(float value) {
    const int lane = current_ % portable::kWarp, first = current_ - lane;
    slots_[current_] = value;
    sync_warp();
    float all[portable::kWarp], next[portable::kWarp];
    std::memcpy(all, slots_.data() + first, sizeof all);
    for (int mask = portable::kWarp / 2; mask > 0; mask /= 2) {
      for (int i = 0; i < portable::kWarp; ++i) next[i] = all[i] + all[i ^ mask];
      std::memcpy(all, next, sizeof all);
    }
    sync_warp();
    return all[lane];
  }

  void copy16(void* to, const void* from, bool inside) {
    assert((reinterpret_cast<std::uintptr_t>(to) | reinterpret_cast<std::uintptr_t>(from)) % 16 ==
           0);
    const Copy copy{to, inside ? from : nullptr};
    if (order_ == Order::kBackward) {
      copy.make();
    } else {
      copies_[current_].open.push_back(copy);
    }
  }
  void commit() {
    Copies& own = copies_[current_];
    own.groups.push_back(std::move(own.open));
    own.open.clear();
  }
  void wait_for_copies(std::size_t later) {
    for (auto& groups = copies_[current_].groups; groups.size() > later; groups.pop_front()) {
      for (const Copy& copy : groups.front()) copy.make();
    }
  }

 private:
  struct Copy {
    void* to;
    const void* from;
    void make() const { from ? std::memcpy(to, from, 16) : std::memset(to, 0, 16); }
  };
  struct Copies {
    std::vector<Copy> open;
    std::deque<std::vector<Copy>> groups;
  };

  static constexpr std::size_t kStack = 128 * 1024;
  enum class State { kReady, kAtBlock, kAtWarp, kDone };
  struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    State state = State::kDone;
  };

  int in_turn(int turn) const {
    if (order_ == Order::kForward) return turn;
    if (order_ == Order::kBackward) return threads() - 1 - turn;
    const int odd = threads() / 2;
    return turn < odd ? 2 * turn + 1 : 2 * (turn - odd);
  }

  static void enter(unsigned high, unsigned low) {
    const auto address = static_cast<std::uintptr_t>(high) << 32 | low;
    auto* self = reinterpret_cast<BlockOfFibers*>(address);
    const int thread = self->current_;
    (*self->body_)(thread);
    self->fibers_[thread].state = State::kDone;
    swapcontext(&self->fibers_[thread].context, &self->scheduler_);
  }

  void start(int i) {
    Fiber& fiber = fibers_[i];
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    fiber.state = State::kReady;
    const auto address = reinterpret_cast<std::uintptr_t>(this);
    makecontext(&fiber.context, reinterpret_cast<void (*)()>(enter), 2,
                static_cast<unsigned>(address >> 32), static_cast<unsigned>(address));
  }

  void wait(State at) {
    Fiber& fiber = fibers_[current_];
    fiber.state = at;
    swapcontext(&fiber.context, &scheduler_);
  }

  bool all_at(int first, int count, State state) const {
    for (int i = first; i < first + count; ++i) {
      if (fibers_[i].state != state) return false;
    }
    return true;
  }

  void release(int first, int count) {
    for (int i = first; i < first + count; ++i) fibers_[i].state = State::kReady;
  }

  bool open_barriers() {
    bool opened = false;
    for (int first = 0; first < threads(); first += portable::kWarp) {
      if (!all_at(first, portable::kWarp, State::kAtWarp)) continue;
      release(first, portable::kWarp);
      opened = true;
    }
    if (!opened && all_at(0, threads(), State::kAtBlock)) {
      release(0, threads());
      opened = true;
    }
    return opened;
  }

  portable::Launch launch_;
  Order order_;
  GuardedMemory shared_;
  std::vector<Fiber> fibers_;
  std::vector<float> slots_;
  std::vector<Copies> copies_;
  ucontext_t scheduler_;
  const std::function<void(int)>* body_ = nullptr;
  int current_ = 0;
  std::int64_t x_ = 0, y_ = 0;
};

// A thread as a kernel body sees it.
struct FiberThread {
  BlockOfFibers* block;
  int number;
  int thread() const { return number; }
  int threads() const { return block->threads(); }
  std::int64_t block_x() const { return block->x(); }
  std::int64_t block_y() const { return block->y(); }
  void* shared() const { return block->shared(); }
  void sync() const { block->sync(); }
  void sync_warp() const { block->sync_warp(); }
  float sum_warp(float value) const { return block->sum_warp(value); }
  void copy16(void* to, const void* from, bool inside) const { block->copy16(to, from, inside); }
  void commit() const { block->commit(); }
  template <int kLater>
  void wait() const {
    block->wait_for_copies(kLater);
  }
};

template <class Body>
void emulate(portable::Launch launch, Order order, const Body& body) {
  BlockOfFibers block(launch, order);
  for (std::int64_t y = 0; y < launch.blocks_y; ++y) {
    for (std::int64_t x = 0; x < launch.blocks_x; ++x) {
      block.run(x, y, [&](int thread) { body(FiberThread{&block, thread}); });
    }
  }
}

}  // namespace mafsar
