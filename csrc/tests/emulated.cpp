// The GPU's kernels on a CPU, for the tests: csrc/device on csrc/tests/emulator.h, as C functions.
//
//   g++ -std=c++17 -O1 -shared -fPIC -Icsrc csrc/tests/emulated.cpp -o libemulated.so
//
// Functions return 0, or 1 if threads waited at different barriers. `order` is an `Order`.
#include "device/match_backward.h"
#include "device/product.h"
#include "emulator.h"
#include "mafsar/adapter_steps.h"

namespace {

using namespace mafsar;
using namespace mafsar::portable;

template <class Body>
int run(Launch launch, int order, const Body& body) {
  try {
    emulate(launch, static_cast<Order>(order), body);
  } catch (const std::runtime_error&) {
    return 1;
  }
  return 0;
}

template <class Value>
const Value* values(const void* at) {
  return static_cast<const Value*>(at);
}

// Calls function(Value()) with the type of the storage.
template <class Function>
int with_storage(int storage, const Function& function) {
  switch (static_cast<Storage>(storage)) {
    case Storage::kFloat16:
      return function(Float16{});
    case Storage::kBfloat16:
      return function(Bfloat16{});
    default:
      return function(0.0f);
  }
}

// Runs a product in the form that it is launched in; or if `kind` is not negative, in the first
// form of that kind that fits: 0 for any layout, 1 streamed, 2 streamed and deep. Returns 2 if
// none.
template <class Value, class... Each>
int run_product(const ProductJob<Value>& job, int order, int kind, FormList<Each...>) {
  int status = 2;
  const auto in_form = [&](auto form) {
    using Form = decltype(form);
    status = run(launch_of<Form>(job), order,
                 [&](const FiberThread& on) { product_body(on, job, form); });
  };
  if (kind < 0) {
    with_form(job, in_form);
    return status;
  }
  const auto attempt = [&](auto form) {
    if (status != 2 || form.kIsStreamed + form.kIsDeep != kind || !fits(form, job)) return;
    in_form(form);
  };
  (attempt(Each{}), ...);
  return status;
}

// Runs the jobs of csrc/mafsar/adapter_steps.h one after the other, as a stream does.
struct InTurn {
  int order;
  int* status;

  template <class Value>
  void operator()(const NormJob<Value>& job, bool backward) const {
    *status |= run(launch_of(job), order, [&](const FiberThread& on) {
      backward ? norm_body<true>(on, job) : norm_body<false>(on, job);
    });
  }
  template <class Value>
  void operator()(const AttendJob<Value>& job, bool backward) const {
    *status |= run(launch_of(job, backward), order, [&](const FiberThread& on) {
      backward ? attend_body<true>(on, job) : attend_body<false>(on, job);
    });
  }
  template <class Value>
  void operator()(const ProductJob<Value>& job) const {
    *status |= run_product(job, order, -1, ProductForms{});
  }
};

}  // namespace

