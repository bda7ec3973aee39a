// OTAM of one pair of clips in one direction (Cao et al. 2020), forward and backward.
//
// d(l, m) is the distance of frame l of one clip to frame m of the other, with an imaginary column
// of zeros on each side; C is the cost of the best soft alignment that ends in a cell:
//
//   row 0           C[0, m] = d(0, m) + C[0, m-1]                          a plain sum
//   first column    C[l, 0] = d(l, 0) + softmin(0, 0, C[l-1, 0])           both zeros are padding
//   other columns   C[l, m] = d(l, m) + softmin(C[l-1, m-1], C[l, m-1])
//   padding column  P[l]    = softmin(C[l-1, last], P[l-1], C[l, last]),   P[0] = C[0, last]
//
// The cost is P[rows - 1]. The distances of the padding column are 0, so P is one soft minimum over
// the last column in which every row but the last counts twice. It is computed that way here, so
// that every step is a soft minimum of two.
//
// One lane holds one pair; nothing is shared between lanes. The caller provides scratch memory: a
// row of `columns` lanes, and for the backward pass a table of 2 * rows * (columns + 1) lanes.
#pragma once

#include "mafsar/soft_minimum.h"

namespace mafsar {
namespace MAFSAR_ISA {

// For a forward pass without a backward pass: the weights are not computed.
struct KeepNothing {
  template <class Lane>
  MAFSAR_HD void operator()(int, int, const SoftMinimumStep<Lane>&) const {}
};

// Keeps the two weights of every step; column `columns` holds those of the padding column.
template <class Lane>
struct KeepWeights {
  Lane* table;
  int columns;
  MAFSAR_HD void operator()(int l, int m, const SoftMinimumStep<Lane>& step) const {
    Lane* cell = table + 2 * (static_cast<std::int64_t>(l) * (columns + 1) + m);
    soft_minimum_weights(step, cell, cell + 1);
  }
};

// Cost of one pair; `distance(l, m)` reads a lane, `row` is scratch.
template <class Lane, class Distance, class Keep>
MAFSAR_HD Lane otam_forward(int rows, int columns, SoftMinimum with, const Distance& distance,
                            Lane* row, const Keep& keep) {
  Lane sum(0.0f);
  for (int m = 0; m < columns; ++m) {
    sum = sum + distance(0, m);
    row[m] = sum;
  }
  Lane folded = sum;
  const Lane zero(0.0f);
  for (int l = 1; l < rows; ++l) {
    Lane diagonal = row[0];
    SoftMinimumStep<Lane> step = soft_minimum<true>(zero, diagonal, distance(l, 0), with);
    keep(l, 0, step);
    Lane left = step.value;
    row[0] = left;
    for (int m = 1; m < columns; ++m) {
      const Lane above = row[m];
      step = soft_minimum<false>(diagonal, left, distance(l, m), with);
      keep(l, m, step);
      left = step.value;
      row[m] = left;
      diagonal = above;
    }
    step = l + 1 < rows ? soft_minimum<false>(folded, left, zero, with)
                        : soft_minimum<true>(folded, left, zero, with);
    keep(l, columns, step);
    folded = step.value;
  }
  return folded;
}

// Passes d cost / d distance times `grad` to `add(l, m, lane)`, cell by cell, from the kept
// weights.
template <class Lane, class Add>
MAFSAR_HD void otam_backward(int rows, int columns, Lane grad, const Lane* table, Lane* row,
                             const Add& add) {
  Lane folded = grad;
  for (int m = 0; m < columns; ++m) row[m] = Lane(0.0f);
  for (int l = rows - 1; l > 0; --l) {
    const Lane* weights = table + 2 * static_cast<std::int64_t>(l) * (columns + 1);
    Lane flow = lane_fma(folded, weights[2 * columns + 1], row[columns - 1]);
    folded = folded * weights[2 * columns];
    row[columns - 1] = Lane(0.0f);
    for (int m = columns - 1; m > 0; --m) {
      add(l, m, flow);
      const Lane from_below = row[m - 1];
      row[m - 1] = flow * weights[2 * m];
      flow = lane_fma(flow, weights[2 * m + 1], from_below);
    }
    add(l, 0, flow);
    row[0] = lane_fma(flow, weights[1], row[0]);
  }
  Lane flow = folded;
  for (int m = columns - 1; m >= 0; --m) {
    flow = flow + row[m];
    add(0, m, flow);
  }
}

}  // namespace MAFSAR_ISA
}  // namespace mafsar
