// The kernels of the temporal adapter as plain structs: what each of them reads and writes.
//
// csrc/mafsar/adapter_steps.h puts them in order. csrc/cpu/adapter.cpp runs them on threads and
// vector registers, csrc/cuda/adapter.cu on a GPU (bodies in csrc/device), and the tests run the
// bodies of the GPU on a CPU.
#pragma once

#include "mafsar/storage.h"

namespace mafsar {
namespace MAFSAR_ISA {

// Layer norm of rows; backward, `out` is `skip` plus the gradient of `x`.
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
  Value* out;         // shape of `grad` forward, of `qkv` backward
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

// Entry (i, k) is values[i * row + k * column]; one of the strides is 1.
template <class Value>
struct Operand {
  const Value* values;
  std::int64_t row, column;
  Prepare prepare;
};

//   out(m, n) = [skip(m, n) +] [slope(hidden(m, n)) *] (sum_k f(A(m, k)) g(B(n, k)) [+ bias(n)])
//
// f is the identity, a layer norm of A's rows or the GELU; g is the identity or the GELU; slope is
// the derivative of the GELU.
//
// `kind` says which of the adapter's products it is, because strides do not where a size is 1.
enum class ProductKind { kLinear, kGradOfInputs, kGradOfWeight };  // x Wᵀ, grad W, gradᵀ x

template <class Value>
struct ProductJob {
  ProductKind kind;
  Operand<Value> a, b;
  const Value* norm_weight;  // used if f is the layer norm
  const Value* norm_bias;
  float eps;
  const Value* bias;    // (columns) or null
  const Value* skip;    // shape of `out`, or null
  const Value* hidden;  // shape of `out`, or null
  Value* out;           // (rows, columns)
  Value* sums;          // (rows): sum over k of A(m, k), or null
  int rows, columns, depth;
};

}  // namespace MAFSAR_ISA
}  // namespace mafsar
