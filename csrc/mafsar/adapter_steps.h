// The temporal adapter as a list of kernels, products included: five forward, about nine backward.
//
// This is for the rows of a few clips, for which reading the weights once and starting kernels
// takes most of the time. More rows use a library's products (mafsar/kernels/torch_ops/adapter.py
// chooses). `Runner` starts a job: csrc/cpu/adapter.cpp on threads, csrc/cuda/adapter.cu on a
// stream.
#pragma once

#include "mafsar/adapter.h"
#include "mafsar/adapter_jobs.h"

namespace mafsar {
namespace MAFSAR_ISA {

template <class Value, class Runner>
struct AdapterSteps {
  const Runner& run;
  TokenSizes sizes;
  int hidden;
  float eps;

  int rows() const { return static_cast<int>(sizes.clips) * sizes.frames; }
  static const Value* at(const void* p) { return static_cast<const Value*>(p); }
  static Value* to(void* p) { return static_cast<Value*>(p); }

  // out (rows, outputs) = f(x) Wᵀ + b, x (rows, inputs); the caller may set more fields.
  ProductJob<Value> linear(const void* x, const void* weight, const void* bias, int inputs,
                           int outputs, void* out) const {
    ProductJob<Value> job{};
    job.kind = ProductKind::kLinear;
    job.a = {at(x), inputs, 1, Prepare::kNothing};
    job.b = {at(weight), inputs, 1, Prepare::kNothing};
    job.bias = at(bias);
    job.out = to(out);
    job.rows = rows();
    job.columns = outputs;
    job.depth = inputs;
    return job;
  }
  // out (rows, inputs) = grad W, grad (rows, outputs).
  ProductJob<Value> input_grad(const void* grad, const void* weight, int inputs, int outputs,
                               void* out) const {
    ProductJob<Value> job{};
    job.kind = ProductKind::kGradOfInputs;
    job.a = {at(grad), outputs, 1, Prepare::kNothing};
    job.b = {at(weight), 1, inputs, Prepare::kNothing};
    job.out = to(out);
    job.rows = rows();
    job.columns = inputs;
    job.depth = outputs;
    return job;
  }
  // gradᵀ f(x), and the sums of grad unless `bias` is null. The blocks of the product compute the
  // sums: without `weight` nothing is computed, and the caller has to sum.
  void weight_grad(const void* grad, const void* x, Prepare prepare, int inputs, int outputs,
                   void* weight, void* bias) const {
    if (!weight) return;
    ProductJob<Value> job{};
    job.kind = ProductKind::kGradOfWeight;
    job.a = {at(grad), 1, outputs, Prepare::kNothing};
    job.b = {at(x), 1, inputs, prepare};
    job.out = to(weight);
    job.sums = to(bias);
    job.rows = outputs;
    job.columns = inputs;
    job.depth = rows();
    run(job);
  }

  void attend(const void* grad, const void* qkv, void* out) const {
    const AttendJob<Value> job{at(qkv),      at(grad),    to(out),    sizes.clips,
                               sizes.frames, sizes.heads, sizes.width};
    run(job, grad != nullptr);
  }
  void norm(const void* grad, const void* skip, const void* x, const AdapterWeights& weights,
            void* out) const {
    const NormJob<Value> job{at(x),
                             at(weights.norm_weight),
                             at(weights.norm_bias),
                             at(grad),
                             at(skip),
                             to(out),
                             rows(),
                             sizes.width,
                             eps};
    run(job, grad != nullptr);
  }

  void forward(const void* c, const AdapterWeights& weights, const AdapterKept& kept,
               void* out) const {
    const int width = sizes.width;
    ProductJob<Value> job =
        linear(c, weights.qkv_weight, weights.qkv_bias, width, 3 * width, kept.qkv);
    job.a.prepare = Prepare::kNorm;
    job.norm_weight = at(weights.norm_weight);
    job.norm_bias = at(weights.norm_bias);
    job.eps = eps;
    run(job);
    attend(nullptr, kept.qkv, kept.mixed);
    run(linear(kept.mixed, weights.out_weight, weights.out_bias, width, width, kept.attended));
    run(linear(kept.attended, weights.down_weight, weights.down_bias, width, hidden, kept.hidden));
    job = linear(kept.hidden, weights.up_weight, weights.up_bias, hidden, width, out);
    job.a.prepare = Prepare::kGelu;
    job.skip = at(c);
    run(job);
  }

  void backward(const void* grad, const void* c, const AdapterWeights& weights,
                const AdapterKept& kept, int depth, const AdapterScratch& scratch,
                const AdapterGrads& grads) const {
    const int width = sizes.width;
    weight_grad(grad, kept.hidden, Prepare::kGelu, hidden, width, grads.up_weight, grads.up_bias);
    if (depth < 1) return;
    ProductJob<Value> job = input_grad(grad, weights.up_weight, hidden, width, scratch.hidden);
    job.hidden = at(kept.hidden);
    run(job);
    weight_grad(scratch.hidden, kept.attended, Prepare::kNothing, width, hidden, grads.down_weight,
                grads.down_bias);
    if (depth < 2) return;
    run(input_grad(scratch.hidden, weights.down_weight, width, hidden, scratch.attended));
    weight_grad(scratch.attended, kept.mixed, Prepare::kNothing, width, width, grads.out_weight,
                grads.out_bias);
    if (depth < 3) return;
    run(input_grad(scratch.attended, weights.out_weight, width, width, scratch.mixed));
    attend(scratch.mixed, kept.qkv, scratch.qkv);
    if (grads.qkv_weight) {
      norm(nullptr, nullptr, c, weights, scratch.normed);
      weight_grad(scratch.qkv, scratch.normed, Prepare::kNothing, width, 3 * width,
                  grads.qkv_weight, grads.qkv_bias);
    }
    if (depth < 4 || !grads.c) return;
    run(input_grad(scratch.qkv, weights.qkv_weight, width, 3 * width, scratch.norm_inputs));
    norm(scratch.norm_inputs, grad, c, weights, grads.c);
  }
};

}  // namespace MAFSAR_ISA
}  // namespace mafsar
