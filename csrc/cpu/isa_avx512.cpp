// Sixteen pairs at a time; compiled with -mavx512f and run only if the processor has it.
#define MAFSAR_ISA avx512
#include "cpu/videos_kernels.h"

namespace mafsar {

const Kernels& kernels_avx512() {
  static const Kernels table = avx512::make_kernels("avx512");
  return table;
}

}  // namespace mafsar
