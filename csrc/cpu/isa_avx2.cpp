// Eight pairs at a time; compiled with -mavx2 -mfma and run only if the processor has both.
#define MAFSAR_ISA avx2
#include "cpu/videos_kernels.h"

namespace mafsar {

const Kernels& kernels_avx2() {
  static const Kernels table = avx2::make_kernels("avx2");
  return table;
}

}  // namespace mafsar
