// The steps of the temporal adapter between its matrix products: layer norm of a row, and attention
// of one head over the frames of a clip; forward and backward.
//
// A "team" works on one row or one head together. It is a vector register on a CPU (`PackTeam`,
// csrc/cpu/rows_kernels.h) and a warp on a GPU (`WarpTeam`, csrc/device/team.h), and offers
//
//   Lane                         one number for each member
//   each_chunk(width, f)         f(at) for every chunk of the `width` columns of a row
//   load(from, at, width)        columns from `at`, as float; 0 past the width
//   store(lane, to, at, width)   writes these columns; nothing past the width
//   keep(lane, at, width)        the lane, 0 past the width
//   sum(lane)                    over all members and elements; every member receives it
//   each(count, f)               f(i) for every i < count, each by one member
//   dots(rows, row_stride, matrix, stride, count, width, scale, out)   products of each of `count`
//                                rows with each of as many others
//   sync()                       members see each other's scratch memory
#pragma once

#include "mafsar/gelu.h"

namespace mafsar {
namespace MAFSAR_ISA {

MAFSAR_HD float inverse_root(float x) {
#if defined(__CUDA_ARCH__)
  return 1.0f / sqrtf(x);
#else
  return 1.0f / __builtin_sqrtf(x);
#endif
}

struct NormStatistics {
  float mean, inverse_deviation;
};

// Two passes, so that the mean is subtracted before squaring.
template <class Team, class Value>
MAFSAR_HD NormStatistics norm_statistics(const Team& team, const Value* x, int width, float eps) {
  using Lane = typename Team::Lane;
  Lane total(0.0f), squares(0.0f);
  team.each_chunk(width, [&](int at) { total = total + team.load(x, at, width); });
  const float mean = team.sum(total) / static_cast<float>(width);
  team.each_chunk(width, [&](int at) {
    const Lane off = team.keep(team.load(x, at, width) - Lane(mean), at, width);
    squares = lane_fma(off, off, squares);
  });
  return {mean, inverse_root(team.sum(squares) / static_cast<float>(width) + eps)};
}

// out = (x - mean) * inverse_deviation * weight + bias
template <class Team, class Value>
MAFSAR_HD void norm_row(const Team& team, const Value* x, const Value* weight, const Value* bias,
                        int width, float eps, Value* out) {
  using Lane = typename Team::Lane;
  const NormStatistics with = norm_statistics(team, x, width, eps);
  team.each_chunk(width, [&](int at) {
    const Lane unit = (team.load(x, at, width) - Lane(with.mean)) * Lane(with.inverse_deviation);
    team.store(lane_fma(unit, team.load(weight, at, width), team.load(bias, at, width)), out, at,
               width);
  });
}

// out = skip + d norm / d x, with g = grad * weight and u the normalised row:
//   d x = inverse_deviation * (g - mean(g) - u * mean(g * u))
// The statistics are computed again: the row is read anyway, and nothing has to be kept.
template <class Team, class Value>
MAFSAR_HD void norm_row_backward(const Team& team, const Value* grad, const Value* skip,
                                 const Value* x, const Value* weight, int width, float eps,
                                 Value* out) {
  using Lane = typename Team::Lane;
  const NormStatistics with = norm_statistics(team, x, width, eps);
  Lane plain(0.0f), along(0.0f);
  team.each_chunk(width, [&](int at) {
    const Lane g = team.load(grad, at, width) * team.load(weight, at, width);
    const Lane unit = (team.load(x, at, width) - Lane(with.mean)) * Lane(with.inverse_deviation);
    plain = plain + g;
    along = lane_fma(g, unit, along);
  });
  const float mean = team.sum(plain) / static_cast<float>(width);
  const float mean_along = team.sum(along) / static_cast<float>(width);
  team.each_chunk(width, [&](int at) {
    const Lane g = team.load(grad, at, width) * team.load(weight, at, width);
    const Lane unit = (team.load(x, at, width) - Lane(with.mean)) * Lane(with.inverse_deviation);
    const Lane slope = (g - Lane(mean) - unit * Lane(mean_along)) * Lane(with.inverse_deviation);
    team.store(team.load(skip, at, width) + slope, out, at, width);
  });
}

// One head of one clip: q, k and v are next to each other in rows of `stride` numbers.
template <class Value>
struct Head {
  const Value *q, *k, *v;
  std::int64_t stride;
  int frames, width;
  float scale;  // 1 / sqrt(width)
};

// weights (frames, frames) = softmax over keys of scale * q . k, in scratch memory.
template <class Team, class Value>
MAFSAR_HD void attention_weights(const Team& team, const Head<Value>& head, float* weights) {
  const int frames = head.frames;
  team.dots(head.q, head.stride, head.k, head.stride, frames, head.width, head.scale, weights);
  team.sync();
  team.each(frames, [&](int i) {
    float* row = weights + i * frames;
    float largest = row[0];
    for (int j = 1; j < frames; ++j) largest = row[j] > largest ? row[j] : largest;
    float total = 0.0f;
    for (int j = 0; j < frames; ++j) {
      row[j] = exp_negative(largest - row[j]);
      total += row[j];
    }
    const float share = 1.0f / total;
    for (int j = 0; j < frames; ++j) row[j] *= share;
  });
  team.sync();
}

// to[i] = sum_j factors[i * row_step + j * column_step] * from[j], rows of `head.width` numbers.
template <class Team, class Value>
MAFSAR_HD void mix_rows(const Team& team, const Head<Value>& head, const float* factors,
                        int row_step, int column_step, const Value* from, std::int64_t from_stride,
                        Value* to, std::int64_t to_stride) {
  using Lane = typename Team::Lane;
  team.each_chunk(head.width, [&](int at) {
    for (int i = 0; i < head.frames; ++i) {
      Lane sum(0.0f);
      for (int j = 0; j < head.frames; ++j) {
        sum = lane_fma(Lane(factors[i * row_step + j * column_step]),
                       team.load(from + j * from_stride, at, head.width), sum);
      }
      team.store(sum, to + i * to_stride, at, head.width);
    }
  });
}

// out (frames, out_stride) = weights . v; scratch of frames * frames floats.
template <class Team, class Value>
MAFSAR_HD void attend(const Team& team, const Head<Value>& head, float* weights, Value* out,
                      std::int64_t out_stride) {
  attention_weights(team, head, weights);
  mix_rows(team, head, weights, head.frames, 1, head.v, head.stride, out, out_stride);
}

// Gradients of q, k and v, in the same layout; scratch of 2 * frames * frames floats.
//   dP = grad . vT,  dS = P * (dP - rowsum(P * dP)) * scale,  dq = dS . k,  dk = dST . q,  dv = PT
//   . grad
template <class Team, class Value>
MAFSAR_HD void attend_backward(const Team& team, const Head<Value>& head, const Value* grad,
                               std::int64_t grad_stride, float* scratch, Value* grad_q,
                               Value* grad_k, Value* grad_v) {
  const int frames = head.frames;
  float* weights = scratch;
  float* slopes = scratch + frames * frames;
  attention_weights(team, head, weights);
  mix_rows(team, head, weights, 1, frames, grad, grad_stride, grad_v, head.stride);
  team.dots(grad, grad_stride, head.v, head.stride, frames, head.width, 1.0f, slopes);
  team.sync();
  team.each(frames, [&](int i) {
    float* row = slopes + i * frames;
    const float* weight = weights + i * frames;
    float along = 0.0f;
    for (int j = 0; j < frames; ++j) along += weight[j] * row[j];
    for (int j = 0; j < frames; ++j) row[j] = weight[j] * (row[j] - along) * head.scale;
  });
  team.sync();
  mix_rows(team, head, slopes, frames, 1, head.k, head.stride, grad_q, head.stride);
  mix_rows(team, head, slopes, 1, frames, head.q, head.stride, grad_k, head.stride);
}

}  // namespace MAFSAR_ISA
}  // namespace mafsar
