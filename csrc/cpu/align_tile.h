// Tiles of kWidth pairs: element k of every vector belongs to pair k, cell by cell.
//
// A tile is held cell-major, tile[cell * kWidth + k], so that the alignment reads whole vectors.
// All of a tile's memory (8×8 frames, AVX-512: 4 KB of distances, 18 KB of weights) stays in the
// first-level cache. In the square case both directions of OTAM run side by side in `Both` lanes,
// which hides the latency of one chain behind the other.
#pragma once

#include "cpu/kernels.h"
#include "cpu/pack.h"
#include "mafsar/bimhm.h"
#include "mafsar/otam.h"

namespace mafsar {
namespace MAFSAR_ISA {

// Reads cell (l, m) of a tile through strides: the transpose is the same tile, strides exchanged.
struct ReadTile {
  const float* tile;
  int row_step, column_step;  // in cells
  Pack operator()(int l, int m) const {
    return Pack::load(tile + static_cast<std::ptrdiff_t>(l * row_step + m * column_step) * kWidth);
  }
};

struct ReadBoth {
  const float* tile;
  int size;
  Both<Pack> operator()(int l, int m) const {
    return {ReadTile{tile, size, 1}(l, m), ReadTile{tile, 1, size}(l, m)};
  }
};

struct AddTile {
  float* tile;
  int row_step, column_step;
  void operator()(int l, int m, Pack value) const {
    float* cell = tile + static_cast<std::ptrdiff_t>(l * row_step + m * column_step) * kWidth;
    (Pack::load(cell) + value).store(cell);
  }
};

struct AddBoth {
  float* tile;
  int size;
  void operator()(int l, int m, Both<Pack> value) const {
    AddTile{tile, size, 1}(l, m, value.there);
    AddTile{tile, 1, size}(l, m, value.back);
  }
};

// Scratch of one tile, carved from one piece of memory aligned to 64 bytes.
struct TileScratch {
  float* distances;  // cells
  float* gradients;  // cells, backward only
  Pack* rows;        // lanes of the recurrences
  Pack* table;       // kept weights, backward only

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
    return kWidth * (cells + row_lanes(rows, columns) + extra);
  }
  static TileScratch carve(float* memory, int rows, int columns) {
    const std::size_t cells = static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns);
    float* lanes = memory + kWidth * cells;
    float* gradients = lanes + kWidth * row_lanes(rows, columns);
    float* table = gradients + kWidth * cells;
    return {memory, gradients, reinterpret_cast<Pack*>(lanes), reinterpret_cast<Pack*>(table)};
  }
};

inline Pack align_forward(const Alignment& how, int rows, int columns, const TileScratch& tile) {
  const ReadTile there{tile.distances, columns, 1};
  if (how.metric == Metric::kBimhm) return bimhm_forward(rows, columns, there, tile.rows);
  const SoftMinimum with = make_soft_minimum(how.lam);
  const KeepNothing nothing{};
  if (!how.bidirectional) return otam_forward(rows, columns, with, there, tile.rows, nothing);
  if (rows == columns) {
    const Both<Pack> cost = otam_forward(rows, columns, with, ReadBoth{tile.distances, columns},
                                         reinterpret_cast<Both<Pack>*>(tile.rows), nothing);
    return cost.there + cost.back;
  }
  const ReadTile back{tile.distances, 1, columns};
  const Pack cost = otam_forward(rows, columns, with, there, tile.rows, nothing);
  return cost + otam_forward(columns, rows, with, back, tile.rows, nothing);
}

// Fills tile.gradients from tile.distances and the pairs' gradients.
inline void align_backward(const Alignment& how, int rows, int columns, Pack grad,
                           const TileScratch& tile) {
  std::memset(tile.gradients, 0, sizeof(float) * kWidth * static_cast<std::size_t>(rows * columns));
  const ReadTile there{tile.distances, columns, 1};
  const AddTile add_there{tile.gradients, columns, 1};
  if (how.metric == Metric::kBimhm) {
    bimhm_backward(rows, columns, grad, there, tile.rows, add_there);
    return;
  }
  const SoftMinimum with = make_soft_minimum(how.lam);
  if (how.bidirectional && rows == columns) {
    auto* row = reinterpret_cast<Both<Pack>*>(tile.rows);
    auto* table = reinterpret_cast<Both<Pack>*>(tile.table);
    otam_forward(rows, columns, with, ReadBoth{tile.distances, columns}, row,
                 KeepWeights<Both<Pack>>{table, columns});
    otam_backward(rows, columns, Both<Pack>{grad, grad}, table, row,
                  AddBoth{tile.gradients, columns});
    return;
  }
  otam_forward(rows, columns, with, there, tile.rows, KeepWeights<Pack>{tile.table, columns});
  otam_backward(rows, columns, grad, tile.table, tile.rows, add_there);
  if (how.bidirectional) {
    const ReadTile back{tile.distances, 1, columns};
    otam_forward(columns, rows, with, back, tile.rows, KeepWeights<Pack>{tile.table, rows});
    otam_backward(columns, rows, grad, tile.table, tile.rows, AddTile{tile.gradients, 1, columns});
  }
}

}  // namespace MAFSAR_ISA
}  // namespace mafsar
