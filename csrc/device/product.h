// Matrix products of few rows, fused with the operations before and after them (ProductJob).
//
// A block of four warps computes 16 rows and 64 columns of outputs, or 16 of each where that makes
// too few blocks. A warp computes 16 × 16 outputs, on the matrix units for half precision and in
// float32 multiply-adds otherwise. For the rows of a few clips, the limit is reading the weights
// once, so the next tiles are on their way while one is multiplied (csrc/device/product_tiles.h).
// Partial sums are added in a fixed order: the same bits every time.
//
// The copies are those of compute capability 8.0 (cp.async), on 9.0 too. Its bulk copies (TMA)
// would save address arithmetic of a warp that waits for memory anyway, write tiles without the
// padding that keeps rows in different banks, and need a descriptor of each tensor from the driver,
// made anew for every weight and launch.
#pragma once

#include "device/product_tiles.h"

namespace mafsar {
namespace MAFSAR_ISA {

// More blocks than this keep a large chip busy. Counted, not measured.
constexpr std::int64_t kEnoughBlocks = 96;

template <class Form, class Value>
struct ProductShared {
  using Of = typename Form::template Of<Value>;
  static constexpr int kOutPitch = Form::kColumns + 4;
  static constexpr int kOutParts = Form::kIsDeep ? kTileWarps : 1;
  static constexpr int kStageValues = Of::kValuesA + Of::kValuesB;
  static constexpr int kStageBytes = kStageValues * static_cast<int>(sizeof(Value));

  // The tiles of each stage, A before B. After the last tile, the outputs take their place.
  alignas(32) unsigned char tiles[Form::kStages * kStageBytes];

