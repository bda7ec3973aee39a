// Alignment of pairs whose distances are in shared memory: one thread per pair.
//
// Pitches are odd, so that the threads of a warp, each on its own pair, use different banks.
// Forward, the two directions of a square pair run side by side in one thread; backward, one after
// the other, so that they share one table of weights (8 × 8: 145 floats per pair).
#pragma once

#include "device/rows.h"
#include "mafsar/alignment.h"
#include "mafsar/bimhm.h"
#include "mafsar/otam.h"

namespace mafsar {

namespace MAFSAR_ISA {

MAFSAR_HD int odd(int count) { return count | 1; }
MAFSAR_HD int larger_of(int a, int b) { return a > b ? a : b; }
MAFSAR_HD int smaller_of(int a, int b) { return a < b ? a : b; }

// Floats that one pair of at most rows × columns frames needs.
struct PairPitch {
  int cells, row, table;

  static MAFSAR_HD PairPitch of(int rows, int columns) {
    const int side = larger_of(rows, columns);
    const int steps = larger_of(rows * (columns + 1), columns * (rows + 1));
    return {odd(rows * columns), 2 * odd(side), odd(2 * steps)};
  }
};

// Cell (l, m) of a pair, or (m, l) if the steps are swapped.
struct ReadCell {
  const float* cells;
  int row_step, column_step;
  MAFSAR_HD float operator()(int l, int m) const { return cells[l * row_step + m * column_step]; }
};

struct ReadBothWays {
  ReadCell there, back;
  MAFSAR_HD Both<float> operator()(int l, int m) const { return {there(l, m), back(l, m)}; }
};

struct AddCell {
  float* cells;
  int row_step, column_step;
  MAFSAR_HD void operator()(int l, int m, float value) const {
    cells[l * row_step + m * column_step] += value;
  }
};

// Cost of a pair of rows × columns frames, stored with `stride` cells per row.
MAFSAR_HD float align_pair(const Alignment& how, int rows, int columns, int stride,
                           const float* cells, float* row) {
  const ReadCell there{cells, stride, 1}, back{cells, 1, stride};
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
    const Both<float> cost = otam_forward(rows, columns, with, ReadBothWays{there, back},
                                          reinterpret_cast<Both<float>*>(row), nothing);
    return cost.there + cost.back;
  }
  const float cost = otam_forward(rows, columns, with, there, row, nothing);
  return cost + otam_forward(columns, rows, with, back, row, nothing);
}

// Adds grad * d cost / d distance to `gradients`, which have the layout of `cells`.
MAFSAR_HD void align_pair_backward(const Alignment& how, int rows, int columns, int stride,
                                   float grad, const float* cells, float* row, float* table,
                                   float* gradients) {
  const ReadCell there{cells, stride, 1}, back{cells, 1, stride};
  const AddCell add_there{gradients, stride, 1}, add_back{gradients, 1, stride};
  switch (how.metric) {
    case Metric::kBimhm:
      bimhm_backward(rows, columns, grad, there, row, add_there);
      return;
    case Metric::kOtam:
      break;
  }
  const SoftMinimum with = make_soft_minimum(how.lam);
  otam_forward(rows, columns, with, there, row, KeepWeights<float>{table, columns});
  otam_backward(rows, columns, grad, table, row, add_there);
  if (!how.bidirectional) return;
  otam_forward(columns, rows, with, back, row, KeepWeights<float>{table, rows});
  otam_backward(columns, rows, grad, table, row, add_back);
}

// Lengths on the device cannot be checked on the host, so they are clamped to 1 … frames.
MAFSAR_HD int own_frames(const std::int64_t* lengths, std::int64_t at, int frames) {
  if (!lengths) return frames;
  const std::int64_t length = lengths[at];
  return length < 1 ? 1 : length > frames ? frames : static_cast<int>(length);
}

// --- pairs whose distances are given
// --------------------------------------------------------------

constexpr int kAlignThreads = 64;
constexpr int kAlignFloats =
    11 * 1024;  // target shared memory of a block: four blocks per multiprocessor on most chips

struct AlignJob {
  const float* distances;       // (pairs, rows, columns)
  const std::int64_t* lengths;  // (pairs, 2) or null
  const float* grad;            // (pairs), backward only
  float* out;                   // (pairs); backward with the shape of `distances`
  std::int64_t pairs;
  int rows, columns;
  Alignment how;
};

MAFSAR_HD int floats_of_pair(const PairPitch& pitch, bool backward) {
  return pitch.cells + pitch.row + (backward ? pitch.cells + pitch.table : 0);
}

MAFSAR_HD int pairs_in_block(const AlignJob& job, bool backward) {
  const int each = floats_of_pair(PairPitch::of(job.rows, job.columns), backward);
  return smaller_of(larger_of(kAlignFloats / each, 1), kAlignThreads);
}

inline Launch launch_of(const AlignJob& job, bool backward) {
  const int pairs = pairs_in_block(job, backward);
  const int each = floats_of_pair(PairPitch::of(job.rows, job.columns), backward);
  return {parts_of(job.pairs, pairs), 1, kAlignThreads,
          sizeof(float) * static_cast<std::size_t>(pairs) * static_cast<std::size_t>(each)};
}

template <bool kBackward, class Threads>
MAFSAR_HD void align_body(const Threads& on, const AlignJob& job) {
  const PairPitch pitch = PairPitch::of(job.rows, job.columns);
  const int most = pairs_in_block(job, kBackward);
  const std::int64_t first = on.block_x() * most;
  const int pairs = job.pairs - first < most ? static_cast<int>(job.pairs - first) : most;
  const int stored = job.rows * job.columns;
  float* rows = static_cast<float*>(on.shared());  // pairs of floats: needs even places
  float* cells = rows + most * pitch.row;
  float* gradients = cells + most * pitch.cells;
  float* tables = gradients + most * pitch.cells;

  const float* from = job.distances + first * stored;
  for (int i = on.thread(); i < pairs * stored; i += kAlignThreads) {
    const int pair = i / stored;
    cells[pair * pitch.cells + i - pair * stored] = from[i];
    if (kBackward) gradients[pair * pitch.cells + i - pair * stored] = 0.0f;
  }
  on.sync();
  const int pair = on.thread();
  if (pair < pairs) {
    const std::int64_t at = first + pair;
    const int own_rows = own_frames(job.lengths, 2 * at, job.rows);
    const int own_columns = own_frames(job.lengths, 2 * at + 1, job.columns);
    if (kBackward) {
      align_pair_backward(job.how, own_rows, own_columns, job.columns, job.grad[at],
                          cells + pair * pitch.cells, rows + pair * pitch.row,
                          tables + pair * pitch.table, gradients + pair * pitch.cells);
    } else {
      job.out[at] = align_pair(job.how, own_rows, own_columns, job.columns,
                               cells + pair * pitch.cells, rows + pair * pitch.row);
    }
  }
  if (!kBackward) return;
  on.sync();
  float* to = job.out + first * stored;
  for (int i = on.thread(); i < pairs * stored; i += kAlignThreads) {
    const int of = i / stored;
    to[i] = gradients[of * pitch.cells + i - of * stored];
  }
}

}  // namespace MAFSAR_ISA
}  // namespace mafsar
