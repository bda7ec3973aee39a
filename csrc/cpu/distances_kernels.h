// Alignment of pairs whose distances are given: load a tile, align it, store the results.
//
// Memory traffic: the distances are read once (and their gradients written once); everything else
// stays in the tile. Whole tiles are transposed in registers, kWidth cells of kWidth pairs at a
// time.
#pragma once

#include "cpu/align_tile.h"

namespace mafsar {
namespace MAFSAR_ISA {

inline std::int64_t pair_at(const Stretch& stretch, std::int64_t i) {
  return stretch.order ? stretch.order[stretch.begin + i] : stretch.begin + i;
}

// The pairs of one tile. If fewer pairs are left than the tile holds, the last pair is repeated.
template <class Lane>
struct TilePairs {
  static constexpr int kPairs = LaneOf<Lane>::kPairs;
  std::int64_t index[kPairs];
  int count;

  TilePairs(const Stretch& stretch, std::int64_t start) {
    const std::int64_t left = stretch.count - start;
    count = left < kPairs ? static_cast<int>(left) : kPairs;
    for (int k = 0; k < kPairs; ++k) {
      index[k] = pair_at(stretch, start + (k < count ? k : count - 1));
    }
  }
  Lane gather(const float* from) const {
    float all[kPairs];
    for (int k = 0; k < kPairs; ++k) all[k] = from[index[k]];
    return LaneOf<Lane>::load(all);
  }
  void scatter(Lane values, float* to) const {
    float all[kPairs];
    LaneOf<Lane>::store(values, all);
    for (int k = 0; k < count; ++k) to[index[k]] = all[k];
  }
};

// Calls work(start, pairs) for tiles that cover the stretch: two vectors of pairs each, or one at
// the end.
template <class Work>
void for_tiles(const Stretch& stretch, const Work& work) {
  std::int64_t start = 0;
  for (; stretch.count - start > kWidth; start += kMostPairs) {
    work(TilePairs<Both<Pack>>(stretch, start), Both<Pack>());
  }
  if (start < stretch.count) work(TilePairs<Pack>(stretch, start), Pack());
}

// True if the cells of a pair are contiguous, so that they can be moved in whole vectors.
inline bool contiguous(const PairsOfDistances& job, const Stretch& stretch) {
  return stretch.columns == job.columns;
}

template <class Lane>
void read_tile(const PairsOfDistances& job, const Stretch& stretch, const TilePairs<Lane>& pairs,
               float* tile) {
  constexpr int kPairs = LaneOf<Lane>::kPairs;
  const std::int64_t stored = static_cast<std::int64_t>(job.rows) * job.columns;
  const int cells = stretch.rows * stretch.columns;
  int moved = 0;
  if (contiguous(job, stretch)) {
    for (; moved + kWidth <= cells; moved += kWidth) {
      for (int group = 0; group < kPairs; group += kWidth) {
        Pack square[kWidth];
#pragma GCC unroll 16
        for (int k = 0; k < kWidth; ++k) {
          square[k] = Pack::load(job.distances + pairs.index[group + k] * stored + moved);
        }
        transpose(square);
        float* to = tile + static_cast<std::ptrdiff_t>(moved) * kPairs + group;
#pragma GCC unroll 16
        for (int k = 0; k < kWidth; ++k) square[k].store(to + k * kPairs);
      }
    }
  }
  for (int k = 0; k < kPairs && moved < cells; ++k) {
    const float* from = job.distances + pairs.index[k] * stored;
    for (int cell = moved; cell < cells; ++cell) {
      const int l = cell / stretch.columns;
      tile[static_cast<std::ptrdiff_t>(cell) * kPairs + k] =
          from[l * job.columns + cell - l * stretch.columns];
    }
  }
}

template <class Lane>
void write_tile(const PairsOfDistances& job, const Stretch& stretch, const TilePairs<Lane>& pairs,
                const float* tile) {
  constexpr int kPairs = LaneOf<Lane>::kPairs;
  const std::int64_t stored = static_cast<std::int64_t>(job.rows) * job.columns;
  const int cells = stretch.rows * stretch.columns;
  int moved = 0;
  if (contiguous(job, stretch)) {
    for (; moved + kWidth <= cells; moved += kWidth) {
      for (int group = 0; group < pairs.count; group += kWidth) {
        Pack square[kWidth];
        const float* from = tile + static_cast<std::ptrdiff_t>(moved) * kPairs + group;
#pragma GCC unroll 16
        for (int k = 0; k < kWidth; ++k) square[k] = Pack::load(from + k * kPairs);
        transpose(square);
        // Unused places of the tile repeat the last pair: they write the same values again.
#pragma GCC unroll 16
        for (int k = 0; k < kWidth; ++k) {
          square[k].store(job.out + pairs.index[group + k] * stored + moved);
        }
      }
    }
  }
  for (int k = 0; k < pairs.count && moved < cells; ++k) {
    float* to = job.out + pairs.index[k] * stored;
    for (int cell = moved; cell < cells; ++cell) {
      const int l = cell / stretch.columns;
      to[l * job.columns + cell - l * stretch.columns] =
          tile[static_cast<std::ptrdiff_t>(cell) * kPairs + k];
    }
  }
}

inline void distances_forward(const PairsOfDistances& job, const Alignment& how,
                              const Stretch& stretch, float* scratch) {
  const TileScratch tile = TileScratch::carve(scratch, stretch.rows, stretch.columns);
  for_tiles(stretch, [&](const auto& pairs, auto lane) {
    using Lane = decltype(lane);
    read_tile<Lane>(job, stretch, pairs, tile.distances);
    pairs.scatter(align_forward<Lane>(how, stretch.rows, stretch.columns, tile), job.out);
  });
}

// Cells outside a pair's own frames are not written: the launcher sets them to zero.
inline void distances_backward(const PairsOfDistances& job, const Alignment& how,
                               const Stretch& stretch, float* scratch) {
  const TileScratch tile = TileScratch::carve(scratch, stretch.rows, stretch.columns);
  for_tiles(stretch, [&](const auto& pairs, auto lane) {
    using Lane = decltype(lane);
    read_tile<Lane>(job, stretch, pairs, tile.distances);
    align_backward<Lane>(how, stretch.rows, stretch.columns, pairs.gather(job.grad), tile);
    write_tile<Lane>(job, stretch, pairs, tile.gradients);
  });
}

}  // namespace MAFSAR_ISA
}  // namespace mafsar
