// Work that is done once for each kernel and device, whichever thread comes first.
#pragma once

#include <mutex>
#include <set>
#include <utility>

namespace mafsar {

class OncePerDevice {
 public:
  // Calls work() unless it was done for this kernel and device; the others wait until it is. What
  // throws counts as not done.
  template <class Work>
  void run(const void* kernel, int device, const Work& work) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const std::pair<const void*, int> key(kernel, device);
    if (done_.count(key) != 0) return;
    work();
    done_.insert(key);
  }

 private:
  std::mutex mutex_;
  std::set<std::pair<const void*, int>> done_;
};

}  // namespace mafsar
