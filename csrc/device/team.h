// A warp as a team for csrc/mafsar/rows.h.
//
// Kernel bodies in this folder take the thread that they run on as an argument, `on`:
//
//   thread(), threads()   number of this thread in its block, threads in a block
//   block_x(), block_y()  number of the block
//   shared()              the block's shared memory
//   sync(), sync_warp()   barriers
//   sum_warp(x)           sum over the warp, in the same order everywhere
//   copy16(to, from, inside)  starts to copy 16 bytes to shared memory, or zeros if not `inside`
//   commit()              ends a group of copies of this thread; it may be empty
//   wait<N>()             waits until at most the newest N groups of this thread are under way
//
// A thread sees its own copies after wait(), the other threads' after a sync() that follows it.
//
// csrc/cuda/threads.h implements them on a GPU, csrc/tests/emulator.h with fibers on a CPU, so that
// the tests run these same bodies, barriers included, on machines without a GPU.
#pragma once

#include <cassert>

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

// Copies 16 bytes at once; both addresses are multiples of 16.
template <class Value>
MAFSAR_HD void load_vector(const Value* from, Value* values) {
#if defined(__CUDA_ARCH__)
  *reinterpret_cast<uint4*>(values) = *reinterpret_cast<const uint4*>(from);
#else
  assert((reinterpret_cast<std::uintptr_t>(from) | reinterpret_cast<std::uintptr_t>(values)) % 16 ==
         0);
  std::memcpy(values, from, 16);
#endif
}

// True if rows of this stride from here consist of aligned vectors of 16 bytes.
template <class Value>
MAFSAR_HD bool in_vectors(const Value* rows, std::int64_t stride) {
  return reinterpret_cast<std::uintptr_t>(rows) % 16 == 0 &&
         stride * static_cast<std::int64_t>(sizeof(Value)) % 16 == 0;
}

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
  // A product for each lane: sums over the warp would cost more than the reads that they share.
  template <class Value>
  MAFSAR_HD void dots(const Value* rows, std::int64_t row_stride, const Value* matrix,
                      std::int64_t stride, int count, int width, float scale, float* out) const {
    constexpr int kVector = 16 / static_cast<int>(sizeof(Value));
    const bool aligned = in_vectors(rows, row_stride) && in_vectors(matrix, stride);
    const int whole = aligned ? width / kVector * kVector : 0;
    for (int pair = rank(); pair < count * count; pair += kWarp) {
      const int i = pair / count;
      const Value* row = rows + i * row_stride;
      const Value* other = matrix + (pair - i * count) * stride;
      float partial[kVector] = {};
      for (int at = 0; at < whole; at += kVector) {
        alignas(16) Value left[kVector], right[kVector];
        load_vector(row + at, left);
        load_vector(other + at, right);
        for (int e = 0; e < kVector; ++e) {
          partial[e] = lane_fma(to_float(left[e]), to_float(right[e]), partial[e]);
        }
      }
      float total = 0.0f;
      for (int e = 0; e < kVector; ++e) total += partial[e];
      for (int at = whole; at < width; ++at) {
        total = lane_fma(to_float(row[at]), to_float(other[at]), total);
      }
      out[pair] = total * scale;
    }
  }
  MAFSAR_HD void sync() const { on.sync_warp(); }
};

}  // namespace MAFSAR_ISA
}  // namespace mafsar
