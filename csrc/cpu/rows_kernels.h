// A vector register as a team for csrc/mafsar/rows.h, and the row kernels built on it.
#pragma once

#include "cpu/kernels.h"
#include "cpu/pack.h"
#include "cpu/stream_kernels.h"
#include "cpu/tile_kernels.h"
#include "mafsar/rows.h"

namespace mafsar {
namespace MAFSAR_ISA {

inline Pack lane_over(Pack a, Pack b) { return a.v / b.v; }

struct PackTeam {
  using Lane = Pack;

  template <class Function>
  void each_chunk(int width, const Function& function) const {
    for (int at = 0; at < width; at += kWidth) function(at);
  }
  Pack load(const float* from, int at, int width) const {
    return at + kWidth <= width ? Pack::load(from + at) : Pack::load_part(from + at, width - at);
  }
  void store(Pack lane, float* to, int at, int width) const {
    if (at + kWidth <= width) {
      lane.store(to + at);
    } else {
      lane.store_part(to + at, width - at);
    }
  }
  Pack keep(Pack lane, int at, int width) const {
    if (at + kWidth <= width) return lane;
    float all[kWidth];
    lane.store(all);
    return Pack::load_part(all, width - at);
  }
  float sum(Pack lane) const {
    float all[kWidth];
    lane.store(all);
    float total = 0.0f;
    for (int i = 0; i < kWidth; ++i) total += all[i];
    return total;
  }
  template <class Function>
  void each(int count, const Function& function) const {
    for (int i = 0; i < count; ++i) function(i);
  }
  void dots(const float* rows, std::int64_t row_stride, const float* matrix, std::int64_t stride,
            int count, int width, float scale, float* out) const {
    for (int i = 0; i < count; ++i) {
      dots_of_row(rows + i * row_stride, matrix, count, stride, width, scale, out + i * count);
    }
  }
  void dots_of_row(const float* row, const float* matrix, int count, std::int64_t stride, int width,
                   float scale, float* out) const {
    for (int first = 0; first < count; first += kWidth) {
      const int block = count - first < kWidth ? count - first : kWidth;
      Pack partial[kWidth];
      for (int j = 0; j < block; ++j) {
        const float* other = matrix + (first + j) * stride;
        Pack sum(0.0f);
        each_chunk(width, [&](int at) {
          sum = lane_fma(load(row, at, width), load(other, at, width), sum);
        });
        partial[j] = sum;
      }
      for (int j = block; j < kWidth; ++j) partial[j] = Pack(0.0f);
      store(sums(partial) * Pack(scale), out, first, count);
    }
  }
  void sync() const {}
};

inline void norm_rows(const float* x, const float* weight, const float* bias, std::int64_t rows,
                      int width, float eps, float* normed) {
  for (std::int64_t i = 0; i < rows; ++i) {
    norm_row(PackTeam{}, x + i * width, weight, bias, width, eps, normed + i * width);
  }
}

inline void norm_rows_backward(const float* grad, const float* skip, const float* x,
                               const float* weight, std::int64_t rows, int width, float eps,
                               float* out) {
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int64_t row = i * width;
    norm_row_backward(PackTeam{}, grad + row, skip + row, x + row, weight, width, eps, out + row);
  }
}

inline Head<float> head_of(const float* qkv, int frames, int heads, int width, int head) {
  const int own = width / heads;
  const float* q = qkv + head * own;
  return {q,
          q + width,
          q + 2 * width,
          3 * static_cast<std::int64_t>(width),
          frames,
          own,
          inverse_root(static_cast<float>(own))};
}

inline void attend_head(const float* qkv, int frames, int heads, int width, int head,
                        float* scratch, float* mixed) {
  const Head<float> of = head_of(qkv, frames, heads, width, head);
  attend(PackTeam{}, of, scratch, mixed + head * of.width, width);
}

inline void attend_head_backward(const float* grad, const float* qkv, int frames, int heads,
                                 int width, int head, float* scratch, float* grad_qkv) {
  const Head<float> of = head_of(qkv, frames, heads, width, head);
  float* grad_q = grad_qkv + head * of.width;
  attend_backward(PackTeam{}, of, grad + head * of.width, width, scratch, grad_q, grad_q + width,
                  grad_q + 2 * width);
}

inline void gelu_values(const float* x, std::int64_t count, float* out) {
  const PackTeam team;
  for (std::int64_t at = 0; at < count; at += kWidth) {
    const int left = count - at < kWidth ? static_cast<int>(count - at) : kWidth;
    team.store(gelu(team.load(x + at, 0, left)), out + at, 0, left);
  }
}

inline void gelu_values_backward(const float* grad, const float* x, std::int64_t count,
                                 float* grad_x) {
  const PackTeam team;
  for (std::int64_t at = 0; at < count; at += kWidth) {
    const int left = count - at < kWidth ? static_cast<int>(count - at) : kWidth;
    const Pack slope = gelu_slope(team.load(x + at, 0, left));
    team.store(team.load(grad + at, 0, left) * slope, grad_x + at, 0, left);
  }
}

inline RowKernels make_row_kernels() {
  return {norm_rows,   norm_rows_backward,   attend_head,      attend_head_backward,
          gelu_values, gelu_values_backward, linear_of_few,    grad_of_few,
          kPanelRows,  pack_panel,           linear_of_panels, weight_grad};
}

}  // namespace MAFSAR_ISA
}  // namespace mafsar
