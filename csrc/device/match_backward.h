// The gradient of match.h for one side; that of the other side is the same with the sides swapped.
#pragma once

#include "device/match.h"

namespace mafsar {
namespace MAFSAR_ISA {

// Turns the gradients of the distances into the factors of the other side's vectors, in place, and
// sums the part along the own vectors over the pairs of a frame.
template <class Threads>
MAFSAR_HD void make_factors(const Threads& on, const MatchJob& job, const MatchTile& tile,
                            int left_count, int right_count, const float* cells, float* gradients,
                            const float* norms, float* along) {
  const int frames = job.rows.frames, across = job.columns.frames;
  for (int l = on.thread(); l < left_count * frames; l += kMatchThreads) {
    const int video = l / frames;
    float sum = 0.0f;
    for (int other = 0; other < right_count; ++other) {
      const int pair = video * tile.columns + other;
      const int first = pair * tile.pitch.cells + (l - video * frames) * across;
      for (int m = 0; m < across; ++m) {
        const float g = gradients[first + m];
        sum = lane_fma(g, 1.0f - cells[first + m], sum);
        gradients[first + m] = -g * norms[l] * norms[kSide + other * across + m];
      }
    }
    along[l] += sum;
  }
}

// Adds the factors times the other side's vectors to the gradients of the own side, 32 columns at a
// time.
template <class Threads>
MAFSAR_HD void add_vectors(const Threads& on, const MatchJob& job, const MatchTile& tile,
                           const TileSide& left, const TileSide& right, const float* factors,
                           float* chunk, bool first, float* out) {
  const int frames = job.rows.frames, across = job.columns.frames;
  const int e = on.thread() % kDepth;
  for (int start = 0; start < job.width; start += kDepth) {
    load_columns(on, right, start, job.width, chunk);
    on.sync();
    for (int l = on.thread() / kDepth; l < left.frames() && start + e < job.width;
         l += kMatchThreads / kDepth) {
      const int video = l / frames;
      float sum = 0.0f;
      for (int other = 0; other < right.count; ++other) {
        const int pair = video * tile.columns + other;
        const float* factor = factors + pair * tile.pitch.cells + (l - video * frames) * across;
        const float* vectors = chunk + other * across * kDepthPitch + e;
        for (int m = 0; m < across; ++m) {
          sum = lane_fma(factor[m], vectors[m * kDepthPitch], sum);
        }
      }
      float* to = out + l * static_cast<std::int64_t>(job.width) + start + e;
      *to = first ? sum : *to + sum;
    }
    on.sync();
  }
}

template <class Threads>
MAFSAR_HD void match_backward_body(const Threads& on, const MatchJob& job) {
  const MatchTile tile = MatchTile::of(job, true);
  float* in_turns = static_cast<float*>(on.shared());
  float* norms = in_turns + tile.in_turns(true);
  float* along = norms + 2 * kSide;
  float* cells = along + kSide;
  float* gradients = cells + tile.pairs() * tile.pitch.cells;
  float* tables = in_turns + tile.pairs() * tile.pitch.row;
  const BlockPlace place = BlockPlace::of(job, tile, on.block_x());
  const TileSide left = tile_side(job.rows, place.episode, place.row, tile.rows, job.width);
  const std::int64_t walk = parts_of(job.columns.videos, tile.columns);
  const std::int64_t begin = walk * on.block_y() / job.slices;
  const std::int64_t end = walk * (on.block_y() + 1) / job.slices;
  const std::int64_t slice = job.batch * job.rows.videos * job.rows.frames * job.width;
  float* out = job.out + on.block_y() * slice + left.first * job.rows.frames * job.width;

  if (on.thread() < kSide) along[on.thread()] = 0.0f;
  for (std::int64_t step = begin; step < end; ++step) {
    const std::int64_t column = step * tile.columns;
    const TileSide right = tile_side(job.columns, place.episode, column, tile.columns, job.width);
    tile_distances(on, job, tile, left, right, in_turns, norms, cells);
    for (int i = on.thread(); i < tile.pairs() * tile.pitch.cells; i += kMatchThreads) {
      gradients[i] = 0.0f;
    }
    on.sync();
    const int pair = on.thread();
    const int l = pair / tile.columns, m = pair - l * tile.columns;
    if (l < left.count && m < right.count) {
      align_pair_backward(job.how, own_frames(job.rows.lengths, left.first + l, job.rows.frames),
                          own_frames(job.columns.lengths, right.first + m, job.columns.frames),
                          job.columns.frames,
                          job.grad[score_of(job, place.episode, place.row + l, column + m)],
                          cells + pair * tile.pitch.cells, in_turns + pair * tile.pitch.row,
                          tables + pair * tile.pitch.table, gradients + pair * tile.pitch.cells);
    }
    on.sync();
    make_factors(on, job, tile, left.count, right.count, cells, gradients, norms, along);
    on.sync();
    add_vectors(on, job, tile, left, right, gradients, in_turns, step == begin, out);
  }
  on.sync();
  // The part along the own vectors, 0 if the norm was clamped or there is no frame.
  for (int l = on.thread() / kDepth; l < left.frames(); l += kMatchThreads / kDepth) {
    const float* x = left.frame(l);
    const float norm = norms[l];
    for (int e = on.thread() % kDepth; e < job.width; e += kDepth) {
      float* to = out + l * static_cast<std::int64_t>(job.width) + e;
      if (begin == end) *to = 0.0f;
      if (x && begin < end && norm < 1e6f) *to = lane_fma(norm * norm * along[l], x[e], *to);
    }
  }
}

}  // namespace MAFSAR_ISA
}  // namespace mafsar
