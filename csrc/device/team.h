// A warp as a team for csrc/mafsar/rows.h.
//
// Kernel bodies in this folder take the thread that they run on as an argument, `on`:
//
//   thread(), threads()   number of this thread in its block, threads in a block
//   block_x(), block_y()  number of the block
//   shared()              the block's shared memory
//   sync(), sync_warp()   barriers
//   sum_warp(x)           sum over the warp, in the same order everywhere
//
// csrc/cuda/threads.h implements them on a GPU, csrc/tests/emulator.h with fibers on a CPU, so that
// the tests run these same bodies, barriers included, on machines without a GPU.
#pragma once

#include "mafsar/rows.h"
#include "mafsar/storage.h"

namespace mafsar {
namespace MAFSAR_ISA {

constexpr int kWarp = 32;

// How a kernel is started.
struct Launch {
  std::int64_t blocks_x, blocks_y;
  int threads;
  std::size_t shared_bytes;
};

template <class Threads>
struct WarpTeam {
  using Lane = float;
  const Threads& on;

  MAFSAR_HD int rank() const { return on.thread() % kWarp; }

  template <class Function>
  MAFSAR_HD void each_chunk(int width, const Function& function) const {
    for (int at = rank(); at < width; at += kWarp) function(at);
  }
  template <class Value>
  MAFSAR_HD float load(const Value* from, int at, int) const {
    return to_float(from[at]);
  }
  template <class Value>
  MAFSAR_HD void store(float lane, Value* to, int at, int) const {
    to[at] = from_float<Value>(lane);
  }
  MAFSAR_HD float keep(float lane, int, int) const { return lane; }
  MAFSAR_HD float sum(float lane) const { return on.sum_warp(lane); }

  template <class Function>
  MAFSAR_HD void each(int count, const Function& function) const {
    for (int i = rank(); i < count; i += kWarp) function(i);
  }
  template <class Value>
  MAFSAR_HD void dots(const Value* row, const Value* matrix, int count, std::int64_t stride,
                      int width, float scale, float* out) const {
    for (int j = 0; j < count; ++j) {
      const Value* other = matrix + j * stride;
      float partial = 0.0f;
      each_chunk(width, [&](int at) {
        partial = lane_fma(to_float(row[at]), to_float(other[at]), partial);
      });
      const float total = sum(partial) * scale;
      if (rank() == 0) out[j] = total;
    }
  }
  MAFSAR_HD void sync() const { on.sync_warp(); }
};

}  // namespace MAFSAR_ISA
}  // namespace mafsar
