// Matrix products of few rows, fused with the operations before and after them (ProductJob).
//
// Strides tell the layout of A and B, so that one body serves x Wᵀ, grad W and gradᵀ x. A block of
// four warps computes 16 × 64 outputs. The weights stream through shared memory 64 columns at a
// time, 16 bytes per load. A warp computes 16 × 16 outputs, on the matrix units for half precision
// and in float32 multiply-adds otherwise. For the rows of a few clips, the limit is reading the
// weights once.
#pragma once

#include "device/rows.h"
#include "device/warp_tile.h"

namespace mafsar {
namespace MAFSAR_ISA {

constexpr int kTileRows = 16;
constexpr int kTileColumns = 64;
constexpr int kTileDepth = 64;
constexpr int kTileThreads = 128;
constexpr int kTileStride =
    kTileDepth + 8;  // keeps rows aligned to 16 bytes and in different banks
constexpr int kOutStride = kTileColumns + 4;

template <class Value>
struct ProductShared {
  float statistics[2 * kTileRows];
  float out[kTileRows * kOutStride];
  Value a[kTileRows * kTileStride];
  Value b[kTileColumns * kTileStride];
};

template <class Value>
Launch launch_of(const ProductJob<Value>& job) {
  return {parts_of(job.columns, kTileColumns), parts_of(job.rows, kTileRows), kTileThreads,
          sizeof(ProductShared<Value>)};
}

template <class Value>
MAFSAR_HD float prepared(const ProductJob<Value>& job, Prepare how, float value, int row, int k,
                         const float* statistics) {
  if (how == Prepare::kGelu) return gelu(value);
  if (how == Prepare::kNorm) {
    const float unit = (value - statistics[2 * row]) * statistics[2 * row + 1];
    return lane_fma(unit, to_float(job.norm_weight[k]), to_float(job.norm_bias[k]));
  }
  return value;
}

// Loads rows [first, first + kRows) and columns [start, start + kTileDepth) of an operand into
// shared memory, with zeros outside the operand. Vectors run along the contiguous dimension.
template <int kRows, class Threads, class Value>
MAFSAR_HD void load_tile(const Threads& on, const ProductJob<Value>& job,
                         const Operand<Value>& from, int first, int count, int start,
                         const float* statistics, Value* tile) {
  constexpr int kVector = 16 / static_cast<int>(sizeof(Value));
  const bool along_depth = from.column == 1;
  const int length = along_depth ? kTileDepth : kRows;
  const std::int64_t other = along_depth ? from.row : from.column;
  const bool aligned =
      reinterpret_cast<std::uintptr_t>(from.values) % 16 == 0 && other % kVector == 0;
  const int vectors = kRows * kTileDepth / kVector;
  for (int v = on.thread(); v < vectors; v += kTileThreads) {
    const int across = v / (length / kVector);
    const int along = (v - across * (length / kVector)) * kVector;
    const int row = along_depth ? across : along;
    const int depth = along_depth ? along : across;
    const int i = first + row, k = start + depth;
    const bool starts_inside = i < count && k < job.depth;
    const int left = along_depth ? job.depth - k : count - i;
    alignas(16) Value values[kVector];
    const Value* source = from.values + i * from.row + k * from.column;
    if (starts_inside && left >= kVector && aligned) {
      load_vector(source, values);
    } else {
      for (int e = 0; e < kVector; ++e) {
        values[e] = starts_inside && e < left ? source[e] : from_float<Value>(0.0f);
      }
    }
    for (int e = 0; e < kVector; ++e) {
      const int to_row = along_depth ? row : row + e;
      const int to_depth = along_depth ? depth + e : depth;
      Value value = values[e];
      // Values outside have to stay zero: a norm would set them to its bias.
      if (from.prepare != Prepare::kNothing && starts_inside && e < left) {
        value = from_float<Value>(
            prepared(job, from.prepare, to_float(value), to_row, start + to_depth, statistics));
      }
      tile[to_row * kTileStride + to_depth] = value;
    }
  }
}

template <class Threads, class Value>
MAFSAR_HD void row_statistics(const Threads& on, const ProductJob<Value>& job, int first_row,
                              float* statistics) {
  for (int row = on.thread() / kWarp; row < kTileRows; row += kTileThreads / kWarp) {
    if (first_row + row >= job.rows) break;
    const Value* x = job.a.values + (first_row + row) * job.a.row;
    const NormStatistics with = norm_statistics(WarpTeam<Threads>{on}, x, job.depth, job.eps);
    if (on.thread() % kWarp == 0) {
      statistics[2 * row] = with.mean;
      statistics[2 * row + 1] = with.inverse_deviation;
    }
  }
  on.sync();
}

template <class Threads, class Value>
MAFSAR_HD void product_body(const Threads& on, const ProductJob<Value>& job) {
  auto& shared = *static_cast<ProductShared<Value>*>(on.shared());
  const int first_row = static_cast<int>(on.block_y()) * kTileRows;
  const int first_column = static_cast<int>(on.block_x()) * kTileColumns;
  const int warp = on.thread() / kWarp;
  if (job.a.prepare == Prepare::kNorm) row_statistics(on, job, first_row, shared.statistics);

  WarpTile<Threads, Value> tile(on);
  float sum = 0.0f;
  for (int start = 0; start < job.depth; start += kTileDepth) {
    load_tile<kTileRows>(on, job, job.a, first_row, job.rows, start, shared.statistics, shared.a);
    load_tile<kTileColumns>(on, job, job.b, first_column, job.columns, start, shared.statistics,
                            shared.b);
    on.sync();
    for (int k = 0; k < kTileDepth; k += 16) {
      tile.multiply_add(shared.a + k, shared.b + warp * 16 * kTileStride + k, kTileStride);
    }
    if (job.sums && on.block_x() == 0 && on.thread() < kTileRows) {
      for (int k = 0; k < kTileDepth; ++k) {
        sum += to_float(shared.a[on.thread() * kTileStride + k]);
      }
    }
    on.sync();
  }
  tile.store(shared.out + warp * 16, kOutStride);
  on.sync();

  if (job.sums && on.block_x() == 0 && on.thread() < kTileRows &&
      first_row + on.thread() < job.rows) {
    job.sums[first_row + on.thread()] = from_float<Value>(sum);
  }
  for (int cell = on.thread(); cell < kTileRows * kTileColumns; cell += kTileThreads) {
    const int row = cell / kTileColumns, column = cell % kTileColumns;
    const int m = first_row + row, n = first_column + column;
    if (m >= job.rows || n >= job.columns) continue;
    const std::int64_t at = static_cast<std::int64_t>(m) * job.columns + n;
    float value = shared.out[row * kOutStride + column];
    if (job.bias) value += to_float(job.bias[n]);
    if (job.hidden) value *= gelu_slope(to_float(job.hidden[at]));
    if (job.skip) value += to_float(job.skip[at]);
    job.out[at] = from_float<Value>(value);
  }
}

}  // namespace MAFSAR_ISA
}  // namespace mafsar
