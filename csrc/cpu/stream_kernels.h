// Products with W for the few rows of one clip, for which a library would spend most of its time
// rearranging W.
//
// W is read once, and memory is the limit: x Wᵀ takes two rows of W at a time, grad W three. Both
// prefetch the next rows, because the hardware's prefetcher stops at the end of a page. That halves
// the time (8 × 768 × 2304 on one thread: 280 µs against 560, and 900 in a library).
#pragma once

#include <algorithm>

#include "cpu/pack.h"

namespace mafsar {
namespace MAFSAR_ISA {

// --- x Wᵀ + b for few rows

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kDotRows = 8;
#else
constexpr int kDotRows = 4;
#endif
constexpr int kDotColumns = 2;
constexpr int kDots = kDotRows * kDotColumns;
static_assert(kDots % kWidth == 0, "the sums fill whole vectors");

// Columns [first, last) of out (rows, outputs); x (rows, inputs), weight (outputs, inputs).
inline void linear_of_few(const float* x, const float* weight, const float* bias, int rows,
                          int inputs, int outputs, int first, int last, float* out) {
  const std::int64_t step = inputs;
  for (int n = first; n < last; n += kDotColumns) {
    const float* right[kDotColumns];
    for (int j = 0; j < kDotColumns; ++j) {
      right[j] = weight + step * (n + j < last ? n + j : last - 1);
    }
    for (int l = 0; l < rows; l += kDotRows) {
      const float* left[kDotRows];
      for (int i = 0; i < kDotRows; ++i) left[i] = x + step * (l + i < rows ? l + i : rows - 1);
      Pack sum[kDots];
      for (int k = 0; k < kDots; ++k) sum[k] = Pack(0.0f);
      int at = 0;
      for (; at + kWidth <= inputs; at += kWidth) {
        Pack w[kDotColumns];
        for (int j = 0; j < kDotColumns; ++j) {
          w[j] = Pack::load(right[j] + at);
          __builtin_prefetch(right[j] + at + kDotColumns * step);
        }
#pragma GCC unroll 8
        for (int i = 0; i < kDotRows; ++i) {
          const Pack row = Pack::load(left[i] + at);
          for (int j = 0; j < kDotColumns; ++j) {
            sum[i * kDotColumns + j] = lane_fma(row, w[j], sum[i * kDotColumns + j]);
          }
        }
      }
      for (int i = 0; i < kDotRows && at < inputs; ++i) {
        const Pack row = Pack::load_part(left[i] + at, inputs - at);
        for (int j = 0; j < kDotColumns; ++j) {
          const Pack w = Pack::load_part(right[j] + at, inputs - at);
          sum[i * kDotColumns + j] = lane_fma(row, w, sum[i * kDotColumns + j]);
        }
      }
      float totals[kDots];
      for (int k = 0; k < kDots; k += kWidth) sums(sum + k).store(totals + k);
      for (int i = 0; i < kDotRows && l + i < rows; ++i) {
        for (int j = 0; j < kDotColumns && n + j < last; ++j) {
          out[static_cast<std::int64_t>(l + i) * outputs + n + j] =
              totals[i * kDotColumns + j] + bias[n + j];
        }
      }
    }
  }
}

// --- grad W for few rows

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kGradRows = 8;
#else
constexpr int kGradRows = 4;
#endif
constexpr int kGradDepth = 3;
constexpr int kGradColumns = 1024;  // columns whose sums stay in the nearest cache

// Adds kDepth rows of W, each times its factor of a row of grad, to the sums of `columns` columns.
template <int kDepth>
void add_rows(const float* grad, int rows, int outputs, const float* weight, int inputs,
              int columns, float* sum) {
  const std::int64_t step = inputs;
  Pack factor[kGradRows * kDepth];
#pragma GCC unroll 8
  for (int i = 0; i < kGradRows; ++i) {
#pragma GCC unroll 3
    for (int j = 0; j < kDepth; ++j) {
      const float own = i < rows ? grad[static_cast<std::int64_t>(i) * outputs + j] : 0.0f;
      factor[i * kDepth + j] = Pack(own);
    }
  }
  for (int at = 0; at < columns; at += kWidth) {
    const bool whole = at + kWidth <= columns;
    Pack w[kDepth];
#pragma GCC unroll 3
    for (int j = 0; j < kDepth; ++j) {
      const float* from = weight + j * step + at;
      w[j] = whole ? Pack::load(from) : Pack::load_part(from, columns - at);
      __builtin_prefetch(from + kDepth * step);
    }
#pragma GCC unroll 8
    for (int i = 0; i < kGradRows; ++i) {
      float* to = sum + i * kGradColumns + at;
      // Summed separately first, so that only a third of the roundings happen at the total's size.
      Pack part = factor[i * kDepth] * w[0];
#pragma GCC unroll 3
      for (int j = 1; j < kDepth; ++j) part = lane_fma(factor[i * kDepth + j], w[j], part);
      (Pack::load(to) + part).store(to);
    }
  }
}

// Columns [first, last) of out (rows, inputs); grad (rows, outputs), weight (outputs, inputs).
inline void grad_of_few(const float* grad, const float* weight, int rows, int inputs, int outputs,
                        int first, int last, float* out) {
  alignas(64) float sum[kGradRows * kGradColumns];
  for (int begin = first; begin < last; begin += kGradColumns) {
    const int columns = last - begin < kGradColumns ? last - begin : kGradColumns;
    for (int l = 0; l < rows; l += kGradRows) {
      const int count = rows - l < kGradRows ? rows - l : kGradRows;
      const float* own = grad + static_cast<std::int64_t>(l) * outputs;
      for (int i = 0; i < kGradRows; ++i) {
        std::fill_n(sum + i * kGradColumns, (columns + kWidth - 1) / kWidth * kWidth, 0.0f);
      }
      int n = 0;
      for (; n + kGradDepth <= outputs; n += kGradDepth) {
        add_rows<kGradDepth>(own + n, count, outputs,
                             weight + static_cast<std::int64_t>(n) * inputs + begin, inputs,
                             columns, sum);
      }
      for (; n < outputs; ++n) {
        add_rows<1>(own + n, count, outputs, weight + static_cast<std::int64_t>(n) * inputs + begin,
                    inputs, columns, sum);
      }
      for (int i = 0; i < count; ++i) {
        std::memcpy(out + static_cast<std::int64_t>(l + i) * inputs + begin, sum + i * kGradColumns,
                    sizeof(float) * static_cast<std::size_t>(columns));
      }
    }
  }
}

}  // namespace MAFSAR_ISA
}  // namespace mafsar
