// Alignment of videos given by their frame features, without a distance tensor in global memory.
//
// A block takes a few videos of each side, up to 64 frames per side. It moves the features through
// shared memory 32 columns at a time, and each thread computes 4 × 4 products and the squares of
// the norms. The cosine distances go straight to the pairs' places in shared memory, where align.h
// reads them.
//
// Backward, a block owns a few videos of one side and walks over the other side, so that no other
// block writes their gradients: no atomics, and the same bits every time. The kernel runs once for
// each side; distances and alignments are computed twice, which costs less than storing them. If a
// side has too few videos to fill the chip, the walk is split into slices, and the caller sums
// their results.
//
//   dL/dx_i = sum_j -g_ij r(x_i) r(y_j) y_j  +  r(x_i)^2 (sum_j g_ij cos_ij) x_i
#pragma once

#include "device/align.h"

namespace mafsar {
namespace MAFSAR_ISA {

constexpr int kSide = 64;  // most frames of a side in a tile
constexpr int kMatchThreads = 256;
constexpr int kDepth = 32;
constexpr int kDepthPitch = kDepth + 1;
constexpr int kMostVideos = 8;
constexpr int kOwnFrames = 32;  // most frames of the owned side in a backward tile

struct MatchSide {
  const float* features;        // (batch, videos, frames, width)
  const std::int64_t* lengths;  // (batch, videos) or null
  std::int64_t videos;
  int frames;
  std::int64_t stride;  // stride of the scores within an episode
};

struct MatchJob {
  MatchSide rows, columns;  // backward: the owned side and the side walked over
  std::int64_t batch;
  int width;
  Alignment how;
  const float* grad;  // (batch, queries, classes), backward only
  float* out;         // scores; backward (slices, batch, videos, frames, width) of the rows
  int slices;         // backward only
};

MAFSAR_HD int videos_in_tile(const MatchSide& side, int frames) {
  return smaller_of(larger_of(frames / side.frames, 1), kMostVideos);
}

struct MatchTile {
  int rows, columns;  // videos
  PairPitch pitch;

  static MAFSAR_HD MatchTile of(const MatchJob& job, bool backward) {
    return {videos_in_tile(job.rows, backward ? kOwnFrames : kSide),
            videos_in_tile(job.columns, kSide), PairPitch::of(job.rows.frames, job.columns.frames)};
  }
  MAFSAR_HD int pairs() const { return rows * columns; }
  // Shared memory in floats. Arrays that are never used at the same time share their memory.
  MAFSAR_HD int in_turns(bool backward) const {
    return larger_of(2 * kSide * kDepthPitch, pairs() * (pitch.row + (backward ? pitch.table : 0)));
  }
  MAFSAR_HD int floats(bool backward) const {
    return in_turns(backward) + 3 * kSide + pairs() * pitch.cells * (backward ? 2 : 1);
  }
};

inline Launch launch_of(const MatchJob& job, bool backward) {
  const MatchTile tile = MatchTile::of(job, backward);
  const std::int64_t across = backward ? job.slices : parts_of(job.columns.videos, tile.columns);
  return {job.batch * parts_of(job.rows.videos, tile.rows), across, kMatchThreads,
          sizeof(float) * static_cast<std::size_t>(tile.floats(backward))};
}

// The videos of one side in this block.
struct TileSide {
  const MatchSide* side;
  std::int64_t first;  // over all episodes
  int count;
  std::int64_t row_floats;

