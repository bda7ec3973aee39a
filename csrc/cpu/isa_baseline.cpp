// The instruction set of every machine of this architecture: NEON on aarch64, SSE2 on x86-64.
#define MAFSAR_ISA baseline
#include "cpu/videos_kernels.h"

namespace mafsar {

#if defined(__aarch64__)
constexpr const char* kName = "neon";
#elif defined(MAFSAR_X86_64)
constexpr const char* kName = "sse2";
#else
constexpr const char* kName = "generic";
#endif

const Kernels& kernels_baseline() {
  static const Kernels table = baseline::make_kernels(kName);
  return table;
}

}  // namespace mafsar
