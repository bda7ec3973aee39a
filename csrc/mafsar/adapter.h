// What the temporal adapter does between its products on a CPU, as seen from outside.
//
// Nothing is checked here: the Python door has done it. All arrays are contiguous float32. The
// matrix products of many rows are not here: a library does them.
#pragma once

#include <cstdint>

namespace mafsar {

// Rows are frames of clips: rows = clips * frames.
struct TokenSizes {
  std::int64_t clips;
  int frames, heads, width;
};

// normed (rows, width).
void norm_rows_cpu(const float* x, const float* weight, const float* bias, TokenSizes sizes,
                   float eps, float* normed);
// out = skip + the gradient of x.
void norm_rows_backward_cpu(const float* grad, const float* skip, const float* x,
                            const float* weight, TokenSizes sizes, float eps, float* out);
// qkv (rows, 3 * width) -> mixed (rows, width): every head attends over the frames of its clip.
void attend_cpu(const float* qkv, TokenSizes sizes, float* mixed);
void attend_backward_cpu(const float* grad, const float* qkv, TokenSizes sizes, float* grad_qkv);
void gelu_cpu(const float* x, std::int64_t count, float* out);
// grad_x = grad * gelu'(x); `grad_x` may be `grad`.
void gelu_backward_cpu(const float* grad, const float* x, std::int64_t count, float* grad_x);
// out (rows, outputs) = x (rows, inputs) Wᵀ + b, for a few rows.
void linear_cpu(const float* x, const float* weight, const float* bias, int rows, int inputs,
                int outputs, float* out);

}  // namespace mafsar
