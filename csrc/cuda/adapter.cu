// Launchers of the temporal adapter: layer norm, attention over the frames and GELU with one warp
// per row or head (csrc/device/rows.h), products of few rows (csrc/device/product.h), and all steps
// in one call (csrc/mafsar/adapter_steps.h). Every value is read once and written once; at the
// usual sizes the launches take most of the time.
#include "cuda/threads.h"
#include "device/product.h"
#include "mafsar/adapter_steps.h"

namespace mafsar {

using namespace portable;

template <bool kBackward, class Value>
__global__ void __launch_bounds__(kRowThreads) norm_kernel(NormJob<Value> job) {
  norm_body<kBackward>(DeviceThreads{}, job);
}

template <bool kBackward, class Value>
__global__ void __launch_bounds__(kRowThreads) attend_kernel(AttendJob<Value> job) {
  attend_body<kBackward>(DeviceThreads{}, job);
}

template <bool kBackward, class Value>
__global__ void __launch_bounds__(kRowThreads) gelu_kernel(GeluJob<Value> job) {
  gelu_body<kBackward>(DeviceThreads{}, job);
}

// At least one block on a multiprocessor: without that, the compiler spills registers to save some
// for more blocks than their shared memory leaves room for (benchmarks/results/machine-code.md).
template <class Form, class Value>
__global__ void __launch_bounds__(kTileThreads, 1) product_kernel(ProductJob<Value> job) {
  product_body(DeviceThreads{}, job, Form{});
}

namespace {

struct OnStream {
  CudaStream stream;

  template <class Value>
  void operator()(const NormJob<Value>& job, bool backward) const {
    start(backward ? norm_kernel<true, Value> : norm_kernel<false, Value>, launch_of(job), job,
          stream);
  }
  template <class Value>
  void operator()(const AttendJob<Value>& job, bool backward) const {
    start(backward ? attend_kernel<true, Value> : attend_kernel<false, Value>,
          launch_of(job, backward), job, stream);
  }
  template <class Value>
  void operator()(const GeluJob<Value>& job, bool backward) const {
    start(backward ? gelu_kernel<true, Value> : gelu_kernel<false, Value>, launch_of(job), job,
          stream);
  }
  template <class Value>
  void operator()(const ProductJob<Value>& job) const {
    with_form(job, [&](auto form) {
      using Form = decltype(form);
      start(product_kernel<Form, Value>, launch_of<Form>(job), job, stream);
    });
  }
};

}  // namespace

namespace {

template <class Value, class... Each>
cudaError_t load_kernels_of(FormList<Each...>) {
  return load_kernels(norm_kernel<false, Value>, norm_kernel<true, Value>,
                      attend_kernel<false, Value>, attend_kernel<true, Value>,
                      gelu_kernel<false, Value>, gelu_kernel<true, Value>,
                      product_kernel<Each, Value>...);
}

}  // namespace

cudaError_t load_adapter_kernels() {
  cudaError_t status = load_kernels_of<float>(ProductForms{});
  if (status == cudaSuccess) status = load_kernels_of<Float16>(ProductForms{});
  if (status == cudaSuccess) status = load_kernels_of<Bfloat16>(ProductForms{});
  return status;
}

void norm_rows_cuda(Storage storage, const void* grad, const void* skip, const void* x,
                    const void* weight, const void* bias, std::int64_t rows, int width, float eps,
                    void* out, CudaStream stream) {
  with_storage(storage, [&](auto example) {
    using Value = decltype(example);
    const auto at = [](const void* p) { return static_cast<const Value*>(p); };
    const NormJob<Value> job{at(x),    at(weight), at(bias),
                             at(grad), at(skip),   static_cast<Value*>(out),
                             rows,     width,      eps};
    OnStream{stream}(job, grad != nullptr);
  });
}

void attend_cuda(Storage storage, const void* grad, const void* qkv, TokenSizes sizes, void* out,
                 CudaStream stream) {
  with_storage(storage, [&](auto example) {
    using Value = decltype(example);
    const AttendJob<Value> job{static_cast<const Value*>(qkv),
                               static_cast<const Value*>(grad),
                               static_cast<Value*>(out),
                               sizes.clips,
                               sizes.frames,
                               sizes.heads,
                               sizes.width};
    OnStream{stream}(job, grad != nullptr);
  });
}

void gelu_cuda(Storage storage, const void* grad, const void* x, std::int64_t count, void* out,
               CudaStream stream) {
  with_storage(storage, [&](auto example) {
    using Value = decltype(example);
    const GeluJob<Value> job{static_cast<const Value*>(x), static_cast<const Value*>(grad),
                             static_cast<Value*>(out), count};
    OnStream{stream}(job, grad != nullptr);
  });
}

void adapter_cuda(Storage storage, const void* c, const AdapterWeights& weights, TokenSizes sizes,
                  int hidden, float eps, const AdapterKept& kept, void* out, CudaStream stream) {
  const OnStream runner{stream};
  with_storage(storage, [&](auto example) {
    const AdapterSteps<decltype(example), OnStream> steps{runner, sizes, hidden, eps};
    steps.forward(c, weights, kept, out);
  });
}

void adapter_backward_cuda(Storage storage, const void* grad, const void* c,
                           const AdapterWeights& weights, const AdapterKept& kept, TokenSizes sizes,
                           int hidden, float eps, int depth, const AdapterScratch& scratch,
                           const AdapterGrads& grads, CudaStream stream) {
  const OnStream runner{stream};
  with_storage(storage, [&](auto example) {
    const AdapterSteps<decltype(example), OnStream> steps{runner, sizes, hidden, eps};
    steps.backward(grad, c, weights, kept, depth, scratch, grads);
  });
}

}  // namespace mafsar
