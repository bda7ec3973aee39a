// Bidirectional mean Hausdorff distance of one pair of clips, forward and backward.
//
//   value = mean_l min_m d(l, m) + mean_m min_l d(l, m)
//
// One lane holds one pair. At a tie the gradient goes to the first index, as with torch's min(dim).
// The caller provides 2 * columns lanes of scratch memory.
#pragma once

#include "mafsar/lane.h"

namespace mafsar {
namespace MAFSAR_ISA {

template <class Lane, class Distance>
MAFSAR_HD Lane bimhm_forward(int rows, int columns, const Distance& distance, Lane* best) {
  for (int m = 0; m < columns; ++m) best[m] = distance(0, m);
  Lane of_rows(0.0f), of_columns(0.0f);
  for (int l = 0; l < rows; ++l) {
    Lane nearest = distance(l, 0);
    for (int m = 0; m < columns; ++m) {
      const Lane d = distance(l, m);
      nearest = lane_min_or_nan(nearest, d);
      best[m] = lane_min_or_nan(best[m], d);
    }
    of_rows = of_rows + nearest;
  }
  for (int m = 0; m < columns; ++m) of_columns = of_columns + best[m];
  return of_rows * Lane(1.0f / static_cast<float>(rows)) +
         of_columns * Lane(1.0f / static_cast<float>(columns));
}

// Passes d value / d distance times `grad` to `add(l, m, lane)`, cell by cell.
template <class Lane, class Distance, class Add>
MAFSAR_HD void bimhm_backward(int rows, int columns, Lane grad, const Distance& distance,
                              Lane* scratch, const Add& add) {
  const Lane zero(0.0f);
  const Lane half(0.5f);
  const Lane to_row = grad * Lane(1.0f / static_cast<float>(rows));
  const Lane to_column = grad * Lane(1.0f / static_cast<float>(columns));
  Lane* best = scratch;             // smallest distance of each column so far
  Lane* where = scratch + columns;  // the row of that distance
  for (int m = 0; m < columns; ++m) {
    best[m] = distance(0, m);
    where[m] = zero;
  }
  for (int l = 0; l < rows; ++l) {
    Lane nearest = distance(l, 0);
    Lane nearest_column = zero;
    for (int m = 0; m < columns; ++m) {
      const Lane d = distance(l, m);
      nearest_column = lane_if_negative(d - nearest, Lane(static_cast<float>(m)), nearest_column);
      nearest = lane_min(d, nearest);
      where[m] = lane_if_negative(d - best[m], Lane(static_cast<float>(l)), where[m]);
      best[m] = lane_min(d, best[m]);
    }
    for (int m = 0; m < columns; ++m) {
      const Lane off = lane_abs(nearest_column - Lane(static_cast<float>(m))) - half;
      add(l, m, lane_if_negative(off, to_row, zero));
    }
  }
  for (int l = 0; l < rows; ++l) {
    for (int m = 0; m < columns; ++m) {
      const Lane off = lane_abs(where[m] - Lane(static_cast<float>(l))) - half;
      add(l, m, lane_if_negative(off, to_column, zero));
    }
  }
}

}  // namespace MAFSAR_ISA
}  // namespace mafsar
