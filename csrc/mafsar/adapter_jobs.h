// The kernels that the temporal adapter is made of, as plain structs: what each reads and writes.
//
// csrc/mafsar/adapter_steps.h puts them in order; csrc/cpu/adapter.cpp runs them on threads and
// vector registers, csrc/cuda/adapter.cu on a GPU (bodies in csrc/device), and the tests run the
// GPU's bodies on a CPU.
#pragma once

#include "mafsar/storage.h"

namespace mafsar {
namespace MAFSAR_ISA {

// Layer norm of rows; backward, `out` is `skip` and the gradient of `x`.
template <class Value>
struct NormJob {
  const Value *x, *weight, *bias;
  const Value *grad, *skip;  // backward only
  Value* out;
  std::int64_t rows;
  int width;
  float eps;
};

template <class Value>
struct AttendJob {
  const Value* qkv;   // (clips * frames, 3 * width)
  const Value* grad;  // backward only, (clips * frames, width)
  Value* out;         // forward as `grad`, backward as `qkv`
  std::int64_t clips;
  int frames, heads, width;
};

template <class Value>
struct GeluJob {
  const Value *x, *grad;  // `grad` backward only
  Value* out;
  std::int64_t count;
};

enum class Prepare { kNothing, kNorm, kGelu };

// Entry (i, k) stands at values[i * row + k * column]; one of the strides is 1.
template <class Value>
struct Operand {
  const Value* values;
  std::int64_t row, column;
  Prepare prepare;
};

//   out(m, n) = [skip(m, n) +] [slope(hidden(m, n)) *] (sum_k f(A(m, k)) g(B(n, k)) [+ bias(n)])
//
// f is nothing, a layer norm of A's rows or the GELU; g is nothing or the GELU; slope is the
// GELU's.
template <class Value>
struct ProductJob {
  Operand<Value> a, b;
  const Value* norm_weight;  // of A's rows where they are normed
  const Value* norm_bias;
  float eps;
  const Value* bias;    // (columns) or null
  const Value* skip;    // as `out`, or null
  const Value* hidden;  // as `out`, or null
  Value* out;           // (rows, columns)
  Value* sums;          // (rows): sum over k of A(m, k), or null
  int rows, columns, depth;
};

}  // namespace MAFSAR_ISA
}  // namespace mafsar
