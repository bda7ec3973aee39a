// The temporal adapter as seen from outside: its sizes and arrays, and what a CPU does of it.
//
// Nothing is checked here: the Python doors have done it. On a CPU all arrays are contiguous
// float32.
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

// What the backward pass reads; sizes as mafsar/kernels/torch_ops/adapter_steps.py has them.
struct AdapterKept {
  void *qkv, *mixed, *attended, *hidden;
};

// Gradients wanted; null where not. Those of the norm's weights are the caller's, and so is that of
// a bias without its weight.
struct AdapterGrads {
  void *c, *qkv_weight, *qkv_bias, *out_weight, *out_bias, *down_weight, *down_bias, *up_weight,
      *up_bias;
};

// Between steps: (rows, hidden), (rows, width) twice, (rows, 3 width), (rows, width) twice.
struct AdapterScratch {
  void *hidden, *attended, *mixed, *qkv, *normed, *norm_inputs;
};

// All of it in one call, the products too: for the rows of a few clips.
void adapter_cpu(const float* c, const AdapterWeights& weights, TokenSizes sizes, int hidden,
                 float eps, const AdapterKept& kept, float* out);
// Goes back `depth` products: 0 the last one only, 4 to the gradient behind the norm and to c.
void adapter_backward_cpu(const float* grad, const float* c, const AdapterWeights& weights,
                          const AdapterKept& kept, TokenSizes sizes, int hidden, float eps,
                          int depth, const AdapterScratch& scratch, const AdapterGrads& grads);

// What stands between the products, where a library does those. normed (rows, width).
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
