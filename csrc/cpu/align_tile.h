// Tiles of pairs: element k of every lane belongs to pair k, cell by cell.
//
// A tile is held cell-major, tile[cell * kPairs + k], so that the alignment reads whole lanes; all
// of its memory (8×8 frames, 32 pairs: 8 KB of distances, 36 KB of weights) stays in the caches
// next to the core. A soft minimum is a chain of 16 dependent operations and each waits for the
// last, so a tile holds two vectors of pairs, and in the square case both directions of OTAM run
// side by side: four chains that fill each other's gaps.
#pragma once

#include "cpu/kernels.h"
#include "cpu/pack.h"
#include "mafsar/bimhm.h"
#include "mafsar/otam.h"

namespace mafsar {
namespace MAFSAR_ISA {

// Pairs in a lane, and how a lane is read and written.
template <class Lane>
struct LaneOf;

template <>
struct LaneOf<Pack> {
  static constexpr int kPairs = kWidth;
  static Pack load(const float* from) { return Pack::load(from); }
  static void store(Pack lane, float* to) { lane.store(to); }
};

template <>
struct LaneOf<Both<Pack>> {
  static constexpr int kPairs = 2 * kWidth;
  static Both<Pack> load(const float* from) {
    return {Pack::load(from), Pack::load(from + kWidth)};
  }
  static void store(Both<Pack> lane, float* to) {
    lane.there.store(to);
    lane.back.store(to + kWidth);
  }
};

constexpr int kMostPairs = LaneOf<Both<Pack>>::kPairs;

// Reads cell (l, m) of a tile through strides: the transpose is the same tile, strides exchanged.
template <class Lane>
struct ReadTile {
  const float* tile;
  int row_step, column_step;  // in cells
  Lane operator()(int l, int m) const {
    const auto cell = static_cast<std::ptrdiff_t>(l * row_step + m * column_step);
    return LaneOf<Lane>::load(tile + cell * LaneOf<Lane>::kPairs);
  }
};

template <class Lane>
struct ReadBoth {
  const float* tile;
  int row_step;
  Both<Lane> operator()(int l, int m) const {
    return {ReadTile<Lane>{tile, row_step, 1}(l, m), ReadTile<Lane>{tile, 1, row_step}(l, m)};
  }
};

template <class Lane>
struct AddTile {
  float* tile;
  int row_step, column_step;
  void operator()(int l, int m, Lane value) const {
    const auto cell = static_cast<std::ptrdiff_t>(l * row_step + m * column_step);
    float* at = tile + cell * LaneOf<Lane>::kPairs;
    LaneOf<Lane>::store(LaneOf<Lane>::load(at) + value, at);
  }
};

template <class Lane>
struct AddBoth {
  float* tile;
  int size;
  void operator()(int l, int m, Both<Lane> value) const {
    AddTile<Lane>{tile, size, 1}(l, m, value.there);
    AddTile<Lane>{tile, 1, size}(l, m, value.back);
  }
};

// Scratch of one tile of the widest kind, carved from memory aligned to 64 bytes.
struct TileScratch {
  float* distances;  // cells
  float* gradients;  // cells, backward only
  float* row;        // lanes of the recurrences
  float* table;      // kept weights, backward only

  static std::size_t row_lanes(int rows, int columns) {
    return 2 * static_cast<std::size_t>(rows > columns ? rows : columns);
  }
  static std::size_t table_lanes(int rows, int columns) {
    const std::size_t side = static_cast<std::size_t>(rows > columns ? rows : columns);
    return 4 * side * (side + 1);
  }
  static std::size_t floats(int rows, int columns, bool backward) {
    const std::size_t cells = static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns);
    const std::size_t extra = backward ? cells + table_lanes(rows, columns) : 0;
    return kMostPairs * (cells + row_lanes(rows, columns) + extra);
  }
  static TileScratch carve(float* memory, int rows, int columns) {
    const std::size_t cells = static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns);
    float* row = memory + kMostPairs * cells;
    float* gradients = row + kMostPairs * row_lanes(rows, columns);
    return {memory, gradients, row, gradients + kMostPairs * cells};
  }
};

// Costs of pairs whose cell (l, m) is number l * row_step + m of `distances`; `row` is scratch.
template <class Lane>
Lane align_cells(const Alignment& how, int rows, int columns, const float* distances, int row_step,
                 float* scratch) {
  const ReadTile<Lane> there{distances, row_step, 1};
  Lane* row = reinterpret_cast<Lane*>(scratch);
  switch (how.metric) {
    case Metric::kBimhm:
      return bimhm_forward(rows, columns, there, row);
    case Metric::kOtam:
      break;
  }
  const SoftMinimum with = make_soft_minimum(how.lam);
  const KeepNothing nothing{};
  if (!how.bidirectional) return otam_forward(rows, columns, with, there, row, nothing);
  if (rows == columns) {
    const Both<Lane> cost = otam_forward(rows, columns, with, ReadBoth<Lane>{distances, row_step},
                                         reinterpret_cast<Both<Lane>*>(scratch), nothing);
    return cost.there + cost.back;
  }
  const ReadTile<Lane> back{distances, 1, row_step};
  const Lane cost = otam_forward(rows, columns, with, there, row, nothing);
  return cost + otam_forward(columns, rows, with, back, row, nothing);
}

// Costs of the pairs of tile.distances.
template <class Lane>
Lane align_forward(const Alignment& how, int rows, int columns, const TileScratch& tile) {
  return align_cells<Lane>(how, rows, columns, tile.distances, columns, tile.row);
}

// Fills tile.gradients from tile.distances and the pairs' gradients.
template <class Lane>
void align_backward(const Alignment& how, int rows, int columns, Lane grad,
                    const TileScratch& tile) {
  const std::size_t cells = static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns);
  std::memset(tile.gradients, 0, sizeof(float) * LaneOf<Lane>::kPairs * cells);
  const ReadTile<Lane> there{tile.distances, columns, 1};
  const AddTile<Lane> add_there{tile.gradients, columns, 1};
  Lane* row = reinterpret_cast<Lane*>(tile.row);
  switch (how.metric) {
    case Metric::kBimhm:
      bimhm_backward(rows, columns, grad, there, row, add_there);
      return;
    case Metric::kOtam:
      break;
  }
  const SoftMinimum with = make_soft_minimum(how.lam);
  if (how.bidirectional && rows == columns) {
    auto* rows_of_both = reinterpret_cast<Both<Lane>*>(tile.row);
    auto* table = reinterpret_cast<Both<Lane>*>(tile.table);
    otam_forward(rows, columns, with, ReadBoth<Lane>{tile.distances, columns}, rows_of_both,
                 KeepWeights<Both<Lane>>{table, columns});
    otam_backward(rows, columns, Both<Lane>{grad, grad}, table, rows_of_both,
                  AddBoth<Lane>{tile.gradients, columns});
    return;
  }
  Lane* table = reinterpret_cast<Lane*>(tile.table);
  otam_forward(rows, columns, with, there, row, KeepWeights<Lane>{table, columns});
  otam_backward(rows, columns, grad, table, row, add_there);
  if (how.bidirectional) {
    const ReadTile<Lane> back{tile.distances, 1, columns};
    otam_forward(columns, rows, with, back, row, KeepWeights<Lane>{table, rows});
    otam_backward(columns, rows, grad, table, row, AddTile<Lane>{tile.gradients, 1, columns});
  }
}

}  // namespace MAFSAR_ISA
}  // namespace mafsar
