// Products in tiles: x Wᵀ for more rows than stream_kernels.h is meant for, and the gradient of W.
//
// x is rearranged into panels, one row of x in each element of a vector, and W is read in place,
// one number at a time for all rows. A library rearranges W instead, which is larger: for the 80
// rows of ten clips that takes a third of its time, and it pays off only above a few hundred rows.
// For the other product, grad W, a library rearranges nothing, and ours would not be faster.
#pragma once

#include <type_traits>

#include "cpu/pack.h"

namespace mafsar {
namespace MAFSAR_ISA {

#if defined(__AVX512F__)
constexpr int kTileRows = 8;
#else
constexpr int kTileRows = 4;
#endif
constexpr int kTileVectors = 3;
constexpr int kPanelRows = kTileVectors * kWidth;
static_assert(kTileVectors == 3, "panels have one, two or three vectors");

template <int kValue>
using Constant = std::integral_constant<int, kValue>;

// sum(r, v) += over the depth, A(r, d) times vector v of B's row d; A stands at a[r * a_row +
// d * a_depth]. Eight rows by three vectors fill the registers, and no step waits for another.
// With kPrefetch, the data after A's rows is prefetched for the next tile.
template <int kRows, int kVectors, bool kPrefetch = true>
void add_tile(const float* a, std::int64_t a_row, std::int64_t a_depth, const float* b,
              std::int64_t b_depth, int depth, Pack* sum) {
  const float* next = a + kRows * a_row;
  Pack own[kRows * kVectors];
#pragma GCC unroll 24
  for (int k = 0; k < kRows * kVectors; ++k) own[k] = sum[k];
  for (int d = 0; d < depth; ++d, a += a_depth, b += b_depth, next += kRows) {
    if constexpr (kPrefetch) __builtin_prefetch(next);
    Pack right[kVectors];
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) right[v] = Pack::load(b + v * kWidth);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Pack left(a[r * a_row]);
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) {
        own[r * kVectors + v] = lane_fma(left, right[v], own[r * kVectors + v]);
      }
    }
  }
#pragma GCC unroll 24
  for (int k = 0; k < kRows * kVectors; ++k) sum[k] = own[k];
}

// --- x Wᵀ + b

// The length of a panel's row for this many rows of x, rounded up to whole vectors.
inline int lanes_of(int rows) { return (rows + kWidth - 1) / kWidth * kWidth; }

// Writes at most kPanelRows rows of x (rows, width) as a panel (width, lanes), padded with zeros.
inline void pack_panel(const float* x, int rows, int width, float* panel) {
  const int lanes = lanes_of(rows);
  for (int first = 0; first < rows; first += kWidth) {
    const int count = rows - first < kWidth ? rows - first : kWidth;
    for (int at = 0; at < width; at += kWidth) {
      const int columns = width - at < kWidth ? width - at : kWidth;
      Pack square[kWidth];
      for (int i = 0; i < kWidth; ++i) {
        const float* from = x + static_cast<std::int64_t>(first + i) * width + at;
        square[i] = i >= count          ? Pack(0.0f)
                    : columns == kWidth ? Pack::load(from)
                                        : Pack::load_part(from, columns);
      }
      transpose(square);
      for (int k = 0; k < columns; ++k) {
        square[k].store(panel + static_cast<std::int64_t>(at + k) * lanes + first);
      }
    }
  }
}

// Stores the sums of a tile: kRows numbers of each row of `out`.
template <int kRows, int kVectors>
void store_tile(const Pack* sum, int rows, std::int64_t stride, float* out) {
  for (int v = 0; v < kVectors; ++v) {
    Pack square[kWidth];
    for (int r = 0; r < kWidth; ++r) square[r] = r < kRows ? sum[r * kVectors + v] : Pack(0.0f);
    transpose(square);
    for (int i = 0; i < kWidth && v * kWidth + i < rows; ++i) {
      square[i].store_part(out + (v * kWidth + i) * stride, kRows);
    }
  }
}

