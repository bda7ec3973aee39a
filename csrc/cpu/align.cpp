// Launchers of the ops on given distances: group the pairs by size, split the groups into pieces
// and distribute the pieces over threads.
#include <cstring>
#include <utility>

#include "cpu/kernels.h"
#include "cpu/stretches.h"
#include "cpu/threads.h"
#include "mafsar/matching.h"

namespace mafsar {
namespace {

// Below this number of cells (times three for a backward pass) a second thread costs more than it
// saves: about 25 µs of work.
constexpr std::int64_t kCellsForThreads = 24000;

void align(const PairsOfDistances& job, const std::int64_t* lengths, std::int64_t pairs,
           const Alignment& how, bool backward) {
  if (pairs == 0) return;
  const Kernels& isa = kernels();
  Stretches stretches;
  if (lengths) {
    stretches_by_size(
        pairs, [=](std::int64_t i) { return std::make_pair(lengths[2 * i], lengths[2 * i + 1]); },
        &stretches);
  } else {
    one_stretch(pairs, job.rows, job.columns, &stretches);
  }
  const std::int64_t cells = pairs * job.rows * job.columns * (backward ? 3 : 1);
  const int threads = cells < kCellsForThreads ? 1 : get_num_threads();
  // Whole tiles and several pieces per thread, so that a thread that wakes late still finds work.
  std::int64_t piece = (pairs + 4 * threads - 1) / (4 * threads);
  piece = threads == 1 ? pairs : (piece + isa.width - 1) / isa.width * isa.width;
  std::vector<Stretch> pieces;
  for (const Stretch& whole : stretches.list) {
    for (std::int64_t start = 0; start < whole.count; start += piece) {
      const std::int64_t count = std::min(piece, whole.count - start);
      pieces.push_back({whole.order, whole.begin + start, count, whole.rows, whole.columns});
    }
  }
  auto run = backward ? isa.distances_backward : isa.distances_forward;
  const std::size_t floats = isa.scratch_floats(job.rows, job.columns, backward);
  auto task = [&](int i) {
    const Scratch scratch(floats);
    run(job, how, pieces[static_cast<std::size_t>(i)], scratch.data());
  };
  const int count = static_cast<int>(pieces.size());
  if (threads == 1) {
    for (int i = 0; i < count; ++i) task(i);
  } else {
    parallel_for(count, task);
  }
}

}  // namespace

void align_cpu(const Alignment& how, const float* distances, const std::int64_t* lengths,
               DistanceSizes sizes, float* out) {
  align({distances, nullptr, out, sizes.rows, sizes.columns}, lengths, sizes.pairs, how, false);
}

void align_backward_cpu(const Alignment& how, const float* grad, const float* distances,
                        const std::int64_t* lengths, DistanceSizes sizes, float* out) {
  if (lengths) {
    const auto cells = static_cast<std::size_t>(sizes.pairs * sizes.rows * sizes.columns);
    std::memset(out, 0, sizeof(float) * cells);
  }
  align({distances, grad, out, sizes.rows, sizes.columns}, lengths, sizes.pairs, how, true);
}

}  // namespace mafsar
