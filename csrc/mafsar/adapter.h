// The temporal adapter: its sizes and arrays, and its launchers on a CPU.
//
// The arguments are not checked here; mafsar.kernels checks them in Python. On a CPU all arrays are
// contiguous float32.
#pragma once

#include <cstdint>

namespace mafsar {

// Rows are frames of clips: rows = clips * frames.
struct TokenSizes {
  std::int64_t clips;
  int frames, heads, width;
};

struct AdapterWeights {
  const void *norm_weight, *norm_bias, *qkv_weight, *qkv_bias, *out_weight, *out_bias, *down_weight,
      *down_bias, *up_weight, *up_bias;
};

// Kept from the forward pass for the backward pass; sizes as in
// mafsar/kernels/torch_ops/adapter_steps.py.
struct AdapterKept {
  void *qkv, *mixed, *attended, *hidden;
};

// The gradients to compute; null if not wanted. The caller computes those of the norm's weights,
// and the gradient of a bias whose weight needs none.
struct AdapterGrads {
  void *c, *qkv_weight, *qkv_bias, *out_weight, *out_bias, *down_weight, *down_bias, *up_weight,
      *up_bias;
};

// Scratch between steps: (rows, hidden), (rows, width) twice, (rows, 3 width), (rows, width) twice.
struct AdapterScratch {
  void *hidden, *attended, *mixed, *qkv, *normed, *norm_inputs;
};

// All steps in one call, matrix products included: for the rows of a few clips.
void adapter_cpu(const float* c, const AdapterWeights& weights, TokenSizes sizes, int hidden,
                 float eps, const AdapterKept& kept, float* out);
// `depth` is the number of matrix products to go back through: 0 stops at the last product, 4 goes
// all the way to the gradient of c.
void adapter_backward_cpu(const float* grad, const float* c, const AdapterWeights& weights,
                          const AdapterKept& kept, TokenSizes sizes, int hidden, float eps,
                          int depth, const AdapterScratch& scratch, const AdapterGrads& grads);

// The steps between the products, for callers that use a library's products. normed (rows, width).
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

}  // namespace mafsar