// Columns [n, n + kRows) of the rows of one panel.
template <int kRows, int kVectors>
void panel_columns(const float* panel, const float* weight, const float* bias, int rows, int inputs,
                   std::int64_t outputs, int n, float* out) {
  Pack sum[kRows * kVectors];
  for (int k = 0; k < kRows * kVectors; ++k) sum[k] = Pack(bias[n + k / kVectors]);
  add_tile<kRows, kVectors>(weight + n * static_cast<std::int64_t>(inputs), inputs, 1, panel,
                            kVectors * kWidth, inputs, sum);
  store_tile<kRows, kVectors>(sum, rows, outputs, out + n);
}

// Columns [first, last) of out (rows, outputs) from the panels of x, which are contiguous.
inline void linear_of_panels(const float* panels, const float* weight, const float* bias, int rows,
                             int inputs, int outputs, int first, int last, float* out) {
  for (int n = first; n < last;) {
    const bool whole = n + kTileRows <= last;
    for (int l = 0; l < rows; l += kPanelRows) {
      const float* panel = panels + static_cast<std::int64_t>(l) * inputs;
      float* to = out + static_cast<std::int64_t>(l) * outputs;
      const int count = rows - l < kPanelRows ? rows - l : kPanelRows;
      const int vectors = lanes_of(count) / kWidth;
      const auto run = whole          ? vectors == 3   ? panel_columns<kTileRows, 3>
                                        : vectors == 2 ? panel_columns<kTileRows, 2>
                                                       : panel_columns<kTileRows, 1>
                       : vectors == 3 ? panel_columns<1, 3>
                       : vectors == 2 ? panel_columns<1, 2>
                                      : panel_columns<1, 1>;
      run(panel, weight, bias, count, inputs, outputs, n, to);
    }
    n += whole ? kTileRows : 1;
  }
}

// --- gradᵀ x

template <int kRows>
void weight_rows(const float* grad, const float* x, int rows, int inputs, int outputs, int n,
                 float* out) {
  const std::int64_t step = inputs;
  const auto block = [&](auto vectors, int at) {
    constexpr int kVectors = decltype(vectors)::value;
    Pack sum[kRows * kVectors];
    for (Pack& one : sum) one = Pack(0.0f);
    add_tile<kRows, kVectors>(grad + n, 1, outputs, x + at, step, rows, sum);
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) {
        sum[r * kVectors + v].store(out + (n + r) * step + at + v * kWidth);
      }
    }
  };
  int at = 0;
  for (; at + kPanelRows <= inputs; at += kPanelRows) {
    block(Constant<kTileVectors>{}, at);
  }
  for (; at + kWidth <= inputs; at += kWidth) block(Constant<1>{}, at);
  for (; at < inputs; ++at) {
    for (int r = 0; r < kRows; ++r) {
      float sum = 0.0f;
      for (int l = 0; l < rows; ++l) {
        sum += grad[static_cast<std::int64_t>(l) * outputs + n + r] * x[l * step + at];
      }
      out[(n + r) * step + at] = sum;
    }
  }
}

// Rows [first, last) of out (outputs, inputs); grad (rows, outputs), x (rows, inputs). The sums of
// grad's columns go to `sums` unless it is null.
inline void weight_grad(const float* grad, const float* x, int rows, int inputs, int outputs,
                        int first, int last, float* out, float* sums) {
  int n = first;
  for (; n + kTileRows <= last; n += kTileRows) {
    weight_rows<kTileRows>(grad, x, rows, inputs, outputs, n, out);
  }
  for (; n < last; ++n) weight_rows<1>(grad, x, rows, inputs, outputs, n, out);
  if (!sums) return;
  for (n = first; n < last; ++n) sums[n] = 0.0f;
  for (int l = 0; l < rows; ++l) {
    const float* row = grad + static_cast<std::int64_t>(l) * outputs;
    for (n = first; n < last; ++n) sums[n] += row[n];
  }
}

}  // namespace MAFSAR_ISA
}  // namespace mafsar
