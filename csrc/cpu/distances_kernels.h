// Alignment of pairs whose distances are given: tile in, align, tile out.
//
// Memory traffic: the distances are read once (and their gradients written once); everything else
// stays in the tile.
#pragma once

#include "cpu/align_tile.h"

namespace mafsar {
namespace MAFSAR_ISA {

inline std::int64_t pair_at(const Stretch& stretch, std::int64_t i) {
  return stretch.order ? stretch.order[stretch.begin + i] : stretch.begin + i;
}

// Pairs of one tile; where fewer than kWidth are left, the last one fills the other elements.
struct TilePairs {
  std::int64_t index[kWidth];
  int count;

  TilePairs(const Stretch& stretch, std::int64_t start) {
    const std::int64_t left = stretch.count - start;
    count = left < kWidth ? static_cast<int>(left) : kWidth;
    for (int k = 0; k < kWidth; ++k) {
      index[k] = pair_at(stretch, start + (k < count ? k : count - 1));
    }
  }
};

inline void read_tile(const PairsOfDistances& job, const Stretch& stretch, const TilePairs& pairs,
                      float* tile) {
  const std::int64_t stored = static_cast<std::int64_t>(job.rows) * job.columns;
  for (int k = 0; k < kWidth; ++k) {
    const float* from = job.distances + pairs.index[k] * stored;
    float* to = tile + k;
    for (int l = 0; l < stretch.rows; ++l) {
      for (int m = 0; m < stretch.columns; ++m, to += kWidth) *to = from[l * job.columns + m];
    }
  }
}

inline void write_tile(const PairsOfDistances& job, const Stretch& stretch, const TilePairs& pairs,
                       const float* tile) {
  const std::int64_t stored = static_cast<std::int64_t>(job.rows) * job.columns;
  for (int k = 0; k < pairs.count; ++k) {
    const float* from = tile + k;
    float* to = job.out + pairs.index[k] * stored;
    for (int l = 0; l < stretch.rows; ++l) {
      for (int m = 0; m < stretch.columns; ++m, from += kWidth) to[l * job.columns + m] = *from;
    }
  }
}

inline Pack gather(const float* from, const TilePairs& pairs) {
  float all[kWidth];
  for (int k = 0; k < kWidth; ++k) all[k] = from[pairs.index[k]];
  return Pack::load(all);
}

inline void scatter(Pack values, const TilePairs& pairs, float* to) {
  float all[kWidth];
  values.store(all);
  for (int k = 0; k < pairs.count; ++k) to[pairs.index[k]] = all[k];
}

inline void distances_forward(const PairsOfDistances& job, const Alignment& how,
                              const Stretch& stretch, float* scratch) {
  const TileScratch tile = TileScratch::carve(scratch, stretch.rows, stretch.columns);
  for (std::int64_t start = 0; start < stretch.count; start += kWidth) {
    const TilePairs pairs(stretch, start);
    read_tile(job, stretch, pairs, tile.distances);
    scatter(align_forward(how, stretch.rows, stretch.columns, tile), pairs, job.out);
  }
}

// Cells outside a pair's own frames are left as they are: the driver zeroes them.
inline void distances_backward(const PairsOfDistances& job, const Alignment& how,
                               const Stretch& stretch, float* scratch) {
  const TileScratch tile = TileScratch::carve(scratch, stretch.rows, stretch.columns);
  for (std::int64_t start = 0; start < stretch.count; start += kWidth) {
    const TilePairs pairs(stretch, start);
    read_tile(job, stretch, pairs, tile.distances);
    align_backward(how, stretch.rows, stretch.columns, gather(job.grad, pairs), tile);
    write_tile(job, stretch, pairs, tile.gradients);
  }
}

}  // namespace MAFSAR_ISA
}  // namespace mafsar