  MAFSAR_HD int frames() const { return count * side->frames; }
  // The features of a frame, or null for padding and outside the tile.
  MAFSAR_HD const float* frame(int at) const {
    const int video = at / side->frames;
    if (video >= count) return nullptr;
    const int own = own_frames(side->lengths, first + video, side->frames);
    if (at - video * side->frames >= own) return nullptr;
    return side->features + (first * side->frames + at) * row_floats;
  }
};

MAFSAR_HD TileSide tile_side(const MatchSide& side, std::int64_t episode, std::int64_t first,
                             int most, int width) {
  const std::int64_t left = side.videos - first;
  return {&side, episode * side.videos + first, left < most ? static_cast<int>(left) : most, width};
}

// Loads 32 columns of a side's frames; zeros outside.
template <class Threads>
MAFSAR_HD void load_columns(const Threads& on, const TileSide& side, int start, int width,
                            float* tile) {
  const int e = on.thread() % kDepth;
  for (int at = on.thread() / kDepth; at < kSide; at += kMatchThreads / kDepth) {
    const float* from = side.frame(at);
    tile[at * kDepthPitch + e] = from && start + e < width ? from[start + e] : 0.0f;
  }
}

// Writes the distances of all pairs of the tile to `cells`, the inverse norms of both sides to
// `norms`.
template <class Threads>
MAFSAR_HD void tile_distances(const Threads& on, const MatchJob& job, const MatchTile& tile,
                              const TileSide& left, const TileSide& right, float* chunks,
                              float* norms, float* cells) {
  float* left_chunk = chunks;
  float* right_chunk = chunks + kSide * kDepthPitch;
  const int x = on.thread() % 16, y = on.thread() / 16;
  float sum[4][4];
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) sum[i][j] = 0.0f;
  }
  float square = 0.0f;
  for (int start = 0; start < job.width; start += kDepth) {
    load_columns(on, left, start, job.width, left_chunk);
    load_columns(on, right, start, job.width, right_chunk);
    on.sync();
    for (int k = 0; k < kDepth; ++k) {
      float b[4];
      for (int j = 0; j < 4; ++j) b[j] = right_chunk[(x + 16 * j) * kDepthPitch + k];
      for (int i = 0; i < 4; ++i) {
        const float a = left_chunk[(y + 16 * i) * kDepthPitch + k];
        for (int j = 0; j < 4; ++j) sum[i][j] = lane_fma(a, b[j], sum[i][j]);
      }
    }
    if (on.thread() < 2 * kSide) {
      // The frames of the left side, then those of the right.
      const float* own = chunks + on.thread() * kDepthPitch;
      for (int k = 0; k < kDepth; ++k) square = lane_fma(own[k], own[k], square);
    }
    on.sync();
  }
  if (on.thread() < 2 * kSide) {
    // NaN has to reach the distances, so it takes the last branch.
    norms[on.thread()] = square == 0.0f ? 0.0f : square < 1e-12f ? 1e6f : inverse_root(square);
  }
  on.sync();
  for (int i = 0; i < 4; ++i) {
    const int l = y + 16 * i;
    const int left_video = l / job.rows.frames;
    for (int j = 0; j < 4; ++j) {
      const int m = x + 16 * j;
      const int right_video = m / job.columns.frames;
      if (left_video >= left.count || right_video >= right.count) continue;
      const int cell = (l - left_video * job.rows.frames) * job.columns.frames + m -
                       right_video * job.columns.frames;
      cells[(left_video * tile.columns + right_video) * tile.pitch.cells + cell] =
          1.0f - sum[i][j] * norms[l] * norms[kSide + m];
    }
  }
  on.sync();
}

// The position of the block in the walk over the episodes and the videos of the rows.
struct BlockPlace {
  std::int64_t episode, row;

  static MAFSAR_HD BlockPlace of(const MatchJob& job, const MatchTile& tile, std::int64_t block) {
    const std::int64_t each = parts_of(job.rows.videos, tile.rows);
    const std::int64_t episode = block / each;
    return {episode, (block - episode * each) * tile.rows};
  }
};

MAFSAR_HD std::int64_t score_of(const MatchJob& job, std::int64_t episode, std::int64_t row,
                                std::int64_t column) {
  return episode * job.rows.videos * job.columns.videos + row * job.rows.stride +
         column * job.columns.stride;
}

template <class Threads>
MAFSAR_HD void match_body(const Threads& on, const MatchJob& job) {
  const MatchTile tile = MatchTile::of(job, false);
  float* in_turns = static_cast<float*>(on.shared());
  float* norms = in_turns + tile.in_turns(false);
  float* cells = norms + 3 * kSide;
  const BlockPlace place = BlockPlace::of(job, tile, on.block_x());
  const std::int64_t column = on.block_y() * tile.columns;
  const TileSide left = tile_side(job.rows, place.episode, place.row, tile.rows, job.width);
  const TileSide right = tile_side(job.columns, place.episode, column, tile.columns, job.width);
  tile_distances(on, job, tile, left, right, in_turns, norms, cells);
  const int pair = on.thread();
  const int l = pair / tile.columns, m = pair - l * tile.columns;
  if (l >= left.count || m >= right.count) return;
  job.out[score_of(job, place.episode, place.row + l, column + m)] = align_pair(
      job.how, own_frames(job.rows.lengths, left.first + l, job.rows.frames),
      own_frames(job.columns.lengths, right.first + m, job.columns.frames), job.columns.frames,
      cells + pair * tile.pitch.cells, in_turns + pair * tile.pitch.row);
}

}  // namespace MAFSAR_ISA
}  // namespace mafsar
