// The tiles of a matrix product in shared memory: their shapes, and how they are filled.
//
// `StreamedForm` is for operands whose rows or columns consist of whole aligned vectors of 16
// bytes, which is every product of the adapter at the usual widths. Their layout and preparation
// are template arguments, so that no branch on them is left in the kernel. Vectors are copied
// straight to shared memory, several tiles ahead; each thread then prepares the vectors that it
// copied. `AnyForm` reads everything else, one tile at a time.
#pragma once

#include "device/rows.h"
#include "device/warp_tile.h"

namespace mafsar {
namespace MAFSAR_ISA {

constexpr int kTileRows = 16;
constexpr int kTileThreads = 128;
constexpr int kTileWarps = kTileThreads / kWarp;

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

// --- operands of any layout
// -----------------------------------------------------------------------

struct AnyForm {
  static constexpr bool kIsStreamed = false, kIsDeep = false;
  static constexpr Along kAlongA = Along::kDepth, kAlongB = Along::kDepth;  // in shared memory
  static constexpr int kColumns = 64, kStages = 1;
  template <class Value>
  struct Of {
    static constexpr int kDepth = 64, kPitchA = kDepth + 8, kPitchB = kPitchA;
    static constexpr int kValuesA = kTileRows * kPitchA, kValuesB = kColumns * kPitchB;
  };
};

// Loads rows [first, first + kRows) and columns [start, start + 64) of an operand, with zeros
// outside the operand. Vectors run along the contiguous dimension.
template <int kRows, class Threads, class Value>
MAFSAR_HD void load_tile(const Threads& on, const ProductJob<Value>& job,
                         const Operand<Value>& from, int first, int count, int start,
                         const float* statistics, Value* tile) {
  using Of = typename AnyForm::template Of<Value>;
  constexpr int kVector = 16 / static_cast<int>(sizeof(Value));
  const bool along_depth = from.column == 1;
  const int length = along_depth ? Of::kDepth : kRows;
  const std::int64_t other = along_depth ? from.row : from.column;
  const bool aligned = in_vectors(from.values, other);
  const int vectors = kRows * Of::kDepth / kVector;
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
      tile[to_row * Of::kPitchA + to_depth] = value;
    }
  }
}

// --- operands of whole vectors
// --------------------------------------------------------------------

// A block computes 16 × 64 outputs, a quarter of the columns in each warp. If it is deep, it
// computes 16 × 16, a quarter of each tile's depth in each warp: four times as many blocks, for
// products that would otherwise leave most of the chip without work.
template <Along kA, Prepare kPrepareOfA, Along kB, Prepare kPrepareOfB, bool kDeep>
struct StreamedForm {
  static constexpr bool kIsStreamed = true, kIsDeep = kDeep;
  static constexpr Along kAlongA = kA, kAlongB = kB;
  static constexpr Prepare kPrepareA = kPrepareOfA, kPrepareB = kPrepareOfB;
  static constexpr int kColumns = kDeep ? kWarpRows : kTileWarps * kWarpRows;
  static constexpr int kStages = kDeep ? 3 : 4;
  template <class Value>
  struct Of {
    static constexpr int kVector = 16 / static_cast<int>(sizeof(Value));
    static constexpr int kDepth = (kDeep ? 32 : 8) * kVector;
    // One vector more than needed, so that the rows of a warp are in different banks.
    static constexpr int kPitchA = (kA == Along::kDepth ? kDepth : kTileRows) + kVector;
    static constexpr int kPitchB = (kB == Along::kDepth ? kDepth : kColumns) + kVector;
    static constexpr int kValuesA = (kA == Along::kDepth ? kTileRows : kDepth) * kPitchA;
    static constexpr int kValuesB = (kB == Along::kDepth ? kColumns : kDepth) * kPitchB;
  };
};

// Calls function(j, row, k) for each vector of a tile of kRows × kDepth that this thread copies.
template <Along kAlong, int kRows, int kDepth, int kVector, class Threads, class Function>
MAFSAR_HD void each_vector(const Threads& on, const Function& function) {
  constexpr int kLine = (kAlong == Along::kDepth ? kDepth : kRows) / kVector;
  constexpr int kVectors = kRows * kDepth / kVector;
  static_assert(kVectors % kTileThreads == 0 && kTileThreads % kLine == 0, "a whole tile");
  const int across = on.thread() / kLine, along = on.thread() % kLine * kVector;
#if defined(__CUDA_ARCH__)
#pragma unroll
#endif
  for (int j = 0; j < kVectors / kTileThreads; ++j) {
    const int line = across + j * (kTileThreads / kLine);
    if (kAlong == Along::kDepth) {
      function(line, along);
    } else {
      function(along, line);
    }
  }
}

// Starts to copy rows [first, first + kRows) and columns [start, start + kDepth) of an operand,
// with zeros outside the operand.
template <Along kAlong, int kRows, int kDepth, int kPitch, class Threads, class Value>
MAFSAR_HD void start_tile(const Threads& on, const Operand<Value>& from, int first, int count,
                          int start, int depth, Value* tile) {
  constexpr int kVector = 16 / static_cast<int>(sizeof(Value));
  const std::int64_t step = kAlong == Along::kDepth ? from.row : from.column;
  each_vector<kAlong, kRows, kDepth, kVector>(on, [&](int row, int k) {
    const int i = first + row, at = start + k;
    const bool inside = i < count && at < depth;
    const std::int64_t offset = kAlong == Along::kDepth ? i * step + at : at * step + i;
    on.copy16(tile + place<kAlong>(row, k, kPitch), from.values + (inside ? offset : 0), inside);
  });
}

// The norm's weight and bias at the depth that a thread prepares in a tile.
template <class Value>
struct NormVectors {
  static constexpr int kVector = 16 / static_cast<int>(sizeof(Value));
  alignas(16) Value weight[kVector];
  alignas(16) Value bias[kVector];

  MAFSAR_HD void load(const ProductJob<Value>& job, int k) {
    if (k >= job.depth) return;
    load_vector(job.norm_weight + k, weight);
    load_vector(job.norm_bias + k, bias);
  }
};

// Prepares the vectors that this thread copied. Zeros outside the operand stay zeros.
template <Along kAlong, Prepare kHow, int kRows, int kDepth, int kPitch, class Threads, class Value>
MAFSAR_HD void prepare_tile(const Threads& on, int rows_left, int depth_left,
                            const float* statistics, const NormVectors<Value>& norm, Value* tile) {
  constexpr int kVector = 16 / static_cast<int>(sizeof(Value));
  static_assert(kHow != Prepare::kNorm || kAlong == Along::kDepth, "a norm is of rows");
  each_vector<kAlong, kRows, kDepth, kVector>(on, [&](int row, int k) {
    if (row >= rows_left || k >= depth_left) return;
    Value* at = tile + place<kAlong>(row, k, kPitch);
    alignas(16) Value values[kVector];
    load_vector(at, values);
    for (int e = 0; e < kVector; ++e) {
      float value = to_float(values[e]);
      if (kHow == Prepare::kNorm) {
        const float unit = (value - statistics[2 * row]) * statistics[2 * row + 1];
        value = lane_fma(unit, to_float(norm.weight[e]), to_float(norm.bias[e]));
      } else {
        value = gelu(value);
      }
      values[e] = from_float<Value>(value);
    }
    load_vector(values, at);
  });
}

}  // namespace MAFSAR_ISA
}  // namespace mafsar