extern "C" {

int norm(int storage, int order, const void* grad, const void* skip, const void* x,
         const void* weight, const void* bias, std::int64_t rows, int width, float eps, void* out) {
  return with_storage(storage, [&](auto example) {
    using Value = decltype(example);
    const NormJob<Value> job{values<Value>(x),
                             values<Value>(weight),
                             values<Value>(bias),
                             values<Value>(grad),
                             values<Value>(skip),
                             static_cast<Value*>(out),
                             rows,
                             width,
                             eps};
    return run(launch_of(job), order, [&](const FiberThread& on) {
      if (grad) {
        norm_body<true>(on, job);
      } else {
        norm_body<false>(on, job);
      }
    });
  });
}

int attend(int storage, int order, const void* grad, const void* qkv, std::int64_t clips,
           int frames, int heads, int width, void* out) {
  return with_storage(storage, [&](auto example) {
    using Value = decltype(example);
    const AttendJob<Value> job{values<Value>(qkv),
                               values<Value>(grad),
                               static_cast<Value*>(out),
                               clips,
                               frames,
                               heads,
                               width};
    return run(launch_of(job, grad != nullptr), order, [&](const FiberThread& on) {
      if (grad) {
        attend_body<true>(on, job);
      } else {
        attend_body<false>(on, job);
      }
    });
  });
}

int gelu(int storage, int order, const void* grad, const void* x, std::int64_t count, void* out) {
  return with_storage(storage, [&](auto example) {
    using Value = decltype(example);
    const GeluJob<Value> job{values<Value>(x), values<Value>(grad), static_cast<Value*>(out),
                             count};
    return run(launch_of(job), order, [&](const FiberThread& on) {
      if (grad) {
        gelu_body<true>(on, job);
      } else {
        gelu_body<false>(on, job);
      }
    });
  });
}

// `shape`: rows, columns, depth; strides a row, a column, b row, b column; prepare of a and of b.
// `kind` as in run_product.
int product(int storage, int order, const void* a, const void* b, const void* norm_weight,
            const void* norm_bias, float eps, const void* bias, const void* skip,
            const void* hidden, const int* shape, int kind, void* out, void* sums) {
  return with_storage(storage, [&](auto example) {
    using Value = decltype(example);
    ProductJob<Value> job{};
    job.a = {values<Value>(a), shape[3], shape[4], static_cast<Prepare>(shape[7])};
    job.b = {values<Value>(b), shape[5], shape[6], static_cast<Prepare>(shape[8])};
    job.norm_weight = values<Value>(norm_weight);
    job.norm_bias = values<Value>(norm_bias);
    job.eps = eps;
    job.bias = values<Value>(bias);
    job.skip = values<Value>(skip);
    job.hidden = values<Value>(hidden);
    job.out = static_cast<Value*>(out);
    job.sums = static_cast<Value*>(sums);
    job.rows = shape[0];
    job.columns = shape[1];
    job.depth = shape[2];
    return run_product(job, order, kind, ProductForms{});
  });
}

// Forward if `grad` is null. `sizes`: clips, frames, heads, width, hidden, depth.
int adapter(int storage, int order, const void* grad, const void* c, const AdapterWeights* weights,
            const AdapterKept* kept, const int* sizes, float eps, const AdapterScratch* scratch,
            const AdapterGrads* grads, void* out) {
  return with_storage(storage, [&](auto example) {
    int status = 0;
    const InTurn runner{order, &status};
    const AdapterSteps<decltype(example), InTurn> steps{
        runner, {sizes[0], sizes[1], sizes[2], sizes[3]}, sizes[4], eps};
    if (grad) {
      steps.backward(grad, c, *weights, *kept, sizes[5], *scratch, *grads);
    } else {
      steps.forward(c, *weights, *kept, out);
    }
    return status;
  });
}

int align(int order, int metric, double lam, bool bidirectional, const float* grad,
          const float* distances, const std::int64_t* lengths, std::int64_t pairs, int rows,
          int columns, float* out) {
  const AlignJob job{
      distances, lengths, grad,    out,
      pairs,     rows,    columns, {static_cast<Metric>(metric), lam, bidirectional}};
  return run(launch_of(job, grad != nullptr), order, [&](const FiberThread& on) {
    if (grad) {
      align_body<true>(on, job);
    } else {
      align_body<false>(on, job);
    }
  });
}

// Backward, `out` is the gradient of `query`, (slices, batch, queries, rows, width). Swap the sides
// and the score strides to get that of the prototypes.
int match(int order, int metric, double lam, const float* grad, const float* query,
          const float* prototypes, const std::int64_t* query_lengths,
          const std::int64_t* prototype_lengths, std::int64_t batch, std::int64_t queries,
          std::int64_t classes, int rows, int columns, int width, std::int64_t row_stride,
          std::int64_t column_stride, int slices, float* out) {
  const MatchJob job{{query, query_lengths, queries, rows, row_stride},
                     {prototypes, prototype_lengths, classes, columns, column_stride},
                     batch,
                     width,
                     {static_cast<Metric>(metric), lam, true},
                     grad,
                     out,
                     slices};
  return run(launch_of(job, grad != nullptr), order, [&](const FiberThread& on) {
    if (grad) {
      match_backward_body(on, job);
    } else {
      match_body(on, job);
    }
  });
}

}  // extern "C"
