// x Wᵀ + b for a few rows of x, where a library's product takes most of its time to arrange W.
//
// Eight rows (one clip) by two of W fill the registers; W streams through once, bound by memory.
// The prefetch halves the time: the next rows of W lie on another page, where the hardware's own
// prefetcher stops (8 × 768 × 2304: 280 µs against 560 without, and 750 in a library's product).
#pragma once

#include "cpu/pack.h"

namespace mafsar {
namespace MAFSAR_ISA {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kLinearRows = 8;
#else
constexpr int kLinearRows = 4;
#endif
constexpr int kLinearColumns = 2;
constexpr int kLinearSums = kLinearRows * kLinearColumns;
static_assert(kLinearSums % kWidth == 0, "the sums fill whole vectors");

// out[i * outputs + n] for columns n of [first, last); x (rows, inputs), weight (outputs, inputs).
inline void linear(const float* x, const float* weight, const float* bias, int rows, int inputs,
                   int outputs, int first, int last, float* out) {
  const std::int64_t step = inputs;
  for (int n = first; n < last; n += kLinearColumns) {
    const float* right[kLinearColumns];
    for (int j = 0; j < kLinearColumns; ++j) {
      right[j] = weight + step * (n + j < last ? n + j : last - 1);
    }
    for (int l = 0; l < rows; l += kLinearRows) {
      const float* left[kLinearRows];
      for (int i = 0; i < kLinearRows; ++i) left[i] = x + step * (l + i < rows ? l + i : rows - 1);
      Pack sum[kLinearSums];
      for (int k = 0; k < kLinearSums; ++k) sum[k] = Pack(0.0f);
      int at = 0;
      for (; at + kWidth <= inputs; at += kWidth) {
        Pack w[kLinearColumns];
        for (int j = 0; j < kLinearColumns; ++j) {
          w[j] = Pack::load(right[j] + at);
          __builtin_prefetch(right[j] + at + kLinearColumns * step);
        }
#pragma GCC unroll 8
        for (int i = 0; i < kLinearRows; ++i) {
          const Pack row = Pack::load(left[i] + at);
          for (int j = 0; j < kLinearColumns; ++j) {
            sum[i * kLinearColumns + j] = lane_fma(row, w[j], sum[i * kLinearColumns + j]);
          }
        }
      }
      for (int i = 0; i < kLinearRows && at < inputs; ++i) {
        const Pack row = Pack::load_part(left[i] + at, inputs - at);
        for (int j = 0; j < kLinearColumns; ++j) {
          const Pack w = Pack::load_part(right[j] + at, inputs - at);
          sum[i * kLinearColumns + j] = lane_fma(row, w, sum[i * kLinearColumns + j]);
        }
      }
      float totals[kLinearSums];
      for (int k = 0; k < kLinearSums; k += kWidth) sums(sum + k).store(totals + k);
      for (int i = 0; i < kLinearRows && l + i < rows; ++i) {
        for (int j = 0; j < kLinearColumns && n + j < last; ++j) {
          out[static_cast<std::int64_t>(l + i) * outputs + n + j] =
              totals[i * kLinearColumns + j] + bias[n + j];
        }
      }
    }
  }
}

}  // namespace MAFSAR_ISA
}  // namespace mafsar
