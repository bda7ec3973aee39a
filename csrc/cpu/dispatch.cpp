// Chooses the instruction set in use: the best one that the processor reports, unless use_isa asked
// for another.
#include <atomic>
#include <cstring>

#include "cpu/kernels.h"

namespace mafsar {
namespace {

#if defined(MAFSAR_X86_64)
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}
#endif

const Kernels* named(const char* name) {
#if defined(MAFSAR_X86_64)
  if (has_avx512() && std::strcmp(name, "avx512") == 0) return &kernels_avx512();
  if (has_avx2() && std::strcmp(name, "avx2") == 0) return &kernels_avx2();
#endif
  return std::strcmp(name, kernels_baseline().name) == 0 ? &kernels_baseline() : nullptr;
}

const Kernels* best() {
#if defined(MAFSAR_X86_64)
  if (has_avx512()) return &kernels_avx512();
  if (has_avx2()) return &kernels_avx2();
#endif
  return &kernels_baseline();
}

std::atomic<const Kernels*>& chosen() {
  static std::atomic<const Kernels*> table{best()};
  return table;
}

}  // namespace

const Kernels& kernels() { return *chosen().load(std::memory_order_relaxed); }

const char* isa() { return kernels().name; }

bool use_isa(const char* name) {
  const Kernels* table = named(name);
  if (!table) return false;
  chosen().store(table);
  return true;
}

}  // namespace mafsar