  MAFSAR_HD Value* a(int stage) { return reinterpret_cast<Value*>(tiles) + stage * kStageValues; }
  MAFSAR_HD Value* b(int stage) { return a(stage) + Of::kValuesA; }
  MAFSAR_HD float* out(int part) {
    return reinterpret_cast<float*>(tiles) + part * kTileRows * kOutPitch;
  }
  static_assert(kOutParts * kTileRows * kOutPitch * sizeof(float) <= Form::kStages * kStageBytes,
                "the outputs fit the tiles' place");
};

// Mean and inverse deviation of each row, after the tiles. Only a norm has them.
template <class Form, class Value>
MAFSAR_HD float* statistics_of(ProductShared<Form, Value>& shared) {
  return reinterpret_cast<float*>(&shared + 1);
}

template <class Form, class Value>
Launch launch_of(const ProductJob<Value>& job) {
  const std::size_t statistics =
      job.a.prepare == Prepare::kNorm ? 2 * kTileRows * sizeof(float) : 0;
  return {parts_of(job.columns, Form::kColumns), parts_of(job.rows, kTileRows), kTileThreads,
          sizeof(ProductShared<Form, Value>) + statistics};
}

// --- the forms
// ------------------------------------------------------------------------------------

template <class... Each>
struct FormList {};

template <Along kA, Prepare kPrepareA, Along kB>
using Wide = StreamedForm<kA, kPrepareA, kB, Prepare::kNothing, false>;
template <Along kA, Prepare kPrepareA, Along kB>
using Deep = StreamedForm<kA, kPrepareA, kB, Prepare::kNothing, true>;

// f(x) Wᵀ, grad W, gradᵀ f(x), and whatever else. The first form that fits is taken.
using ProductForms =
    FormList<Wide<Along::kDepth, Prepare::kNothing, Along::kDepth>,
             Deep<Along::kDepth, Prepare::kNothing, Along::kDepth>,
             Wide<Along::kDepth, Prepare::kNorm, Along::kDepth>,
             Deep<Along::kDepth, Prepare::kNorm, Along::kDepth>,
             Wide<Along::kDepth, Prepare::kGelu, Along::kDepth>,
             Deep<Along::kDepth, Prepare::kGelu, Along::kDepth>,
             Wide<Along::kDepth, Prepare::kNothing, Along::kRows>,
             Deep<Along::kDepth, Prepare::kNothing, Along::kRows>,
             Wide<Along::kRows, Prepare::kNothing, Along::kRows>,
             StreamedForm<Along::kRows, Prepare::kNothing, Along::kRows, Prepare::kGelu, false>,
             AnyForm>;

template <class Value>
bool is_whole_vectors(const void* values, int length) {
  return reinterpret_cast<std::uintptr_t>(values) % 16 == 0 &&
         length % (16 / static_cast<int>(sizeof(Value))) == 0;
}

template <class Value>
bool is_whole_vectors(const Operand<Value>& operand, int rows, int depth) {
  const bool along_depth = operand.column == 1;
  const std::int64_t step = along_depth ? operand.row : operand.column;
  return is_whole_vectors<Value>(operand.values, along_depth ? depth : rows) &&
         step % (16 / static_cast<int>(sizeof(Value))) == 0;
}

// True if the operands of the product are laid out and prepared as the form says.
template <class Value>
bool fits(AnyForm, const ProductJob<Value>&) {
  return true;
}

template <Along kA, Prepare kPrepareA, Along kB, Prepare kPrepareB, bool kDeep, class Value>
bool fits(StreamedForm<kA, kPrepareA, kB, kPrepareB, kDeep>, const ProductJob<Value>& job) {
  if ((job.a.column == 1) != (kA == Along::kDepth) || job.a.prepare != kPrepareA) return false;
  if ((job.b.column == 1) != (kB == Along::kDepth) || job.b.prepare != kPrepareB) return false;
  if (!is_whole_vectors(job.a, job.rows, job.depth)) return false;
  if (!is_whole_vectors(job.b, job.columns, job.depth)) return false;
  return kPrepareA != Prepare::kNorm || (is_whole_vectors<Value>(job.norm_weight, job.depth) &&
                                         is_whole_vectors<Value>(job.norm_bias, job.depth));
}

// True if the product should be computed 16 columns at a time. Not gradᵀ x: its depth, the rows of
// a few clips, is hardly a tile.
template <class Value>
bool should_be_deep(const ProductJob<Value>& job) {
  constexpr int kWide = kTileWarps * kWarpRows;
  const std::int64_t blocks = parts_of(job.columns, kWide) * parts_of(job.rows, kTileRows);
  return blocks < kEnoughBlocks && job.a.column == 1;
}

// Calls function(form) with the form of the product.
template <class Value, class Function, class... Each>
void with_form(const ProductJob<Value>& job, const Function& function, FormList<Each...>) {
  bool found = false;
  const bool deep = should_be_deep(job);
  const auto attempt = [&](auto form) {
    if (found || form.kIsDeep != (form.kIsStreamed && deep) || !fits(form, job)) return;
    found = true;
    function(form);
  };
  (attempt(Each{}), ...);
}

template <class Value, class Function>
void with_form(const ProductJob<Value>& job, const Function& function) {
  with_form(job, function, ProductForms{});
}

// --- the body
// -------------------------------------------------------------------------------------

// Two passes, as norm_statistics of csrc/mafsar/rows.h, over all rows of a warp at once: the loads
// of four rows hide each other's latency.
template <class Threads, class Value>
MAFSAR_HD void row_statistics(const Threads& on, const ProductJob<Value>& job, int first_row,
                              float* statistics) {
  constexpr int kEach = kTileRows / kTileWarps;
  constexpr int kVector = 16 / static_cast<int>(sizeof(Value));
  const int lane = on.thread() % kWarp, first = on.thread() / kWarp * kEach;
  const bool aligned =
      job.a.row % kVector == 0 && reinterpret_cast<std::uintptr_t>(job.a.values) % 16 == 0;
  const Value* rows[kEach];
  float mean[kEach], squares[kEach];
  for (int r = 0; r < kEach; ++r) {
    // A row past the last one repeats it; nothing reads its statistics.
    const int row = first_row + first + r;
    rows[r] = job.a.values + (row < job.rows ? row : job.rows - 1) * job.a.row;
    mean[r] = squares[r] = 0.0f;
  }
  const auto each_value = [&](const auto& function) {
    const int whole = aligned ? job.depth / kVector * kVector : 0;
    for (int k = lane * kVector; k < whole; k += kWarp * kVector) {
      for (int r = 0; r < kEach; ++r) {
        alignas(16) Value values[kVector];
        load_vector(rows[r] + k, values);
        for (int e = 0; e < kVector; ++e) function(r, to_float(values[e]));
      }
    }
    for (int k = whole + lane; k < job.depth; k += kWarp) {
      for (int r = 0; r < kEach; ++r) function(r, to_float(rows[r][k]));
    }
  };
  each_value([&](int r, float value) { mean[r] += value; });
  const auto depth = static_cast<float>(job.depth);
  for (int r = 0; r < kEach; ++r) mean[r] = on.sum_warp(mean[r]) / depth;
  each_value([&](int r, float value) {
    squares[r] = lane_fma(value - mean[r], value - mean[r], squares[r]);
  });
  for (int r = 0; r < kEach; ++r) {
    const float inverse = inverse_root(on.sum_warp(squares[r]) / depth + job.eps);
    if (lane != 0) continue;
    statistics[2 * (first + r)] = mean[r];
    statistics[2 * (first + r) + 1] = inverse;
  }
  on.sync();
}

// Adds the tile in `a` and `b` to the warp's outputs and to the sums of A's rows.
template <class Form, class Threads, class Value>
MAFSAR_HD void multiply_tile(const Threads& on, const Value* a, const Value* b,
                             WarpTile<Threads, Value>& outputs) {
  using Of = typename Form::template Of<Value>;
  constexpr Along kA = Form::kAlongA, kB = Form::kAlongB;
  constexpr int kOwnDepth = Form::kIsDeep ? Of::kDepth / kTileWarps : Of::kDepth;
  const int warp = on.thread() / kWarp;
  const int column = Form::kIsDeep ? 0 : warp * kWarpRows;
  const int start = Form::kIsDeep ? warp * kOwnDepth : 0;
#if defined(__CUDA_ARCH__)
#pragma unroll
#endif
  for (int k = 0; k < kOwnDepth; k += kWarpRows) {
    outputs.template multiply_add<kA, kB>(a + place<kA>(0, start + k, Of::kPitchA), Of::kPitchA,
                                          b + place<kB>(column, start + k, Of::kPitchB),
                                          Of::kPitchB);
  }
}

template <class Form, class Threads, class Value>
MAFSAR_HD float sum_of_row(const Threads& on, const Value* a, int depth_left) {
  using Of = typename Form::template Of<Value>;
  float sum = 0.0f;
  for (int k = 0; k < Of::kDepth && k < depth_left; ++k) {
    sum += to_float(a[place<Form::kAlongA>(on.thread(), k, Of::kPitchA)]);
  }
  return sum;
}

template <class Form, class Threads, class Value>
MAFSAR_HD void store_outputs(const Threads& on, const ProductJob<Value>& job, int first_row,
                             int first_column, ProductShared<Form, Value>& shared) {
  using Shared = ProductShared<Form, Value>;
  for (int cell = on.thread(); cell < kTileRows * Form::kColumns; cell += kTileThreads) {
    const int row = cell / Form::kColumns, column = cell % Form::kColumns;
    const int m = first_row + row, n = first_column + column;
    if (m >= job.rows || n >= job.columns) continue;
    const std::int64_t at = static_cast<std::int64_t>(m) * job.columns + n;
    float value = 0.0f;
    for (int part = 0; part < Shared::kOutParts; ++part) {
      value += shared.out(part)[row * Shared::kOutPitch + column];
    }
    if (job.bias) value += to_float(job.bias[n]);
    if (job.hidden) value *= gelu_slope(to_float(job.hidden[at]));
    if (job.skip) value += to_float(job.skip[at]);
    job.out[at] = from_float<Value>(value);
  }
}

template <class Form, class Threads, class Value>
MAFSAR_HD void product_body(const Threads& on, const ProductJob<Value>& job, Form) {
  using Shared = ProductShared<Form, Value>;
  using Of = typename Form::template Of<Value>;
  auto& shared = *static_cast<Shared*>(on.shared());
  float* statistics = statistics_of(shared);
  const int first_row = static_cast<int>(on.block_y()) * kTileRows;
  const int first_column = static_cast<int>(on.block_x()) * Form::kColumns;
  const bool sums_rows = job.sums && on.block_x() == 0 && on.thread() < kTileRows;
  WarpTile<Threads, Value> outputs(on);
  float sum = 0.0f;

  if constexpr (Form::kIsStreamed) {
    constexpr bool kNorm = Form::kPrepareA == Prepare::kNorm;
    const auto start_stage = [&](int tile) {
      const int stage = tile % Form::kStages, start = tile * Of::kDepth;
      if (start < job.depth) {
        start_tile<Form::kAlongB, Form::kColumns, Of::kDepth, Of::kPitchB>(
            on, job.b, first_column, job.columns, start, job.depth, shared.b(stage));
        start_tile<Form::kAlongA, kTileRows, Of::kDepth, Of::kPitchA>(
            on, job.a, first_row, job.rows, start, job.depth, shared.a(stage));
      }
      on.commit();
    };
    for (int tile = 0; tile < Form::kStages - 1; ++tile) start_stage(tile);
    NormVectors<Value> norm{};
    const int own_k = on.thread() % (Of::kDepth / Of::kVector) * Of::kVector;
    if constexpr (kNorm) {
      norm.load(job, own_k);
      row_statistics(on, job, first_row, statistics);
    }
    for (int tile = 0; tile * Of::kDepth < job.depth; ++tile) {
      const int stage = tile % Form::kStages, left = job.depth - tile * Of::kDepth;
      on.template wait<Form::kStages - 2>();
      if constexpr (Form::kPrepareA != Prepare::kNothing) {
        prepare_tile<Form::kAlongA, Form::kPrepareA, kTileRows, Of::kDepth, Of::kPitchA>(
            on, job.rows - first_row, left, statistics, norm, shared.a(stage));
      }
      if constexpr (Form::kPrepareB != Prepare::kNothing) {
        prepare_tile<Form::kAlongB, Form::kPrepareB, Form::kColumns, Of::kDepth, Of::kPitchB>(
            on, job.columns - first_column, left, statistics, norm, shared.b(stage));
      }
      // After this, the tile is whole, and nobody reads the one before it, which is filled next.
      on.sync();
      start_stage(tile + Form::kStages - 1);
      if constexpr (kNorm) norm.load(job, (tile + 1) * Of::kDepth + own_k);
      multiply_tile<Form>(on, shared.a(stage), shared.b(stage), outputs);
      if (sums_rows) sum += sum_of_row<Form>(on, shared.a(stage), left);
    }
    on.sync();
  } else {
    if (job.a.prepare == Prepare::kNorm) row_statistics(on, job, first_row, statistics);
    for (int start = 0; start < job.depth; start += Of::kDepth) {
      load_tile<kTileRows>(on, job, job.a, first_row, job.rows, start, statistics, shared.a(0));
      load_tile<Form::kColumns>(on, job, job.b, first_column, job.columns, start, statistics,
                                shared.b(0));
      on.sync();
      multiply_tile<Form>(on, shared.a(0), shared.b(0), outputs);
      if (sums_rows) sum += sum_of_row<Form>(on, shared.a(0), job.depth - start);
      on.sync();
    }
  }

  const int warp = on.thread() / kWarp;
  outputs.store(Form::kIsDeep ? shared.out(warp) : shared.out(0) + warp * kWarpRows,
                Shared::kOutPitch);
  on.sync();
  if (sums_rows && first_row + on.thread() < job.rows) {
    job.sums[first_row + on.thread()] = from_float<Value>(sum);
  }
  store_outputs(on, job, first_row, first_column, shared);
}

}  // namespace MAFSAR_ISA
}  // namespace mafsar
