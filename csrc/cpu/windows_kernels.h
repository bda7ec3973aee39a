// Windows of an archive, kept as float16, against prototypes: a product in tiles gives the
// distances of 2 kWidth windows to a group of prototypes, and these are aligned.
//
//   v_t = [ √(1-w) (F_t - μ) / max(|F_t - μ|, 1e-6) ; √w (F_t - F̄) / max(|F_t - F̄|, ε) ]
//
// (docs/method.md, "Views"), or v_t = F_t. The prototypes are divided by their norms beforehand;
// the products of F_t - μ and of F_t - F̄ become a cosine at the end. In the product one register
// holds frames of prototypes and each row is a frame of another window; a tile is stored with the
// windows in the lanes, as the alignment reads it. The limit is the multiply-adds: 8×8×2E for a
// window and a class.
#pragma once

#include "cpu/align_tile.h"
#include "cpu/tile_kernels.h"
#include "mafsar/storage.h"
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace mafsar {
namespace MAFSAR_ISA {

// kWidth numbers of float16.
inline Pack load_half(const std::uint16_t* from) {
#if defined(__AVX512F__)
  __m256i half;
  std::memcpy(&half, from, sizeof half);
  // GCC 12 warns of its own header's undefined vector where nothing is masked.
  return Pack(static_cast<RawPack>(_mm512_maskz_cvtph_ps(0xffff, half)));
#elif defined(__GNUC__)
  typedef std::uint16_t RawHalf __attribute__((vector_size(sizeof(std::uint16_t) * kWidth)));
  RawHalf half;
  std::memcpy(&half, from, sizeof half);
  const RawBits bits = __builtin_convertvector(half, RawBits);
  const RawBits rest = bits & 0x7fff;
  // As to_float of storage.h: numbers, those below 2^-14, infinity and NaN.
  const RawBits number = (rest << 13) + 0x38000000;
  const RawPack small = __builtin_convertvector(rest, RawPack) * 5.9604644775390625e-8f;
  RawBits of_small;
  std::memcpy(&of_small, &small, sizeof small);
  const RawBits special = (rest << 13) | 0x7f800000;
  RawBits all = rest < 0x400 ? of_small : rest < 0x7c00 ? number : special;
  all |= (bits & 0x8000) << 16;
  Pack pack;
  std::memcpy(&pack.v, &all, sizeof all);
  return pack;
#else
  return Pack(to_float(Float16{*from}));
#endif
}

inline Pack load_half(const std::uint16_t* from, int at, int width) {
  if (at + kWidth <= width) return load_half(from + at);
  std::uint16_t all[kWidth] = {};
  std::memcpy(all, from + at, sizeof(std::uint16_t) * static_cast<std::size_t>(width - at));
  return load_half(all);
}

inline void store_row(Pack lane, float* to, int at, int width) {
  if (at + kWidth <= width) {
    lane.store(to + at);
  } else {
    lane.store_part(to + at, width - at);
  }
}

inline float norm_of(Pack squares) {
  float all[kWidth];
  squares.store(all);
  float sum = 0.0f;
  for (int i = 0; i < kWidth; ++i) sum += all[i];
  return __builtin_sqrtf(sum);
}

inline float at_least(float value, float least) { return value > least ? value : least; }

// What makes a unit vector of one with this norm; 0 for a zero vector. NaN takes the last branch.
inline float to_unit(float norm) {
  return norm == 0.0f ? 0.0f : (norm < 1e-6f ? 1e6f : 1.0f / norm);
}

// What makes cosines of the products of one frame: (product of F - μ * before + product of F - F̄) *
// after, or product of F * after.
struct FrameScale {
  float before, after;
};

// The rows of one window, (frames, depth), F - μ and F - F̄ side by side, and their scales;
// `squares` holds two lanes a frame.
inline void window_rows(const WindowViews& views, const std::uint16_t* features, int frames,
                        int width, Pack* squares, float* rows, FrameScale* scales) {
  const bool raw = views.mean == nullptr;
  const std::int64_t depth = raw ? width : 2 * static_cast<std::int64_t>(width);
  const Pack share(1.0f / static_cast<float>(frames));
  for (int t = 0; t < 2 * frames; ++t) squares[t] = Pack(0.0f);
  for (int at = 0; at < width; at += kWidth) {
    Pack middle(0.0f), mean(0.0f);
    if (!raw) {
      for (int t = 0; t < frames; ++t) {
        middle = middle + load_half(features + static_cast<std::int64_t>(t) * width, at, width);
      }
      middle = middle * share;
      mean = at + kWidth <= width ? Pack::load(views.mean + at)
                                  : Pack::load_part(views.mean + at, width - at);
    }
    for (int t = 0; t < frames; ++t) {
      const Pack x = load_half(features + static_cast<std::int64_t>(t) * width, at, width);
      float* row = rows + t * depth;
      const Pack first = raw ? x : x - mean;
      squares[2 * t] = lane_fma(first, first, squares[2 * t]);
      store_row(first, row, at, width);
      if (raw) continue;
      const Pack second = x - middle;
      squares[2 * t + 1] = lane_fma(second, second, squares[2 * t + 1]);
      store_row(second, row + width, at, width);
    }
  }
  for (int t = 0; t < frames; ++t) {
    const float norm = norm_of(squares[2 * t]);
    if (raw) {
      scales[t] = {1.0f, to_unit(norm)};
      continue;
    }
    const float moved = norm_of(squares[2 * t + 1]);
    const float first = views.appearance / at_least(norm, 1e-6f);
    const float second = views.change / at_least(moved, views.floor);
    const float a = first * norm, c = second * moved;
    const float unit = to_unit(__builtin_sqrtf(a * a + c * c));
    // Where changes have no weight, the prototypes' are zero: their product needs no scale.
    scales[t] =
        second > 0.0f ? FrameScale{first / second, second * unit} : FrameScale{1.0f, first * unit};
  }
}

// Floats from one window's rows to the next one's: an odd number of cache lines, or the rows that a
// tile reads side by side would share one set of the first-level cache.
inline std::int64_t window_stride(int frames, int depth) {
  return ((static_cast<std::int64_t>(frames) * depth + 15) / 16 | 1) * 16;
}

// Distances of the frames of kTileRows windows to the frames of one panel, into the tile's lanes.
// The rows have `parts` parts of `width` numbers.
//
// The changes of a window add up to zero, so the product of the last one is minus the sum of the
// others': a sixteenth of the multiply-adds less. What this rounds away is far below the half step
// of float16 that the features have lost.
template <int kVectors>
void panel_distances(const float* rows, std::int64_t window, const FrameScale* scales, int frames,
                     const float* panel, int parts, int width, int lanes, float* tile) {
  constexpr int kLanes = kVectors * kWidth;
  constexpr int kSums = kTileRows * kVectors;
  const std::int64_t half = static_cast<std::int64_t>(width) * kLanes;
  Pack rest[kSums];
  for (Pack& one : rest) one = Pack(0.0f);
  for (int l = 0; l < frames; ++l) {
    const float* row = rows + static_cast<std::int64_t>(l) * parts * width;
    Pack sum[kSums];
    for (Pack& one : sum) one = Pack(0.0f);
    add_tile<kTileRows, kVectors, false>(row, window, 1, panel, kLanes, width, sum);
    if (parts == 2) {
      Pack change[kSums];
      for (Pack& one : change) one = Pack(0.0f);
      if (l + 1 < frames) {
        add_tile<kTileRows, kVectors, false>(row + width, window, 1, panel + half, kLanes, width,
                                             change);
        for (int k = 0; k < kSums; ++k) rest[k] = rest[k] - change[k];
      } else {
        for (int k = 0; k < kSums; ++k) change[k] = rest[k];
      }
      for (int k = 0; k < kSums; ++k) {
        sum[k] = lane_fma(sum[k], Pack(scales[k / kVectors * frames + l].before), change[k]);
      }
    }
    for (int k = 0; k < kSums; ++k) {
      sum[k] = Pack(1.0f) - sum[k] * Pack(scales[k / kVectors * frames + l].after);
    }
    store_tile<kTileRows, kVectors>(sum, kLanes, kMostPairs,
                                    tile + static_cast<std::int64_t>(l) * lanes * kMostPairs);
  }
}

// Tile of all windows of a block: cell (l, column) of window k at [(l * lanes + column) *
// kMostPairs
// + k].
inline void group_distances(const float* rows, const FrameScale* scales, int frames, int parts,
                            int width, const float* panels, int columns, float* tile) {
  const int depth = parts * width;
  const int lanes = lanes_of(columns);
  const std::int64_t window = window_stride(frames, depth);
  for (int k = 0; k < kMostPairs; k += kTileRows) {
    for (int first = 0; first < columns; first += kPanelRows) {
      const float* panel = panels + static_cast<std::int64_t>(first) * depth;
      const int left = columns - first < kPanelRows ? columns - first : kPanelRows;
      const int vectors = lanes_of(left) / kWidth;
      const auto run = vectors == 3   ? panel_distances<3>
                       : vectors == 2 ? panel_distances<2>
                                      : panel_distances<1>;
      run(rows + k * window, window, scales + k * frames, frames, panel, parts, width, lanes,
          tile + static_cast<std::int64_t>(first) * kMostPairs + k);
    }
  }
}

inline std::size_t windows_scratch(int frames, int depth, int group_columns, int columns) {
  const auto of = [](std::int64_t count) { return static_cast<std::size_t>(count); };
  return kMostPairs * (of(window_stride(frames, depth)) + of(frames) * of(lanes_of(group_columns)) +
                       TileScratch::row_lanes(frames, columns) + 2 * of(frames)) +
         2 * kMostPairs * of(frames);
}

// A block of at most kMostPairs windows against all prototypes.
inline void windows_forward(const WindowsJob& job, std::int64_t first, int count, float* scratch) {
  using Lane = Both<Pack>;
  const int parts = job.views.mean ? 2 : 1;
  const int depth = parts * job.width;
  const std::int64_t window = window_stride(job.frames, depth);
  float* rows = scratch;
  float* tile = rows + kMostPairs * window;
  float* row =
      tile + kMostPairs * static_cast<std::int64_t>(job.frames) * lanes_of(job.group * job.columns);
  auto* squares =
      reinterpret_cast<Pack*>(row + kMostPairs * TileScratch::row_lanes(job.frames, job.columns));
  auto* scales = reinterpret_cast<FrameScale*>(squares + 2 * job.frames);
  for (int k = 0; k < count; ++k) {
    window_rows(job.views, job.features + (first + k) * job.frames * job.width, job.frames,
                job.width, squares, rows + k * window, scales + k * job.frames);
  }
  for (int k = count * job.frames; k < kMostPairs * job.frames; ++k) scales[k] = {0.0f, 0.0f};
  std::memset(rows + count * window, 0,
              sizeof(float) * static_cast<std::size_t>((kMostPairs - count) * window));
  const float* panels = job.panels;
  for (int c = 0; c < job.classes; c += job.group) {
    const int classes = job.classes - c < job.group ? job.classes - c : job.group;
    const int lanes = lanes_of(classes * job.columns);
    group_distances(rows, scales, job.frames, parts, job.width, panels, classes * job.columns,
                    tile);
    panels += static_cast<std::int64_t>(lanes) * depth;
    for (int i = 0; i < classes; ++i) {
      const float* of_class = tile + static_cast<std::int64_t>(i) * job.columns * kMostPairs;
      float costs[kMostPairs];
      LaneOf<Lane>::store(align_cells<Lane>(job.how, job.frames, job.columns, of_class, lanes, row),
                          costs);
      for (int k = 0; k < count; ++k) job.scores[(first + k) * job.classes + c + i] = costs[k];
    }
  }
}

}  // namespace MAFSAR_ISA
}  // namespace mafsar
